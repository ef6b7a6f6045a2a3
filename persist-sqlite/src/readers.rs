//! Connections that read, each call on a thread where waiting for the disk holds nobody up.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use persist_core::metrics::PoolMeter;
use persist_core::{Error, ErrorKind, Result};
use rusqlite::Connection;
use tokio::sync::Semaphore;
use tokio::time::timeout_at;

use crate::connection::{Role, Source};
use crate::error::{Failed, Phase};
use crate::session::Session;
use crate::worker::closed;

/// A bounded number of connections, made when they are needed.
#[derive(Debug)]
pub(crate) struct Readers {
    source: Source,
    size: usize,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Session>>>,
    meter: PoolMeter,
}

impl Readers {
    pub(crate) fn new(source: Source, size: usize) -> Self {
        Self {
            source,
            size,
            permits: Arc::new(Semaphore::new(size)),
            idle: Arc::default(),
            meter: PoolMeter::new("sqlite", "reads", size),
        }
    }

    /// Runs work on one of them. A caller that goes away leaves the connection in order.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        until: Instant,
        work: impl FnOnce(&Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T> {
        self.in_role(Role::Reader, until, work).await
    }

    /// Runs work on a connection that may write, made for it, in the place of one of them: for what the writer need not wait for.
    pub(crate) async fn beside_the_writer<T: Send + 'static>(
        &self,
        until: Instant,
        work: impl FnOnce(&Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T> {
        self.in_role(Role::Writer, until, work).await
    }

    async fn in_role<T: Send + 'static>(
        &self,
        role: Role,
        until: Instant,
        work: impl FnOnce(&Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T> {
        let waiter = self.meter.waiter();
        let permit = match timeout_at(until.into(), Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(closed()),
            Err(_) => {
                let (size, waiting) = (self.size, self.meter.waiters());
                let what = format!(
                    "no connection became free in time: {size} readers, all in use, {waiting} waiting"
                );
                let error = Error::new(ErrorKind::Busy, what);
                return Err(error.with("readers", size).with("waiting", waiting));
            }
        };
        drop(waiter);
        let in_use = self.meter.in_use();
        let (source, idle) = (self.source.clone(), Arc::clone(&self.idle));
        let task = tokio::task::spawn_blocking(move || {
            // Given back last, when the connection is.
            let _permit = (in_use, permit);
            let ready = idle.lock().pop_if(|_| role == Role::Reader);
            let mut session = match ready {
                Some(session) => session,
                None => {
                    Session::open(&source, role, until).map_err(|failed| failed.classified(Phase::Open))?
                }
            };
            let result = session.read(until, work);
            if role == Role::Reader && !session.is_spoiled {
                idle.lock().push(session);
            }
            result
        });
        match timeout_at(until.into(), task).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::new(
                ErrorKind::Internal,
                "the read ended before its answer came",
            )),
            Err(_) => Err(Error::new(ErrorKind::Timeout, "no answer in time")),
        }
    }

    /// Lets accepted calls finish, and closes.
    pub(crate) async fn close(&self) {
        // An error means that somebody else closed it.
        let _all = self
            .permits
            .acquire_many(u32::try_from(self.size).unwrap_or(u32::MAX))
            .await;
        self.permits.close();
        self.idle.lock().clear();
        self.meter.close();
    }
}
