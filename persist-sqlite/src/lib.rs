//! The SQLite backend of persist.
//!
//! [`SqliteBackend`] keeps the contract of [`PersistBackend`](persist_core::PersistBackend). One thread owns the
//! connection that writes: it takes whatever is queued and merges it in one transaction, so that a commit to
//! disk is shared by all who waited for it (`worker`, `flush`, `merge`). Reads run beside it on connections of
//! their own. What SQLite says becomes an error in one place (`error`).
//!
//! `Ok` from `apply` means durable: the file is in WAL mode with `synchronous=FULL`. Where WAL is impossible,
//! as on a network file system, a warning says so and a rollback journal with `synchronous=EXTRA` is used.
//! `sqlite::memory:` is one connection, and gone with it.
//!
//! [`SqliteOutbox`] is a file of another kind: updates that wait for a database that is away.
//!
//! With `mode=ro` nothing is written to the database and nothing is migrated. SQLite still needs its `-shm` file
//! beside a database in WAL mode: one that is there, or a folder in which it may make one.

mod adopt;
mod anchor;
mod backend;
mod bind;
mod changes;
mod config;
mod connection;
mod error;
mod event;
mod flush;
mod inspect;
mod job;
mod ledger;
mod marks;
mod merge;
mod migrate;
mod outbox;
mod owners;
mod prune;
mod readers;
mod records;
mod row;
mod rows;
mod session;
mod slots;
mod space;
mod store;
mod vm;
mod worker;

#[cfg(test)]
mod tests;

pub use backend::SqliteBackend;
pub use config::SqliteConfig;
pub use outbox::{OutboxConfig, SqliteOutbox};
