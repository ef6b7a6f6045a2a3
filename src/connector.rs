//! From nothing to a driver that can be used: opened, and its schema brought up or checked.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use persist_core::{DbUrl, Error, PersistBackend, Result};
use tokio::time::timeout;

use crate::scheme::{self, OpenOptions};

/// Opens a driver; a trait so that tests can decide when that works.
#[async_trait]
pub(crate) trait Open: Debug + Send + Sync {
    async fn open(&self) -> Result<Arc<dyn PersistBackend>>;
}

/// Where a URL points.
#[derive(Debug)]
pub(crate) struct Location {
    pub(crate) url: DbUrl,
    pub(crate) options: OpenOptions,
}

#[async_trait]
impl Open for Location {
    async fn open(&self) -> Result<Arc<dyn PersistBackend>> {
        scheme::open(&self.url, &self.options).await
    }
}

/// What an embedder has opened.
#[derive(Debug)]
pub(crate) struct Brought(pub(crate) Arc<dyn PersistBackend>);

#[async_trait]
impl Open for Brought {
    async fn open(&self) -> Result<Arc<dyn PersistBackend>> {
        Ok(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) open: Arc<dyn Open>,
    /// Name of the backend, also while there is no driver.
    pub(crate) name: &'static str,
    pub(crate) has_schema: bool,
    pub(crate) migrate: bool,
    /// Whether opening again finds the same rows.
    pub(crate) lasting: bool,
    /// Whether a driver that was in use and stays dead gives way to a new one. SQLite opens its own connections again
    /// where that is safe: while a file is not where it was, what is at its path is not it.
    pub(crate) reopens: bool,
    pub(crate) within: Duration,
}

impl Connector {
    /// A driver that is ready for use. Only the opening counts against the connect deadline: a wait for
    /// another instance's migration has the driver's own.
    pub(crate) async fn connect(&self, at_most: Duration) -> Result<Arc<dyn PersistBackend>> {
        let within = self.within.min(at_most);
        let opened = timeout(within, self.open.open()).await;
        let driver = opened.unwrap_or_else(|_| Err(Error::deadline("connect", within)))?;
        if let Err(error) = self.prepare(&*driver).await {
            // What can't be opened anew may yet be used when it is tried again.
            if self.lasting {
                // What it could not be used for matters; a second error of letting go does not.
                let _ = driver.close().await;
            }
            return Err(error);
        }
        Ok(driver)
    }

    async fn prepare(&self, driver: &dyn PersistBackend) -> Result<()> {
        let Some(schema) = driver.schema() else {
            return Ok(());
        };
        if !self.migrate {
            return schema.check().await;
        }
        let applied = schema.up().await?;
        if !applied.is_empty() {
            tracing::info!(migrations = ?applied, "the database was migrated");
        }
        Ok(())
    }

    /// A driver that works again: the one that rests, or a new one where that stays dead.
    pub(crate) async fn revive(
        &self,
        resting: Option<Arc<dyn PersistBackend>>,
    ) -> Result<Arc<dyn PersistBackend>> {
        if let Some(driver) = resting {
            match probe(&*driver).await {
                Ok(()) => return Ok(driver),
                Err(error) if !self.reopens => return Err(error),
                Err(_) => {}
            }
        }
        self.connect(Duration::MAX).await
    }
}

async fn probe(driver: &dyn PersistBackend) -> Result<()> {
    driver.health().await?;
    match driver.schema() {
        Some(schema) => schema.check().await,
        None => Ok(()),
    }
}
