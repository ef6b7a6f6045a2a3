//! Tells of every call: a span, metrics, and a line for one that was slow.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use metrics::{Counter, Histogram, counter, histogram};
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use super::OncePer;
use crate::backend::{Capabilities, PersistBackend};
use crate::changes::Changes;
use crate::claim::Claim;
use crate::error::{Error, Result, UpdateOutcome};
use crate::event::{Event, EventQuery};
use crate::health::Health;
use crate::inspect::Inspect;
use crate::job::{Job, JobQuery};
use crate::ledger::Ledger;
use crate::marks::Marks;
use crate::metrics::{OPERATION_DURATION, OPERATIONS, SLOW_OPERATIONS, UPDATES};
use crate::outcome::Outcome;
use crate::owners::Owners;
use crate::page::Page;
use crate::prune::{Prune, Pruned};
use crate::schema::Schema;
use crate::subject::VmKey;
use crate::vm::{Vm, VmQuery};

/// One line of slow operations in this time.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// A layer that tells of every call, as its caller sees it: put it over all others.
///
/// - **A span** `persist` at level DEBUG, with the names of OpenTelemetry's conventions for databases: `otel.name` and
///   `otel.kind` (`client`), `db.system.name`, `db.operation.name`, `db.operation.batch.size` (of two updates and more),
///   and after an error `otel.status_code`, `error.type` (the [kind](crate::ErrorKind)) and `db.response.status_code` (the
///   code of the database). It costs nothing where no subscriber wants it.
/// - **Metrics**, as [`metrics`](crate::metrics) declares them.
/// - **A line** at level WARN for a call that took longer than a threshold: one in ten seconds, with how many it stands
///   for.
///
/// None of it holds a value of a row, a text of an error or a URL.
#[derive(Debug)]
pub struct Observed<B: ?Sized> {
    meter: Meter,
    slow: Duration,
    line: OncePer,
    inner: Arc<B>,
}

impl<B: PersistBackend> Observed<B> {
    /// Over `inner`; a call that takes longer than `slow` is told in the log.
    pub fn new(inner: B, slow: Duration) -> Self {
        Self::over(Arc::new(inner), slow)
    }
}

impl<B: PersistBackend + ?Sized> Observed<B> {
    /// Over a backend that others have too.
    pub fn over(inner: Arc<B>, slow: Duration) -> Self {
        Self {
            meter: Meter::new(inner.name()),
            slow,
            line: OncePer::new(BETWEEN_LINES),
            inner,
        }
    }

    /// Tells of an [`apply`](PersistBackend::apply) of so many updates to the same backend, whose future the caller holds.
    ///
    /// # Errors
    /// As that future.
    pub async fn applied(
        &self,
        updates: usize,
        call: impl Future<Output = Result<Vec<Outcome>>>,
    ) -> Result<Vec<Outcome>> {
        let result = self.observed(Operation::Apply, updates, call).await;
        self.meter.updates(updates, &result);
        result
    }

    async fn observed<T>(
        &self,
        operation: Operation,
        updates: usize,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let span = span(self.meter.backend, operation, updates);
        let mut call_meter = CallMeter {
            meter: &self.meter,
            operation,
            begun: Instant::now(),
            ended: None,
        };
        let result = call.instrument(span.clone()).await;
        let outcome = match &result {
            Ok(_) => "ok",
            Err(error) => {
                tell(&span, error);
                error.kind().name()
            }
        };
        let took = call_meter.begun.elapsed();
        call_meter.ended = Some((outcome, took));
        if took > self.slow {
            self.meter.slow(operation);
            if let Some(held_back) = self.line.pass() {
                let backend = self.meter.backend;
                let (operation, took_ms) = (operation.name(), took.as_millis() as u64);
                tracing::warn!(parent: &span, backend, operation, outcome, took_ms, updates, held_back, "a slow operation");
            }
        }
        result
    }
}

fn span(backend: &'static str, operation: Operation, updates: usize) -> Span {
    let operation = operation.name();
    let span = tracing::debug_span!(
        "persist",
        otel.name = operation,
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = system(backend),
        db.operation.name = operation,
        db.operation.batch.size = Empty,
        db.response.status_code = Empty,
        "error.type" = Empty,
    );
    // The conventions want no 1.
    if updates > 1 {
        span.record("db.operation.batch.size", updates as u64);
    }
    span
}

/// As the conventions call it.
fn system(backend: &'static str) -> &'static str {
    match backend {
        "postgres" => "postgresql",
        other => other,
    }
}

fn tell(span: &Span, error: &Error) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", error.kind().name());
    if let Some(code) = error.context("sqlstate").or_else(|| error.context("sqlite_code")) {
        span.record("db.response.status_code", code);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Apply,
    Job,
    Vm,
    Jobs,
    Vms,
    Events,
    Prune,
    Health,
    Close,
}

impl Operation {
    const ALL: [Self; 9] = [
        Self::Apply,
        Self::Job,
        Self::Vm,
        Self::Jobs,
        Self::Vms,
        Self::Events,
        Self::Prune,
        Self::Health,
        Self::Close,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Job => "job",
            Self::Vm => "vm",
            Self::Jobs => "jobs",
            Self::Vms => "vms",
            Self::Events => "events",
            Self::Prune => "prune",
            Self::Health => "health",
            Self::Close => "close",
        }
    }
}

/// What may become of an update, as the label says it.
const FATES: [&str; 9] = [
    "applied",
    "late",
    "filled",
    "unchanged",
    "refused",
    "spooled",
    "dropped",
    "not_applied",
    "unknown",
];

const NOT_APPLIED: usize = 7;
const UNKNOWN: usize = 8;

/// Handles of what a call that goes well needs; the rest is looked up when it happens.
#[derive(Debug)]
struct Meter {
    backend: &'static str,
    /// In the order of [`Operation::ALL`].
    well: [Counter; Operation::ALL.len()],
    took: [Histogram; Operation::ALL.len()],
    /// In the order of [`FATES`].
    updates: [Counter; FATES.len()],
}

impl Meter {
    fn new(backend: &'static str) -> Self {
        Self {
            backend,
            well: Operation::ALL.map(|operation| ended(backend, operation, "ok")),
            took: Operation::ALL.map(|operation| {
                histogram!(OPERATION_DURATION.name, "backend" => backend, "operation" => operation.name())
            }),
            updates: FATES.map(|outcome| counter!(UPDATES.name, "backend" => backend, "outcome" => outcome)),
        }
    }

    fn slow(&self, operation: Operation) {
        let name = operation.name();
        counter!(SLOW_OPERATIONS.name, "backend" => self.backend, "operation" => name).increment(1);
    }

    fn updates(&self, asked: usize, result: &Result<Vec<Outcome>>) {
        let mut counts = [0; FATES.len()];
        match result {
            Ok(outcomes) => outcomes.iter().for_each(|outcome| counts[fate(outcome)] += 1),
            Err(error) => {
                let at = match error.outcome() {
                    UpdateOutcome::NotApplied => NOT_APPLIED,
                    UpdateOutcome::Unknown => UNKNOWN,
                };
                counts[at] = asked as u64;
            }
        }
        for (counter, count) in self.updates.iter().zip(counts) {
            if count > 0 {
                counter.increment(count);
            }
        }
    }
}

fn ended(backend: &'static str, operation: Operation, outcome: &'static str) -> Counter {
    counter!(OPERATIONS.name, "backend" => backend, "operation" => operation.name(), "outcome" => outcome)
}

/// Counts these outcomes, for the tests.
#[cfg(test)]
pub(super) fn count(outcomes: &[Outcome]) {
    Meter::new("postgres").updates(outcomes.len(), &Ok(outcomes.to_vec()));
}

/// The place in [`FATES`].
fn fate(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Applied { .. } => 0,
        Outcome::Late { .. } => 1,
        Outcome::Filled { .. } => 2,
        Outcome::Unchanged { .. } => 3,
        Outcome::Refused { .. } => 4,
        Outcome::Spooled => 5,
        Outcome::Dropped => 6,
    }
}

/// Counts a call when it goes, also one that was dropped.
struct CallMeter<'m> {
    meter: &'m Meter,
    operation: Operation,
    begun: Instant,
    /// How, and after what time. The clock is looked at no more often than it must be.
    ended: Option<(&'static str, Duration)>,
}

impl Drop for CallMeter<'_> {
    fn drop(&mut self) {
        let (outcome, took) = self.ended.unwrap_or_else(|| ("cancelled", self.begun.elapsed()));
        let at = self.operation as usize;
        self.meter.took[at].record(took);
        if outcome == "ok" {
            self.meter.well[at].increment(1);
        } else {
            ended(self.meter.backend, self.operation, outcome).increment(1);
        }
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait]
impl<B: PersistBackend + ?Sized> PersistBackend for Observed<B> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn apply(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        self.applied(claims.len(), self.inner.apply(claims)).await
    }

    async fn job(&self, id: Uuid) -> Result<Option<Job>> {
        self.observed(Operation::Job, 0, self.inner.job(id)).await
    }

    async fn vm(&self, key: &VmKey) -> Result<Option<Vm>> {
        self.observed(Operation::Vm, 0, self.inner.vm(key)).await
    }

    async fn jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        self.observed(Operation::Jobs, 0, self.inner.jobs(query)).await
    }

    async fn vms(&self, query: &VmQuery) -> Result<Page<Vm>> {
        self.observed(Operation::Vms, 0, self.inner.vms(query)).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<Event>> {
        self.observed(Operation::Events, 0, self.inner.events(query))
            .await
    }

    async fn prune(&self, request: &Prune) -> Result<Pruned> {
        self.observed(Operation::Prune, 0, self.inner.prune(request))
            .await
    }

    async fn health(&self) -> Result<Health> {
        self.observed(Operation::Health, 0, self.inner.health()).await
    }

    async fn close(&self) -> Result<()> {
        self.observed(Operation::Close, 0, self.inner.close()).await
    }
}

impl<B: PersistBackend + ?Sized> Capabilities for Observed<B> {
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
