//! persist: a durable record of job states and VM life-cycle events for CI orchestrators, on Postgres, SQLite or memory.
//!
//! Order never matters: late, repeated and racing updates of one job end in the same rows and the same history (see
//! [`PersistBackend`]). An orchestrator calls two hooks and needs no other code for it:
//!
//! ```
//! use persist::{JobState, JobUpdate, Persist, VmState, VmUpdate};
//! # async fn example(id: uuid::Uuid) -> persist::Result<()> {
//! let persist = Persist::new(std::env::var("DATABASE_URL").ok()).await?;
//! let queued = JobUpdate::new(id, JobState::Queued).repo_url("https://example.org/acme/app.git").commit_sha("3f2a9c");
//! persist.record_job_state(queued).await?;
//! persist.record_vm_event(VmUpdate::new(id, "vm-7", VmState::Prepared).backend("libvirt")).await?;
//! persist.close().await?;
//! # Ok(()) }
//! ```
//!
//! Without a URL this does nothing, at once; with a database that is away it drops and counts the updates, says so loudly, and
//! turns itself on when the database answers.
//!
//! # Recipes
//!
//! **History is not optional.** [`Persist::builder`] waits for the database, then retries each call:
//!
//! ```
//! # use std::time::Duration;
//! use persist::{OnUnavailable, Persist};
//! # async fn example() -> persist::Result<()> {
//! let within = Duration::from_secs(60);
//! let persist = Persist::builder(std::env::var("DATABASE_URL").ok())
//!     .on_unavailable(OnUnavailable::Retry { within })
//!     .actor("orchestrator-1")
//!     .connect()
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! - **Nothing may be lost, and nothing may wait**: [`OnUnavailable::Spool`] keeps updates in a file while the database is away.
//! - **What is running?** [`Persist::jobs`] with [`JobQuery::states`]. An error is never an empty list, so a reaper may act on an
//!   empty one; [`Persist::keep_alive`] and [`Persist::recover`] are for what a crash left running.
//! - **A job runs again**: the next attempt, `JobUpdate::new(id, JobState::Queued).attempt(2)`. Nothing is ever overwritten; a
//!   second ending of one attempt is [`Outcome::Refused`], which is a report and no error.
//! - **How is it going?** A recorder that is installed before the store is opened gets [`metrics`]; spans are at DEBUG, slow calls
//!   ([`Builder::slow_after`]) at WARN; [`Persist::mode_changes`] and [`Persist::health`] tell of the database, and
//!   [`Persist::watch`] of every slot that is claimed or filled.
//! - **A store of one's own**: [`Persist::builder_over`]; **for tests**: `memory:`, or `memory:name` to share one.

mod alive;
mod attempts;
mod builder;
mod connector;
mod heal;
mod persist;
mod powers;
mod recover;
mod refusals;
mod retention;
mod schema;
mod scheme;
pub mod shown;
mod spool;
mod switch;
#[cfg(all(test, feature = "memory"))]
mod tests;
mod watch;

pub use alive::Alive;
pub use builder::{Builder, OnUnavailable};
pub use persist::Persist;
pub use persist_core::*;
#[cfg(feature = "spool")]
pub use persist_sqlite::{OutboxConfig, SqliteOutbox};
pub use recover::{Recovered, Recovery};
pub use retention::{RETENTION_ACTOR, Retention, RetentionTask};
pub use scheme::{OpenOptions, open};
#[cfg(feature = "spool")]
pub use spool::Spool;
pub use spool::{Replayed, WhenFull, replay};
pub use watch::{ChangeBatch, WatchFrom, WatchQuery, Watching};
