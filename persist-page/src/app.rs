//! What every handler has.

use std::sync::Arc;

use persist::{Cursor, Persist, PersistBackend, Timestamp};
use tokio::sync::Semaphore;

use crate::options::Options;

#[derive(Debug, Clone)]
pub(crate) struct App(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) persist: Persist,
    pub(crate) backend: Arc<dyn PersistBackend>,
    pub(crate) options: Options,
    /// Of live streams.
    pub(crate) seats: Arc<Semaphore>,
    /// Of other requests.
    pub(crate) places: Arc<Semaphore>,
}

impl std::ops::Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl App {
    pub(crate) fn new(persist: Persist, options: Options) -> Self {
        Self(Arc::new(Inner {
            backend: persist.backend(),
            seats: Arc::new(Semaphore::new(options.subscribers)),
            places: Arc::new(Semaphore::new(options.requests)),
            persist,
            options,
        }))
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    /// Why there is no live stream, where all of them are taken.
    pub(crate) fn no_seat(&self) -> String {
        let most = self.options.subscribers;
        format!("{most} live streams are open, as many as there may be")
    }

    /// From where a page that is made now is to be followed; `None` where it can't be. Asked before the page reads, so that what
    /// comes meanwhile is told.
    pub(crate) async fn followed_from(&self) -> Option<Cursor> {
        match self.backend.changes()?.now().await {
            Ok(place) => Some(place.cursor()),
            Err(error) => {
                tracing::debug!(%error, "a page is not live");
                None
            }
        }
    }
}
