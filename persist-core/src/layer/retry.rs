//! Calls again what failed in passing, until its time is up.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::backend::{Capabilities, PersistBackend};
use crate::changes::Changes;
use crate::claim::Claim;
use crate::deadlines::{CHUNK, Deadlines, end_of};
use crate::error::{Error, ErrorKind, Result, Retry, UpdateOutcome};
use crate::event::{Event, EventQuery};
use crate::health::Health;
use crate::inspect::Inspect;
use crate::job::{Job, JobQuery};
use crate::ledger::Ledger;
use crate::marks::Marks;
use crate::metrics;
use crate::outcome::Outcome;
use crate::owners::Owners;
use crate::page::Page;
use crate::prune::{Prune, Pruned};
use crate::schema::Schema;
use crate::subject::VmKey;
use crate::vm::{Vm, VmQuery};

/// Most immediate repetitions of one call, for serialization failures and deadlocks.
const MOST_AT_ONCE: u32 = 20;

/// A layer that retries every retryable error with back-off and jitter, within a budget of time per call, of `apply` per chunk.
///
/// Safe for `apply`, whose slots make sending again harmless, and for `prune`, which repeats its condition.
/// After a retry an update that the lost first try had applied reads `Unchanged`. When the time is up between
/// two tries the last error is returned as it is; a try that is cut is `Timeout`, caused by the error before it.
#[derive(Debug)]
pub struct Retrying<B: ?Sized> {
    budget: Budget,
    inner: Arc<B>,
}

/// The time of a call.
#[derive(Debug, Clone, Copy)]
struct Budget {
    within: Duration,
    /// How long a try takes at most by itself.
    of_a_try: Duration,
}

impl<B: PersistBackend> Retrying<B> {
    /// Retries calls of `inner` for at most `within`, counted from the call's start.
    pub fn new(inner: B, within: Duration) -> Self {
        Self::over(Arc::new(inner), within)
    }
}

impl<B: PersistBackend + ?Sized> Retrying<B> {
    /// Over a backend that others have too.
    pub fn over(inner: Arc<B>, within: Duration) -> Self {
        let budget = Budget {
            within,
            of_a_try: Duration::MAX,
        };
        Self { budget, inner }
    }

    /// For a backend that keeps these deadlines itself: a try that has the time that it takes at most needs no timer of
    /// this layer. One of the many that each update would have otherwise.
    #[must_use]
    pub fn trusting(mut self, deadlines: &Deadlines) -> Self {
        self.budget.of_a_try = deadlines.write.max(deadlines.read);
        self
    }
}

impl<B: PersistBackend + ?Sized> Retrying<B> {
    /// [`apply`](PersistBackend::apply), as a future that its caller holds: for callers of which thousands wait, each of
    /// them for one update.
    ///
    /// # Errors
    /// As `apply`.
    pub async fn apply_unboxed(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        if claims.is_empty() {
            return retry(self.name(), "apply", self.budget, || self.inner.apply(claims)).await;
        }
        let mut outcomes = Vec::new();
        // The time counts per chunk, as the deadline does, and a chunk that is stored is not sent again.
        for chunk in claims.chunks(CHUNK) {
            match retry(self.name(), "apply", self.budget, || self.inner.apply(chunk)).await {
                Ok(of_chunk) if outcomes.is_empty() => outcomes = of_chunk,
                Ok(of_chunk) => outcomes.extend(of_chunk),
                Err(error) if outcomes.is_empty() => return Err(error),
                Err(error) => return Err(error.outcome_as(UpdateOutcome::Unknown)),
            }
        }
        Ok(outcomes)
    }
}

fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_secs(2))
        .without_max_times()
        .with_jitter()
        .build()
}

async fn retry<T, F>(
    backend: &'static str,
    operation: &'static str,
    budget: Budget,
    mut call: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let end = end_of(budget.within);
    let mut first = None;
    if budget.within > budget.of_a_try {
        match call().await {
            Ok(value) => return Ok(value),
            Err(error) => first = Some(error),
        }
    }
    // In a place of its own: most calls go well at once, and thousands of them wait at a time.
    Box::pin(until_its_end(backend, operation, budget, end, first, call)).await
}

/// Goes on after what the first try met, if it was made.
async fn until_its_end<T, F>(
    backend: &'static str,
    operation: &'static str,
    budget: Budget,
    end: Instant,
    mut first: Option<Error>,
    mut call: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let within = budget.within;
    let (mut at_once, mut unknown, mut last) = (0, false, None);
    // Once a call may have been applied, no later failure says that it certainly was not.
    let told = |error: Error, unknown: bool| {
        if unknown {
            error.outcome_as(UpdateOutcome::Unknown)
        } else {
            error
        }
    };
    let mut delays = None;
    loop {
        let error = if let Some(first) = first.take() {
            first
        } else {
            let has_time = end.saturating_duration_since(Instant::now()) > budget.of_a_try;
            // The last call is cut too: what it was about may have happened.
            let tried = if has_time {
                Ok(call().await)
            } else {
                timeout_at(end, call()).await
            };
            match tried {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error,
                Err(_) => {
                    let error = Error::deadline(operation, within);
                    return Err(match last {
                        Some(last) => error.caused_by(last),
                        None => error,
                    });
                }
            }
        };
        unknown |= error.outcome() == UpdateOutcome::Unknown;
        let delay = match error.retry() {
            Retry::Never => return Err(told(error, unknown)),
            Retry::Now if at_once < MOST_AT_ONCE => {
                at_once += 1;
                Duration::from_millis(u64::from(at_once))
            }
            Retry::Now | Retry::Later => delays.get_or_insert_with(backoff).next().unwrap_or(within),
        };
        if end.saturating_duration_since(Instant::now()) <= delay {
            return Err(told(error, unknown));
        }
        tracing::debug!(
            kind = error.kind().name(),
            delay_us = delay.as_micros() as u64,
            "calling again"
        );
        metrics::retried(backend, error.kind());
        last = Some(error);
        tokio::time::sleep(delay).await;
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait]
impl<B: PersistBackend + ?Sized> PersistBackend for Retrying<B> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn apply(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        self.apply_unboxed(claims).await
    }

    async fn job(&self, id: Uuid) -> Result<Option<Job>> {
        retry(self.name(), "job", self.budget, || self.inner.job(id)).await
    }

    async fn vm(&self, key: &VmKey) -> Result<Option<Vm>> {
        retry(self.name(), "vm", self.budget, || self.inner.vm(key)).await
    }

    async fn jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        retry(self.name(), "jobs", self.budget, || self.inner.jobs(query)).await
    }

    async fn vms(&self, query: &VmQuery) -> Result<Page<Vm>> {
        retry(self.name(), "vms", self.budget, || self.inner.vms(query)).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<Event>> {
        retry(self.name(), "events", self.budget, || self.inner.events(query)).await
    }

    async fn prune(&self, request: &Prune) -> Result<Pruned> {
        retry(self.name(), "prune", self.budget, || self.inner.prune(request)).await
    }

    async fn health(&self) -> Result<Health> {
        // Tells how things are now; hiding a failure would be a lie.
        self.inner.health().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

impl<B: PersistBackend + ?Sized> Capabilities for Retrying<B> {
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

impl Error {
    /// The error of a call whose time is up.
    pub fn deadline(operation: &'static str, after: Duration) -> Self {
        Self::new(
            ErrorKind::Timeout,
            format!("no answer within {} ms", after.as_millis()),
        )
        .during(operation)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn cutting(within: Duration) -> Budget {
        Budget {
            within,
            of_a_try: Duration::MAX,
        }
    }

    /// A try that is trusted is not cut as long as it has its time; the next one, which has less, is.
    #[tokio::test(start_paused = true)]
    async fn a_try_is_cut_unless_it_ends_in_time_by_itself() {
        let budget = Budget {
            within: Duration::from_secs(7),
            of_a_try: Duration::from_secs(5),
        };
        let begun = Instant::now();
        let calls = AtomicU32::new(0);
        let call = || async {
            if calls.fetch_add(1, Ordering::Relaxed) > 0 {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
            Err::<(), _>(Error::new(ErrorKind::Timeout, "by itself"))
        };
        let error = retry("none", "job", budget, call).await.unwrap_err();
        let took = (begun.elapsed().as_secs(), calls.load(Ordering::Relaxed));
        assert_eq!((took, error.kind()), ((7, 2), ErrorKind::Timeout));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_never_answers_is_cut_when_the_time_is_up() {
        let within = Duration::from_secs(7);
        let begun = Instant::now();
        let error = retry("none", "job", cutting(within), std::future::pending::<Result<()>>)
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome()),
            (ErrorKind::Timeout, UpdateOutcome::Unknown)
        );
        assert_eq!(begun.elapsed().as_secs(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_cut_tells_what_it_was_tried_again_for() {
        let calls = AtomicU32::new(0);
        let call = || async {
            if calls.fetch_add(1, Ordering::Relaxed) == 0 {
                return Err::<(), _>(Error::new(ErrorKind::Unavailable, "no connection to db:5432"));
            }
            std::future::pending().await
        };
        let error = retry("none", "apply", cutting(Duration::from_secs(5)), call)
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "apply: no answer within 5000 ms");
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(cause.as_deref(), Some("no connection to db:5432"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_happened_stays_unknown_when_the_store_then_goes_away() {
        let calls = AtomicU32::new(0);
        let call = || async {
            let kind = match calls.fetch_add(1, Ordering::Relaxed) {
                0 => ErrorKind::OutcomeUnknown,
                _ => ErrorKind::Unavailable,
            };
            Err::<(), _>(Error::new(kind, "is away"))
        };
        let error = retry("none", "apply", cutting(Duration::from_secs(5)), call)
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome()),
            (ErrorKind::Unavailable, UpdateOutcome::Unknown)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn for_ever_is_a_time_too() {
        let calls = AtomicU32::new(0);
        let call = || async {
            match calls.fetch_add(1, Ordering::Relaxed) {
                40 => Ok(()),
                _ => Err(Error::new(ErrorKind::Unavailable, "is away")),
            }
        };
        retry("none", "apply", cutting(Duration::MAX), call)
            .await
            .unwrap();
    }
}
