//! Where updates wait that the database could not take.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::claim::Claim;
use crate::error::{Error, Result};
use crate::jsonl;
use crate::time::{self, FixedClock, Timestamp};

/// A durable queue of claims in front of a database that is away.
///
/// What was pushed with `Ok` is there after any crash, and stays until somebody says that it is `done`: it may be
/// replayed twice, and slots make that harmless. It belongs to one database: that which it was bound to first.
///
/// Every call ends in bounded time, and is safe to drop: what it was about may have happened.
#[async_trait]
pub trait Outbox: Debug + Send + Sync + 'static {
    /// Keeps claims, all of them or none. `now` is the time from which their age counts.
    ///
    /// # Errors
    /// `Full` when there is no room for them, by the bound that was set or on the disk; `Closed` after close; whatever
    /// the disk says.
    async fn push(&self, claims: &[Claim], now: Timestamp) -> Result<()>;

    /// At most `limit` entries that wait, behind this number, in their order. The first number is 1.
    ///
    /// # Errors
    /// Whatever the disk says.
    async fn waiting(&self, after: u64, limit: u32) -> Result<Vec<Entry>>;

    /// The same of those that no database can take.
    ///
    /// # Errors
    /// Whatever the disk says.
    async fn dead(&self, after: u64, limit: u32) -> Result<Vec<Entry>>;

    /// Removes entries that the database has.
    ///
    /// # Errors
    /// Whatever the disk says.
    async fn done(&self, entries: &[u64]) -> Result<()>;

    /// Notes that a replay of these failed. They go on waiting.
    ///
    /// # Errors
    /// Whatever the disk says.
    async fn failed(&self, entries: &[u64], error: &Error) -> Result<()>;

    /// Puts an entry aside that no database can take, for a person to look at.
    ///
    /// # Errors
    /// Whatever the disk says.
    async fn bury(&self, entry: u64, error: &Error) -> Result<()>;

    /// Removes what was put aside; how many.
    ///
    /// # Errors
    /// Whatever the disk says.
    async fn discard_dead(&self) -> Result<u64>;

    /// Makes it belong to this store: at first contact, and at any time when nothing waits.
    ///
    /// # Errors
    /// `Unavailable`, with the context `bound_to`, when something waits for another store.
    async fn bind(&self, store: Uuid) -> Result<()>;

    /// What it holds now. Costs nothing.
    fn status(&self) -> OutboxStatus;

    /// Lets accepted calls finish and lets go of the file, which keeps what it holds.
    async fn close(&self);
}

/// One claim that waits, or that was put aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Entry {
    /// Its number: ascending, never used again.
    pub seq: u64,
    /// The claim, as a line of the exchange format.
    pub line: String,
    /// Since when it waits.
    #[serde(with = "time::rfc3339")]
    pub created_at: Timestamp,
    /// Replays that failed.
    pub attempts: u32,
    /// Why the last one did.
    pub last_error: Option<String>,
}

impl Entry {
    /// An entry that was not tried yet. For outboxes.
    pub fn new(seq: u64, line: String, created_at: Timestamp) -> Self {
        Self {
            seq,
            line,
            created_at,
            attempts: 0,
            last_error: None,
        }
    }

    /// The claim.
    ///
    /// # Errors
    /// `InvalidInput` for a line that this program can't read: a newer one wrote it, or a person.
    pub fn claim(&self) -> Result<Claim> {
        jsonl::parse(&self.line)?.check(&FixedClock(self.created_at))
    }
}

/// What an outbox holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OutboxStatus {
    /// Entries that wait.
    pub waiting: u64,
    /// Since when the oldest of them waits.
    #[serde(with = "time::rfc3339::option")]
    pub oldest: Option<Timestamp>,
    /// Entries that were put aside.
    pub dead: u64,
    /// Bytes of both.
    pub bytes: u64,
    /// The bound of these bytes; `None` where nobody is set to write.
    pub max_bytes: Option<u64>,
    /// The store that the entries belong to; `None` before the first contact.
    pub bound_to: Option<Uuid>,
}
