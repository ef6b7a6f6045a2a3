//! How long each kind of call may take.

use std::time::Duration;

use tokio::time::Instant;

/// Deadlines of every call. The defaults are those of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deadlines {
    /// To connect: 10 s. What migrating takes beyond it, its waiting included, is bounded by `migration`.
    pub connect: Duration,
    /// For each chunk of at most [`CHUNK`] updates, and for each prune: 10 s.
    pub write: Duration,
    /// For each read: 5 s.
    pub read: Duration,
    /// For `health`: 2 s.
    pub health: Duration,
    /// To wait for another process that migrates: 60 s.
    pub migration: Duration,
}

impl Deadlines {
    /// For `close`: until every call that was accepted has ended by its own deadline, and as long as `health` may take
    /// to let go.
    pub fn close(&self) -> Duration {
        let longest = self.write.max(self.read).max(self.health);
        longest.saturating_add(self.health)
    }
}

/// The longest time that is counted; `Duration::MAX`, meaning for ever, is more than an [`Instant`] can hold.
pub(crate) const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 3_600);

/// When what begins now ends. For backends and layers.
pub fn end_of(within: Duration) -> Instant {
    Instant::now() + within.min(LONGEST)
}

/// Most updates of one statement or transaction.
pub const CHUNK: usize = 512;

/// Most batches of updates in the air at once, each on a connection that nothing else takes.
pub const FLUSHERS: usize = 4;

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            write: Duration::from_secs(10),
            read: Duration::from_secs(5),
            health: Duration::from_secs(2),
            migration: Duration::from_secs(60),
        }
    }
}
