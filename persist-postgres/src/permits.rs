//! How many connections one sort of work may use at once.

use std::sync::Arc;

use persist_core::{Error, ErrorKind, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

pub(crate) struct Permits {
    size: usize,
    permits: Arc<Semaphore>,
}

impl Permits {
    pub(crate) fn new(size: usize) -> Self {
        Self {
            size,
            permits: Arc::new(Semaphore::new(size)),
        }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// # Errors
    /// `Busy` where none became free in time, `Closed` after `close`.
    pub(crate) async fn take(&self, end: Instant) -> Result<OwnedSemaphorePermit> {
        match timeout_at(end, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(permit) => permit.map_err(|_| closed()),
            Err(_) => {
                let what = format!(
                    "no connection became free in time: pool of {}, all in use",
                    self.size
                );
                Err(Error::new(ErrorKind::Busy, what).with("pool", self.size))
            }
        }
    }

    /// Waits for all that is in use. Every call ends by its deadline, so this does too.
    pub(crate) async fn close(&self) {
        // An error means that somebody else closed it.
        let _all = self
            .permits
            .acquire_many(u32::try_from(self.size).unwrap_or(u32::MAX))
            .await;
        self.permits.close();
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the backend was closed")
}
