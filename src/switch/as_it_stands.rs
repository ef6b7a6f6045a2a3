//! The same store, read without what waits in the spool.

use std::sync::Arc;

use persist_core::{
    Capabilities, Changes, Claim, Event, EventQuery, Health, Inspect, Job, JobQuery, Ledger, Marks, Outcome,
    Owners, Page, PersistBackend, Prune, Pruned, Result, Schema, Vm, VmKey, VmQuery,
};
use uuid::Uuid;

use super::Switch;

#[derive(Debug)]
pub(crate) struct AsItStands(pub(crate) Arc<Switch>);

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait::async_trait]
impl PersistBackend for AsItStands {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    async fn apply(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        self.0.apply(claims).await
    }

    async fn job(&self, id: Uuid) -> Result<Option<Job>> {
        self.0
            .ask("job", |driver| async move { driver.job(id).await })
            .await
    }

    async fn vm(&self, key: &VmKey) -> Result<Option<Vm>> {
        self.0
            .ask("vm", |driver| async move { driver.vm(key).await })
            .await
    }

    async fn jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        self.0
            .ask("jobs", |driver| async move { driver.jobs(query).await })
            .await
    }

    async fn vms(&self, query: &VmQuery) -> Result<Page<Vm>> {
        self.0
            .ask("vms", |driver| async move { driver.vms(query).await })
            .await
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<Event>> {
        self.0
            .ask("events", |driver| async move { driver.events(query).await })
            .await
    }

    async fn prune(&self, request: &Prune) -> Result<Pruned> {
        self.0
            .ask("prune", |driver| async move { driver.prune(request).await })
            .await
    }

    async fn health(&self) -> Result<Health> {
        self.0.health().await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

impl Capabilities for AsItStands {
    fn schema(&self) -> Option<&dyn Schema> {
        self.0.schema()
    }

    fn changes(&self) -> Option<&dyn Changes> {
        self.0.changes()
    }

    fn owners(&self) -> Option<&dyn Owners> {
        self.0.owners()
    }

    fn ledger(&self) -> Option<&dyn Ledger> {
        self.0.ledger()
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        self.0.inspect()
    }

    fn marks(&self) -> Option<&dyn Marks> {
        self.0.marks()
    }
}
