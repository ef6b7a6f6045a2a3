//! The conformance suite of persist: the contract of [`PersistBackend`](persist_core::PersistBackend) as a table
//! of named cases that any backend, and any layer over one, can be held to.
//!
//! Each of [`cases`] checks one clause on a fresh store, and after every case each row must be the fold of its
//! history. A store is made by a [`Factory`]; everything else is the suite's. A backend of your
//! own needs this as a test target with `harness = false`:
//!
//! ```no_run
//! use persist_memory::MemoryBackend as Mine;
//! use persist_tests::factory::{Factory, Store};
//!
//! struct Fresh;
//!
//! #[async_trait::async_trait]
//! impl Factory for Fresh {
//!     fn name(&self) -> String {
//!         "mine".into()
//!     }
//!     async fn fresh(&self) -> persist_core::Result<Store> {
//!         Ok(Store::new(std::sync::Arc::new(Mine::new())))
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     persist_tests::run(Fresh)
//! }
//! ```
//!
//! Beside the cases each kind of store runs through random schedules of calls and faults for two seconds ([`schedule`]).
//! It takes the arguments of every Rust test: `cargo test --test conformance -- late` runs the cases with that
//! word in their name. A store that can have two handles, or outlives them, says so with
//! [`Store::another`](factory::Store::another) and [`Store::survives_close`](factory::Store::survives_close);
//! what can't be asked of it is shown as ignored, with the reason.
//!
//! Beside the suite are the tools of the project's other tests: servers ([`cluster`]), places for stores
//! ([`place`]), child processes ([`process`]) and a network that fails ([`proxy`]).

pub mod broken;
pub mod case;
mod cases;
pub mod cluster;
pub mod contention;
pub mod factory;
mod frames;
pub mod fuzz;
pub mod lines;
mod oracle;
pub mod place;
pub mod polls;
pub mod pooler;
pub mod process;
pub mod proxy;
pub mod retold;
pub mod sample;
pub mod schedule;
pub mod seed;
pub mod server;
pub mod shape;
pub mod soak;
pub mod stores;
pub mod strategy;
mod suite;
pub mod trace;
pub mod walk;
pub mod whole;

pub use factory::{Factory, Store};
pub use suite::{LIMIT, Verdict, cases, check, check_within, run, run_all};
