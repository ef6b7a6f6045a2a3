//! The writer as a layer over a backend.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::settings::Coalesce;
use super::writer::{Sink, Writer};
use crate::backend::{Capabilities, PersistBackend};
use crate::changes::Changes;
use crate::claim::Claim;
use crate::error::Result;
use crate::event::{Event, EventQuery};
use crate::health::Health;
use crate::inspect::Inspect;
use crate::job::{Job, JobQuery};
use crate::ledger::Ledger;
use crate::marks::Marks;
use crate::outcome::Outcome;
use crate::owners::Owners;
use crate::page::Page;
use crate::prune::{Prune, Pruned};
use crate::schema::Schema;
use crate::subject::VmKey;
use crate::vm::{Vm, VmQuery};

/// A layer that applies the updates of concurrent callers together: a [`Writer`] before a backend. Everything
/// but `apply` goes straight through.
///
/// `close` refuses new updates, waits for all that were accepted, and closes the backend under it.
pub struct Coalescing<B: ?Sized> {
    writer: Writer,
    inner: Arc<Inner<B>>,
}

struct Inner<B: ?Sized>(B);

#[async_trait]
impl<B: PersistBackend> Sink for Inner<B> {
    async fn flush(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        self.0.apply(claims).await
    }
}

impl<B: PersistBackend> Coalescing<B> {
    /// Over `inner`. Must be called inside of a tokio runtime, whose tasks do the flushing.
    pub fn new(inner: B, settings: Coalesce) -> Self {
        let settings = settings.backend(inner.name());
        let inner = Arc::new(Inner(inner));
        Self {
            writer: Writer::new(Arc::clone(&inner), settings),
            inner,
        }
    }
}

impl<B: PersistBackend> fmt::Debug for Coalescing<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coalescing")
            .field("writer", &self.writer)
            .field("inner", &self.inner.0)
            .finish()
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait]
impl<B: PersistBackend> PersistBackend for Coalescing<B> {
    fn name(&self) -> &'static str {
        self.inner.0.name()
    }

    async fn apply(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        self.writer
            .apply(claims)
            .await
            .map_err(|error| error.during("apply"))
    }

    async fn job(&self, id: Uuid) -> Result<Option<Job>> {
        self.inner.0.job(id).await
    }

    async fn vm(&self, key: &VmKey) -> Result<Option<Vm>> {
        self.inner.0.vm(key).await
    }

    async fn jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        self.inner.0.jobs(query).await
    }

    async fn vms(&self, query: &VmQuery) -> Result<Page<Vm>> {
        self.inner.0.vms(query).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<Event>> {
        self.inner.0.events(query).await
    }

    async fn prune(&self, request: &Prune) -> Result<Pruned> {
        self.inner.0.prune(request).await
    }

    async fn health(&self) -> Result<Health> {
        let mut health = self.inner.0.health().await?;
        (health.flushes, health.flushed) = self.writer.flushed();
        Ok(health)
    }

    async fn close(&self) -> Result<()> {
        self.writer.close().await;
        self.inner.0.close().await
    }
}

impl<B: PersistBackend> Capabilities for Coalescing<B> {
    fn schema(&self) -> Option<&dyn Schema> {
        self.inner.0.schema()
    }

    fn changes(&self) -> Option<&dyn Changes> {
        self.inner.0.changes()
    }

    fn owners(&self) -> Option<&dyn Owners> {
        self.inner.0.owners()
    }

    fn ledger(&self) -> Option<&dyn Ledger> {
        self.inner.0.ledger()
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        self.inner.0.inspect()
    }

    fn marks(&self) -> Option<&dyn Marks> {
        self.inner.0.marks()
    }
}
