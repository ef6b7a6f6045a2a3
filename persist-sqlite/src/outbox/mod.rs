//! A file of updates that wait for a database: the spool.
//!
//! One process has it at a time (`lock`), on one connection, whose thread commits the updates of all who wait in one
//! transaction, as for a store (`keep`). What the file holds is in `table`.

mod keep;
mod lock;
mod table;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use persist_core::{
    CHUNK, Claim, Deadlines, Entry, Error, ErrorKind, Outbox, OutboxStatus, Result, SqliteMode, Timestamp,
    UpdateOutcome, jsonl,
};
use rusqlite::Connection;
use uuid::Uuid;

use self::keep::{Held, Keeping, Lines};
use self::lock::Lock;
use crate::connection::{Holds, Source};
use crate::error::Failed;
use crate::readers::Readers;
use crate::session::end_of;
use crate::worker::{Times, Worker};

/// How a spool is opened.
#[derive(Debug, Clone)]
pub struct OutboxConfig {
    path: PathBuf,
    max_bytes: u64,
    create: bool,
    deadlines: Deadlines,
}

impl OutboxConfig {
    /// This file, made with mode 0600 where it is missing, for at most 1 GiB of updates, with the contract's deadlines.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            max_bytes: 1 << 30,
            create: true,
            deadlines: Deadlines::default(),
        }
    }

    /// Most bytes of what it holds, what was put aside included. The file is a little larger, and keeps its size; its
    /// log has some MiB beside it.
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Whether a missing file is made; it is unless set.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Deadlines of every call.
    #[must_use]
    pub fn deadlines(mut self, deadlines: Deadlines) -> Self {
        self.deadlines = deadlines;
        self
    }
}

/// Updates that wait for a database, in a SQLite file of their own. `Ok` from `push` means that they are on the disk.
#[derive(Debug)]
pub struct SqliteOutbox {
    way: Way,
    held: Arc<Held>,
    deadlines: Deadlines,
}

#[derive(Debug)]
enum Way {
    /// Alone with it.
    Owning(Worker<Keeping>),
    /// Beside whoever has it.
    Looking(Readers),
}

impl SqliteOutbox {
    /// Opens a file that no other process has, and makes it where that is wanted.
    ///
    /// # Errors
    /// `Busy` for a file that a running process has, naming it; `SchemaMismatch` for another program's file, which is
    /// left as it is, and for one that a newer persist wrote; `Unavailable` for a missing one that may not be made;
    /// `Corrupt`, `ReadOnly` and `InvalidUrl` as a store has them.
    ///
    /// ```
    /// use persist_core::Outbox as _;
    /// use persist_sqlite::{OutboxConfig, SqliteOutbox};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> persist_core::Result<()> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// let outbox = SqliteOutbox::open(OutboxConfig::new(folder.path().join("spool.db"))).await?;
    /// assert_eq!(outbox.status().waiting, 0);
    /// outbox.close().await;
    /// # Ok(()) }
    /// ```
    pub async fn open(config: OutboxConfig) -> Result<Self> {
        Self::owning(config)
            .await
            .map_err(|error| error.during("open spool"))
    }

    async fn owning(config: OutboxConfig) -> Result<Self> {
        let mode = if config.create {
            SqliteMode::Create
        } else {
            SqliteMode::ReadWrite
        };
        let deadlines = config.deadlines;
        let path = config.path.clone();
        let taken = blocking(move || {
            let source = Source::locate(&path, mode, Holds::Outbox)?;
            let lock = Lock::take(named(&source)?)?;
            Ok((source, lock))
        });
        let (source, lock) = taken.await?;
        let held = Arc::new(Held::new(config.max_bytes));
        let keeping = Keeping::new(Arc::clone(&held), lock);
        let worker = Worker::start(source, Arc::new(keeping), deadlines.connect).await?;
        let times = Times {
            end: end_of(COUNTING),
            ..Times::within(deadlines.connect)
        };
        let status = worker.write(times, table::prepare).await?;
        held.set(status);
        Ok(Self {
            way: Way::Owning(worker),
            held,
            deadlines,
        })
    }

    /// Opens a file to look at it, also while a running process has it; nothing can be changed. With the words for
    /// that process, if there is one.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for the lock.
    pub async fn look(path: impl Into<PathBuf>) -> Result<(Self, Option<String>)> {
        Self::looking(path.into())
            .await
            .map_err(|error| error.during("open spool"))
    }

    async fn looking(path: PathBuf) -> Result<(Self, Option<String>)> {
        let deadlines = Deadlines::default();
        let found = blocking(move || {
            let source = Source::locate(&path, SqliteMode::ReadOnly, Holds::Outbox)?;
            let holder = Lock::holder(named(&source)?)?;
            Ok((source, holder))
        });
        let (source, holder) = found.await?;
        let readers = Readers::new(source, 1);
        let held = Arc::new(Held::new(0));
        held.set(readers.run(end_of(COUNTING), table::examine).await?);
        let outbox = Self {
            way: Way::Looking(readers),
            held,
            deadlines,
        };
        Ok((outbox, holder))
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T> {
        let until = end_of(self.deadlines.read);
        let result = match &self.way {
            Way::Owning(worker) => worker.read(until, work).await,
            Way::Looking(readers) => readers.run(until, work).await,
        };
        result.map_err(|error| error.during("read spool"))
    }

    /// Runs work in a transaction, and counts after its commit, on the thread, so that no other commit comes between.
    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<(T, table::Change), Failed> + Send + 'static,
    ) -> Result<T> {
        let Way::Owning(worker) = &self.way else {
            let what = "the spool was opened to be looked at";
            return Err(Error::new(ErrorKind::ReadOnly, what).during("write spool"));
        };
        let times = Times::within(self.deadlines.write);
        let held = Arc::clone(&self.held);
        let changed = worker.run(times.end, move |session| {
            match session.write(times.lock, times.end, work) {
                Ok((value, change)) => {
                    held.change(&session.connection, &change);
                    Ok(value)
                }
                Err(error) => {
                    if error.outcome() == UpdateOutcome::Unknown {
                        held.doubt();
                    }
                    Err(error)
                }
            }
        });
        changed.await.map_err(|error| error.during("write spool"))
    }

    /// Runs a statement on the connection that writes.
    #[cfg(test)]
    async fn pragma(&self, name: &'static str, value: u32) -> Result<()> {
        self.read(move |connection| {
            connection.pragma_update_and_check(None, name, value, |_| Ok(()))?;
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Outbox for SqliteOutbox {
    async fn push(&self, claims: &[Claim], now: Timestamp) -> Result<()> {
        let Way::Owning(worker) = &self.way else {
            let what = "the spool was opened to be looked at";
            return Err(Error::new(ErrorKind::ReadOnly, what).during("spool"));
        };
        for (n, chunk) in claims.chunks(CHUNK).enumerate() {
            let lines: Vec<_> = chunk.iter().map(jsonl::claim_line).collect();
            let pushed = match Lines::reserve(&self.held, lines, now) {
                Ok(lines) => worker.flush(lines, Times::within(self.deadlines.write)).await,
                Err(error) => Err(error),
            };
            pushed.map_err(|error| error.during("spool").of_chunk(n))?;
        }
        Ok(())
    }

    async fn waiting(&self, after: u64, limit: u32) -> Result<Vec<Entry>> {
        self.read(move |connection| table::entries(connection, table::WAITING, after, limit))
            .await
    }

    async fn dead(&self, after: u64, limit: u32) -> Result<Vec<Entry>> {
        self.read(move |connection| table::entries(connection, table::DEAD, after, limit))
            .await
    }

    async fn done(&self, entries: &[u64]) -> Result<()> {
        let entries = entries.to_vec();
        self.change(move |connection| Ok(((), table::remove(connection, &entries)?)))
            .await
    }

    async fn failed(&self, entries: &[u64], error: &Error) -> Result<()> {
        let (entries, told) = (entries.to_vec(), told(error));
        self.change(move |connection| {
            table::note(connection, &entries, &told)?;
            Ok(((), table::Change::default()))
        })
        .await
    }

    async fn bury(&self, entry: u64, error: &Error) -> Result<()> {
        let told = told(error);
        self.change(move |connection| Ok(((), table::bury(connection, entry, &told)?)))
            .await
    }

    async fn discard_dead(&self) -> Result<u64> {
        self.change(table::discard_dead).await
    }

    async fn bind(&self, store: Uuid) -> Result<()> {
        if self.held.status().bound_to == Some(store) {
            return Ok(());
        }
        self.change(move |connection| Ok(((), table::bind(connection, store)?)))
            .await
    }

    fn status(&self) -> OutboxStatus {
        self.held.status()
    }

    async fn close(&self) {
        match &self.way {
            Way::Owning(worker) => worker.close().await,
            Way::Looking(readers) => readers.close().await,
        }
    }
}

/// An error as the file keeps it: its kind, and its text, which holds no value of anybody's.
fn told(error: &Error) -> String {
    format!("{}: {error}", error.kind().name())
}

fn named(source: &Source) -> Result<&Path> {
    source
        .path()
        .ok_or_else(|| Error::new(ErrorKind::InvalidUrl, "a spool needs a file"))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let ended = |_| Err(Error::new(ErrorKind::Internal, "the runtime goes away"));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(ended)
}

/// How long counting what a file holds may take when it is opened: a large one on a slow disk is read once as a whole.
const COUNTING: Duration = Duration::from_secs(600);

/// How long a lock is waited for: whoever only looks has it for a moment.
const PATIENCE: Duration = Duration::from_secs(1);
