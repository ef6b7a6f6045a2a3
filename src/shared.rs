//! A driver behind a shared pointer, for layers that own what they wrap.

use std::sync::Arc;

use async_trait::async_trait;
use persist_core::{
    Capabilities, Claim, Event, EventQuery, Health, Job, JobQuery, Outcome, Page, PersistBackend, Prune,
    Pruned, Result, Schema, Vm, VmKey, VmQuery,
};
use uuid::Uuid;

#[derive(Debug)]
pub(crate) struct Shared(pub(crate) Arc<dyn PersistBackend>);

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait]
impl PersistBackend for Shared {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    async fn apply(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        self.0.apply(claims).await
    }

    async fn job(&self, id: Uuid) -> Result<Option<Job>> {
        self.0.job(id).await
    }

    async fn vm(&self, key: &VmKey) -> Result<Option<Vm>> {
        self.0.vm(key).await
    }

    async fn jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        self.0.jobs(query).await
    }

    async fn vms(&self, query: &VmQuery) -> Result<Page<Vm>> {
        self.0.vms(query).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<Event>> {
        self.0.events(query).await
    }

    async fn prune(&self, request: &Prune) -> Result<Pruned> {
        self.0.prune(request).await
    }

    async fn health(&self) -> Result<Health> {
        self.0.health().await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

impl Capabilities for Shared {
    fn schema(&self) -> Option<&dyn Schema> {
        self.0.schema()
    }
}
