//! The Postgres backend of persist.
//!
//! [`PostgresBackend`] keeps the contract of [`PersistBackend`](persist_core::PersistBackend). A batch is
//! merged by one statement (`statements`), planned by a pure function (`waves`); rows are decoded by the SeaORM
//! entities of [`job`], [`vm`] and [`event`]; reads by key that wait together go
//! together (`points`); every call, or all that go together, runs in a task of its own with its deadline inside
//! (`connection`). What a server says becomes an error in one place (`error`).

mod adopt;
mod attached;
mod backend;
mod bind;
mod changes;
mod config;
mod connection;
mod error;
pub mod event;
mod inspect;
pub mod job;
mod lane;
mod ledger;
mod lock;
mod marks;
mod merge;
mod migrate;
mod owners;
mod pgpass;
mod points;
mod prune;
mod records;
mod row;
mod seed;
mod session;
mod statements;
mod tls;
mod tries;
pub mod vm;
mod waves;

pub use backend::PostgresBackend;
pub use changes::watching_statement;
pub use config::PostgresConfig;
pub use statements::{merging_statements, reading_statements};
