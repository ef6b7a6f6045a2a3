//! The layer that does them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use uuid::Uuid;

use super::plan::{Fault, Faults};
use crate::backend::{Capabilities, PersistBackend};
use crate::changes::Changes;
use crate::claim::Claim;
use crate::error::{Error, ErrorKind, Result};
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

/// A layer that fails, delays and freezes calls on purpose, for tests of what is above it.
///
/// Calls are numbered from 1 in the order in which they begin, `apply`, `prune` and reads alike. `health` and
/// `close` go straight through and have no number: they tell of the backend under it. Several layers with faults of
/// their own may be over one backend, such as one for each caller.
///
/// It is as cancel-safe as what is under it: a call that is dropped while it is delayed or frozen is gone.
///
/// ```
/// # use std::sync::Arc;
/// use persist_core::layer::{Fault, Faults, Faulty};
/// # use persist_core::{ErrorKind, PersistBackend, Result, UpdateOutcome};
/// # async fn example(backend: Arc<dyn PersistBackend>) -> Result<()> {
/// let faulty = Faulty::new(backend, Faults::default().at(1, Fault::FailAfter));
/// let error = faulty.apply(&[]).await.unwrap_err();
/// assert_eq!((error.kind(), error.outcome()), (ErrorKind::OutcomeUnknown, UpdateOutcome::Unknown));
/// assert_eq!((faulty.calls(), faulty.struck()), (1, 1));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Faulty<B: ?Sized> {
    faults: Faults,
    calls: AtomicU64,
    struck: AtomicU64,
    inner: Arc<B>,
}

impl<B: PersistBackend + ?Sized> Faulty<B> {
    /// Over `inner`, with these faults.
    pub fn new(inner: Arc<B>, faults: Faults) -> Self {
        Self {
            faults,
            calls: AtomicU64::new(0),
            struck: AtomicU64::new(0),
            inner,
        }
    }

    /// How many calls have begun.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// How many of them met a fault.
    pub fn struck(&self) -> u64 {
        self.struck.load(Ordering::Relaxed)
    }

    /// Makes a call, or what its fault makes of it. `lost` is the kind of an answer that is lost.
    async fn call<T>(
        &self,
        operation: &'static str,
        lost: ErrorKind,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let Some(fault) = self.faults.of(number) else {
            return call.await;
        };
        self.struck.fetch_add(1, Ordering::Relaxed);
        let failed = |kind, what| {
            Error::new(kind, format!("call {number} was made to fail {what}"))
                .during(operation)
                .retry_as(self.faults.retry())
        };
        match fault {
            Fault::FailBefore => Err(failed(ErrorKind::Unavailable, "before it ran")),
            Fault::FailAfter => {
                drop(call.await);
                Err(failed(lost, "after it ran"))
            }
            Fault::Delay(time) => {
                tokio::time::sleep(time).await;
                call.await
            }
            Fault::FreezeBefore => std::future::pending().await,
            Fault::FreezeAfter => {
                drop(call.await);
                std::future::pending().await
            }
        }
    }

    async fn read<T>(&self, operation: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.call(operation, ErrorKind::Unavailable, call).await
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait]
impl<B: PersistBackend + ?Sized> PersistBackend for Faulty<B> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn apply(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        self.call("apply", ErrorKind::OutcomeUnknown, self.inner.apply(claims))
            .await
    }

    async fn job(&self, id: Uuid) -> Result<Option<Job>> {
        self.read("job", self.inner.job(id)).await
    }

    async fn vm(&self, key: &VmKey) -> Result<Option<Vm>> {
        self.read("vm", self.inner.vm(key)).await
    }

    async fn jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        self.read("jobs", self.inner.jobs(query)).await
    }

    async fn vms(&self, query: &VmQuery) -> Result<Page<Vm>> {
        self.read("vms", self.inner.vms(query)).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<Event>> {
        self.read("events", self.inner.events(query)).await
    }

    async fn prune(&self, request: &Prune) -> Result<Pruned> {
        self.call("prune", ErrorKind::OutcomeUnknown, self.inner.prune(request))
            .await
    }

    async fn health(&self) -> Result<Health> {
        self.inner.health().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

impl<B: PersistBackend + ?Sized> Capabilities for Faulty<B> {
    fn schema(&self) -> Option<&dyn Schema> {
        self.inner.schema()
    }

    fn changes(&self) -> Option<&dyn Changes> {
        self.inner.changes()
    }

    fn owners(&self) -> Option<&dyn Owners> {
        self.inner.owners()
    }

    fn ledger(&self) -> Option<&dyn Ledger> {
        self.inner.ledger()
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        self.inner.inspect()
    }

    fn marks(&self) -> Option<&dyn Marks> {
        self.inner.marks()
    }
}
