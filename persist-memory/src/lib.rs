//! The in-memory backend of persist: for tests, trials and runs whose history may end with the process.
//!
//! [`MemoryBackend`] keeps every clause of the contract but durability, and says so in `health().durable`.
//! It calls the pure functions of [`persist_core::merge`], which is why the suite uses it as the oracle of
//! the SQL backends.
//!
//! ```
//! use persist_core::{JobState, JobUpdate, Outcome, PersistBackend, SystemClock};
//! use persist_memory::MemoryBackend;
//! # async fn example(id: uuid::Uuid) -> persist_core::Result<()> {
//! let backend = MemoryBackend::new();
//! let claim = JobUpdate::new(id, JobState::Queued).check(&SystemClock)?;
//! assert_eq!(backend.apply(&[claim]).await?, [Outcome::Applied { created: true }]);
//! # Ok(()) }
//! ```

mod backend;
mod changes;
mod event;
mod job;
mod ledger;
mod marks;
mod owners;
mod prune;
mod state;
#[cfg(test)]
mod tests;
mod vm;

pub use backend::MemoryBackend;
