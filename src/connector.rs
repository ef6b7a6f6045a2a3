//! From nothing to a driver that can be used: opened, and its schema brought up or checked.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use persist_core::{DbUrl, Error, Outbox, PersistBackend, Result};
use tokio::time::timeout;

use crate::powers::Powers;
use crate::scheme::{self, OpenOptions};
use crate::spool::{Met, identify};

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
    /// What the driver can do, also while there is none.
    pub(crate) powers: Powers,
    pub(crate) migrate: bool,
    /// Whether opening again finds the same rows.
    pub(crate) lasting: bool,
    /// Whether a driver that was in use and stays dead gives way to a new one. SQLite opens its own connections again
    /// where that is safe: while a file is not where it was, what is at its path is not it.
    pub(crate) reopens: bool,
    pub(crate) within: Duration,
    /// What belongs to the database, and to no other.
    pub(crate) outbox: Option<Arc<dyn Outbox>>,
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
        if let Some(schema) = driver.schema() {
            if self.migrate {
                match schema.up().await {
                    Ok(applied) if applied.is_empty() => {}
                    Ok(applied) => tracing::info!(migrations = ?applied, "the database was migrated"),
                    // Who may not change tables need not where all that is missing is optional.
                    Err(error) if schema.check().await.is_ok() => {
                        tracing::warn!(%error, "the schema could not be brought up and is used as it is; run persist migrate up");
                    }
                    Err(error) => return Err(error),
                }
            } else {
                schema.check().await?;
            }
        }
        self.identify(driver).await
    }

    /// Whether the database is the one that what waits in the spool belongs to.
    async fn identify(&self, driver: &dyn PersistBackend) -> Result<()> {
        let Some(outbox) = &self.outbox else {
            return Ok(());
        };
        match identify(&**outbox, driver).await {
            Ok(()) => Ok(()),
            Err(Met::Database(error)) => Err(error),
            Err(Met::Spool(error)) => {
                // A database that can be written is not to suffer for a spool that can't; the first replay binds it.
                tracing::error!(kind = error.kind().name(), %error, "the spool could not be bound to the database");
                Ok(())
            }
        }
    }

    /// A driver that works again: the one that rests, or a new one where that stays dead.
    pub(crate) async fn revive(
        &self,
        resting: Option<Arc<dyn PersistBackend>>,
    ) -> Result<Arc<dyn PersistBackend>> {
        if let Some(driver) = resting {
            match self.probe(&*driver).await {
                Ok(()) => return Ok(driver),
                Err(error) if !self.reopens => return Err(error),
                Err(_) => {}
            }
        }
        self.connect(Duration::MAX).await
    }

    async fn probe(&self, driver: &dyn PersistBackend) -> Result<()> {
        driver.health().await?;
        if let Some(schema) = driver.schema() {
            schema.check().await?;
        }
        self.identify(driver).await
    }
}
