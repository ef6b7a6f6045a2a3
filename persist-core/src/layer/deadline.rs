//! Ends every call by its deadline, whatever the backend under it does.

mod changes;
mod ledger;
mod marks;
mod owners;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinSet;
use tokio::time::timeout_at;
use uuid::Uuid;

use crate::backend::{Capabilities, PersistBackend};
use crate::changes::Changes;
use crate::claim::Claim;
use crate::deadlines::{CHUNK, Deadlines, end_of};
use crate::error::{Error, ErrorKind, Result, UpdateOutcome};
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

/// A layer that ends every call by its deadline: `apply` per chunk of [`CHUNK`], and each read, health, prune and close.
///
/// It is for a backend that keeps no deadlines of its own, and belongs right over it, below a
/// [`Coalescing`](super::Coalescing) or [`Retrying`](super::Retrying) layer: what is cut here was handed to the backend, so
/// that all that is known is that it may have happened. What knows better, because it has a queue or a connection to
/// look at, keeps its deadlines inside and needs none above it: the Postgres and SQLite backends, and `Coalescing`,
/// which withdraws what is still queued.
///
/// A call runs in a task of its own, so that one that blocks its thread is given up too, where the runtime has other
/// threads. It is dropped when its time is up, or when its caller goes away; the contract has it leave nothing behind.
/// A panic in it is an error: `OutcomeUnknown`.
///
/// [`Schema`] and [`Inspect`] are passed on as they are: what they do may rightly take minutes.
///
/// `close` has [`Deadlines::close`]. When that is over the draining goes on without its caller.
#[derive(Debug)]
pub struct Deadlined<B: ?Sized> {
    deadlines: Deadlines,
    pub(super) inner: Arc<B>,
}

impl<B: PersistBackend> Deadlined<B> {
    /// Over `inner`.
    pub fn new(inner: B, deadlines: Deadlines) -> Self {
        Self::over(Arc::new(inner), deadlines)
    }
}

impl<B: PersistBackend + ?Sized> Deadlined<B> {
    /// Over a backend that others have too.
    pub fn over(inner: Arc<B>, deadlines: Deadlines) -> Self {
        Self { deadlines, inner }
    }

    async fn within<T, F>(
        &self,
        operation: &'static str,
        within: Duration,
        call: impl FnOnce(Arc<B>) -> F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let end = end_of(within);
        // A set aborts what is in it when it is dropped.
        let mut task = JoinSet::new();
        task.spawn(call(Arc::clone(&self.inner)));
        match timeout_at(end, task.join_next()).await {
            Ok(Some(Ok(result))) => result,
            Ok(_) => Err(panicked(operation)),
            Err(_) => Err(Error::deadline(operation, within)),
        }
    }
}

/// A power that was there when it was asked for.
fn still<P>(power: Option<P>) -> Result<P> {
    power.ok_or_else(|| Error::new(ErrorKind::Unsupported, "the backend has not that power any more"))
}

fn panicked(operation: &'static str) -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        "the backend panicked before its answer came",
    )
    .during(operation)
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait]
impl<B: PersistBackend + ?Sized> PersistBackend for Deadlined<B> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn apply(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        let within = self.deadlines.write;
        let apply = |chunk: Arc<[Claim]>| {
            self.within("apply", within, |inner| async move { inner.apply(&chunk).await })
        };
        if claims.is_empty() {
            return apply(Arc::default()).await;
        }
        let mut outcomes = Vec::with_capacity(claims.len());
        for chunk in claims.chunks(CHUNK) {
            match apply(chunk.into()).await {
                Ok(of_chunk) => outcomes.extend(of_chunk),
                Err(error) if outcomes.is_empty() => return Err(error),
                // Chunks before it are stored.
                Err(error) => return Err(error.outcome_as(UpdateOutcome::Unknown)),
            }
        }
        Ok(outcomes)
    }

    async fn job(&self, id: Uuid) -> Result<Option<Job>> {
        self.within("job", self.deadlines.read, move |inner| async move {
            inner.job(id).await
        })
        .await
    }

    async fn vm(&self, key: &VmKey) -> Result<Option<Vm>> {
        let key = key.clone();
        self.within(
            "vm",
            self.deadlines.read,
            |inner| async move { inner.vm(&key).await },
        )
        .await
    }

    async fn jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        let query = query.clone();
        self.within("jobs", self.deadlines.read, |inner| async move {
            inner.jobs(&query).await
        })
        .await
    }

    async fn vms(&self, query: &VmQuery) -> Result<Page<Vm>> {
        let query = query.clone();
        self.within("vms", self.deadlines.read, |inner| async move {
            inner.vms(&query).await
        })
        .await
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<Event>> {
        let query = query.clone();
        self.within("events", self.deadlines.read, |inner| async move {
            inner.events(&query).await
        })
        .await
    }

    async fn prune(&self, request: &Prune) -> Result<Pruned> {
        let request = request.clone();
        self.within("prune", self.deadlines.write, |inner| async move {
            inner.prune(&request).await
        })
        .await
    }

    async fn health(&self) -> Result<Health> {
        self.within("health", self.deadlines.health, |inner| async move {
            inner.health().await
        })
        .await
    }

    async fn close(&self) -> Result<()> {
        let (inner, within) = (Arc::clone(&self.inner), self.deadlines.close());
        // Not cut: what was accepted is to finish.
        let closing = tokio::spawn(async move { inner.close().await });
        match timeout_at(end_of(within), closing).await {
            Ok(closed) => closed.unwrap_or_else(|_| Err(panicked("close"))),
            Err(_) => Err(Error::deadline("close", within)),
        }
    }
}

impl<B: PersistBackend + ?Sized> Capabilities for Deadlined<B> {
    fn schema(&self) -> Option<&dyn Schema> {
        self.inner.schema()
    }

    fn changes(&self) -> Option<&dyn Changes> {
        self.inner.changes().map(|_| self as &dyn Changes)
    }

    fn owners(&self) -> Option<&dyn Owners> {
        self.inner.owners().map(|_| self as &dyn Owners)
    }

    fn ledger(&self) -> Option<&dyn Ledger> {
        self.inner.ledger().map(|_| self as &dyn Ledger)
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        self.inner.inspect()
    }

    fn marks(&self) -> Option<&dyn Marks> {
        self.inner.marks().map(|_| self as &dyn Marks)
    }
}
