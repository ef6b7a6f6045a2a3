//! What callers set.

use std::path::PathBuf;
use std::time::Duration;

use persist_core::{Deadlines, Result};
use persist_sqlite::{OutboxConfig, SqliteOutbox};

use super::{Behaviour, WhenFull};

/// A file in which updates wait while the database is away; for [`OnUnavailable::Spool`](crate::OnUnavailable::Spool).
///
/// ```
/// # use std::time::Duration;
/// use persist::{OnUnavailable, Persist, Spool, WhenFull};
/// # async fn example() -> persist::Result<()> {
/// let spool = Spool::new("/var/lib/ci/spool.db").max_bytes(256 << 20).when_full(WhenFull::Wait);
/// let persist = Persist::builder(std::env::var("DATABASE_URL").ok())
///     .on_unavailable(OnUnavailable::Spool(spool))
///     .connect()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spool {
    path: PathBuf,
    max_bytes: u64,
    max_age: Duration,
    when_full: WhenFull,
}

impl Spool {
    /// This file, made with mode 0600 where it is missing; on a disk that survives what is to be survived. One process
    /// at a time has it. At most 1 GiB, an alarm after an hour, and an error when it is full.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            max_bytes: 1 << 30,
            max_age: Duration::from_secs(3_600),
            when_full: WhenFull::default(),
        }
    }

    /// Most bytes of updates, those that were put aside included: some 300 bytes each.
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// When what waits is told as overdue, by `health` and in the log. Nothing is ever dropped for its age.
    #[must_use]
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }

    /// What becomes of updates that find no room.
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    pub(crate) fn behaviour(&self, deadlines: &Deadlines) -> Behaviour {
        Behaviour {
            max_age: self.max_age,
            when_full: self.when_full,
            patience: deadlines.write,
        }
    }

    pub(crate) async fn open(&self, deadlines: Deadlines) -> Result<SqliteOutbox> {
        let config = OutboxConfig::new(&self.path).max_bytes(self.max_bytes);
        SqliteOutbox::open(config.deadlines(deadlines)).await
    }
}
