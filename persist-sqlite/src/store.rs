//! The connections of one backend, and the ways in which calls run on them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use persist_core::{Bell, Claim, Error, ErrorKind, Outcome, Result};
use rusqlite::Connection;

use crate::config::SqliteConfig;
use crate::connection::Source;
use crate::error::Failed;
use crate::merge::Merging;
use crate::readers::Readers;
use crate::session::end_of;
use crate::worker::{Times, Worker, closed};

/// An open store.
#[derive(Debug)]
pub(crate) struct Store {
    // Dropped first: the connection that writes is to be the last one, and takes the log with it.
    /// None in memory, where everything goes to the one connection.
    readers: Option<Readers>,
    /// None where nothing may be written.
    worker: Option<Worker<Merging>>,
    /// None in memory.
    path: Option<PathBuf>,
    /// Rung after each commit of updates.
    pub(crate) bell: Bell,
    is_closed: AtomicBool,
}

impl Store {
    /// Finds the file and opens it.
    ///
    /// # Errors
    /// As [`SqliteBackend::open`](crate::SqliteBackend::open) says.
    pub(crate) async fn open(config: &SqliteConfig) -> Result<Self> {
        let url = config.url.clone();
        let found = tokio::task::spawn_blocking(move || Source::find(&url)).await;
        let source = found.map_err(|_| Error::new(ErrorKind::Internal, "the runtime goes away"))??;
        let path = source.path().map(ToOwned::to_owned);
        let merging = Arc::new(Merging::default());
        let bell = merging.bell.another();
        let worker = if source.is_read_only {
            None
        } else {
            Some(Worker::start(source.clone(), merging, config.deadlines.connect).await?)
        };
        let readers = (!source.is_memory()).then(|| Readers::new(source, config.readers));
        if let (None, Some(readers)) = (&worker, &readers) {
            // Learns early what is wrong.
            readers.run(end_of(config.deadlines.connect), |_| Ok(())).await?;
        }
        Ok(Self {
            readers,
            worker,
            path,
            bell,
            is_closed: AtomicBool::new(false),
        })
    }

    /// Whether what was acknowledged survives a crash.
    pub(crate) fn is_durable(&self) -> bool {
        self.readers.is_some()
    }

    /// The file; `None` in memory.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Whether it was opened to write.
    pub(crate) fn can_write(&self) -> bool {
        self.worker.is_some()
    }

    /// Runs work that reads.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        deadline: Duration,
        work: impl FnOnce(&Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T> {
        self.refuse_closed(operation)?;
        let until = end_of(deadline);
        let result = match (&self.readers, &self.worker) {
            (Some(readers), _) => readers.run(until, work).await,
            (None, Some(worker)) => worker.read(until, work).await,
            (None, None) => Err(closed()),
        };
        result.map_err(|error| error.during(operation))
    }

    /// Runs work in a transaction of its own.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        times: Times,
        work: impl FnOnce(&Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T> {
        self.refuse_closed(operation)?;
        let result = match &self.worker {
            Some(worker) => worker.write(times, work).await,
            None => Err(read_only()),
        };
        result.map_err(|error| error.during(operation))
    }

    /// Runs work that writes where no transaction may be open.
    pub(crate) async fn alone<T: Send + 'static>(
        &self,
        operation: &'static str,
        deadline: Duration,
        work: impl FnOnce(&Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T> {
        self.refuse_closed(operation)?;
        let result = match &self.worker {
            Some(worker) => worker.read(end_of(deadline), work).await,
            None => Err(read_only()),
        };
        result.map_err(|error| error.during(operation))
    }

    /// Runs work that writes, and that nobody who writes has to wait for. None in memory.
    pub(crate) async fn beside<T: Send + 'static>(
        &self,
        operation: &'static str,
        deadline: Duration,
        work: impl FnOnce(&Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<Option<T>> {
        self.refuse_closed(operation)?;
        let (Some(readers), Some(_)) = (&self.readers, &self.worker) else {
            return Ok(None);
        };
        let result = readers.beside_the_writer(end_of(deadline), work).await;
        result.map(Some).map_err(|error| error.during(operation))
    }

    /// Merges a chunk.
    pub(crate) async fn merge(&self, claims: Vec<Claim>, times: Times) -> Result<Vec<Outcome>> {
        match &self.worker {
            Some(worker) => worker.flush(claims, times).await,
            None => Err(read_only()),
        }
    }

    /// Commits of updates since the start, and the updates in them.
    pub(crate) fn flushed(&self) -> (u64, u64) {
        self.worker.as_ref().map_or((0, 0), Worker::flushed)
    }

    /// # Errors
    /// `Closed` after [`close`](Self::close).
    pub(crate) fn refuse_closed(&self, operation: &'static str) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) {
            Err(closed().during(operation))
        } else {
            Ok(())
        }
    }

    /// Refuses new calls, lets accepted ones finish, and closes every connection, that which writes last.
    pub(crate) async fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        if let Some(readers) = &self.readers {
            readers.close().await;
        }
        if let Some(worker) = &self.worker {
            worker.close().await;
        }
    }
}

fn read_only() -> Error {
    Error::new(ErrorKind::ReadOnly, "the store was opened with mode=ro")
}
