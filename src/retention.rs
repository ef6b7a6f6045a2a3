//! Retention: forgets whole jobs in small batches, one runner at a time, beside whoever writes.

mod lease;

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use persist_core::layer::OncePer;
use persist_core::{Clock, ErrorKind, JobState, PersistBackend, Prune, Pruned, Result};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use self::lease::Lease;
use crate::heal::BETWEEN_WARNINGS;
use crate::persist::Persist;

/// The name under which a runner beats, so that others see that there is one.
pub const RETENTION_ACTOR: &str = "persist:retention";

/// A run that failed, or met another, is tried again after this time, if the next is not due before.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// Request ids of a batch. Of 500 each held one of two cores for 50 ms, and the 99th percentile of 64 callers beside was 1.8 times
/// what it is by itself; of 100 it was 1.2 times (3 rounds on a busy machine, 2026-11-28).
const BATCH: u32 = 200;

/// What to forget, how fast, and how often.
///
/// Conditions are joined by "and", as those of [`Prune`], which also says what is never removed: whatever is live. There must be
/// one. A run removes batch after batch, each with a deadline of its own, and rests after each for as long as it took, so that
/// writers have the database for half of the time. A batch goes on where the one before it ended, so that a run looks at each job
/// once. It can be stopped and begun again anywhere.
///
/// Of several runners on one store one works: it beats as [`RETENTION_ACTOR`], and the others are told `Busy`. A store that
/// keeps no heartbeats has no such guard; two runners then remove the same jobs once.
///
/// ```
/// # async fn example(persist: persist::Persist) -> persist::Result<()> {
/// use std::time::Duration;
/// let days = |days: u64| Duration::from_secs(days * 24 * 3_600);
/// let task = persist::Retention::new().older_than(days(90)).every(days(1)).start(&persist);
/// // …
/// task.stop().await;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use = "it forgets nothing before it runs or starts"]
pub struct Retention {
    prune: Prune,
    age: Option<Duration>,
    per_second: Option<u32>,
    every: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self::new()
    }
}

impl Retention {
    /// Without any condition yet: 200 request ids a batch, once an hour.
    pub fn new() -> Self {
        Self {
            prune: Prune::default().limit(BATCH),
            age: None,
            per_second: None,
            every: Duration::from_secs(3_600),
        }
    }

    /// Only jobs that were last updated longer ago than this, by the handle's clock at the time of the run.
    pub fn older_than(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }

    /// Keeps the newest so many jobs of each repository.
    pub fn keep_per_repo(mut self, jobs: u32) -> Self {
        self.prune = self.prune.keep_per_repo(jobs);
        self
    }

    /// Only jobs in these states.
    pub fn states(mut self, states: impl IntoIterator<Item = JobState>) -> Self {
        self.prune = self.prune.states(states);
        self
    }

    /// Only these request ids, also when they are live.
    pub fn ids(mut self, ids: impl IntoIterator<Item = Uuid>) -> Self {
        self.prune = self.prune.ids(ids);
        self
    }

    /// So many request ids a batch: 1 to 10,000.
    pub fn batch(mut self, requests: u32) -> Self {
        self.prune = self.prune.limit(requests);
        self
    }

    /// At most so many request ids a second, 1 and more; as many as half of the time allows unless set.
    pub fn per_second(mut self, requests: u32) -> Self {
        self.per_second = Some(requests.max(1));
        self
    }

    /// How long after the end of a run the next begins.
    pub fn every(mut self, time: Duration) -> Self {
        self.every = time;
        self
    }

    /// What a run that begins now asks of the store.
    ///
    /// # Errors
    /// `InvalidInput` as [`Prune::check`] says: for no condition at all, for instance.
    pub fn request(&self, clock: &dyn Clock) -> Result<Prune> {
        let mut prune = self.prune.clone();
        if let Some(age) = self.age {
            let age = TimeDelta::from_std(age).unwrap_or(TimeDelta::MAX);
            // Before 1970 there is nothing.
            let before = clock.now().checked_sub_signed(age);
            let epoch = persist_core::Timestamp::UNIX_EPOCH;
            prune.ended_before = Some(before.map_or(epoch, |before| before.max(epoch)));
        }
        prune.check()
    }

    /// Removes all that matches. Asks `each` after each batch, with what that removed, and four times a second while it rests,
    /// with nothing: it goes on as long as the answer is yes. Dropped in between, what was removed stays removed, and others are
    /// kept away for 20 seconds.
    ///
    /// # Errors
    /// `InvalidInput` as [`request`](Self::request); `Busy` where another runner is at work, until when in its text; whatever
    /// the store meets: what was removed before is removed, and `each` was told.
    pub async fn run(
        &self,
        backend: &dyn PersistBackend,
        clock: &dyn Clock,
        mut each: impl FnMut(Option<&Pruned>) -> bool,
    ) -> Result<Pruned> {
        let request = self.request(clock)?;
        let lease = Lease::take(backend.owners(), clock).await?;
        self.under(lease, backend, &request, &mut each).await
    }

    async fn under(
        &self,
        lease: Lease<'_>,
        backend: &dyn PersistBackend,
        request: &Prune,
        each: &mut impl FnMut(Option<&Pruned>) -> bool,
    ) -> Result<Pruned> {
        let done = self.batches(backend, request, &lease, each).await;
        lease.end().await;
        done
    }

    async fn batches(
        &self,
        backend: &dyn PersistBackend,
        request: &Prune,
        lease: &Lease<'_>,
        each: &mut impl FnMut(Option<&Pruned>) -> bool,
    ) -> Result<Pruned> {
        let (mut all, mut request) = (Pruned::default(), request.clone());
        loop {
            let begun = Instant::now();
            let pruned = lease.during(backend.prune(&request)).await?;
            let goes_on = each(Some(&pruned));
            // A backend of others may say that there is more and not where.
            let more = pruned.more && (pruned.next.is_some() || pruned.requests > 0);
            let requests = pruned.requests;
            request.after = pruned.next.clone();
            all += pruned;
            if !more || !goes_on {
                return Ok(all);
            }
            let took = begun.elapsed();
            let rest = self.per_second.map_or(took, |most| {
                let wanted = Duration::from_secs_f64(requests as f64 / f64::from(most));
                took.max(wanted.saturating_sub(took))
            });
            if !lease.rest(rest, each).await? {
                return Ok(all);
            }
        }
    }

    /// Runs now and then, until the returned task is stopped or dropped, or the handle closed. A run that fails is told in the
    /// log, and the next one goes on where it was. Where its first batch failed, and the database is neither away nor busy, the
    /// next begins anew: what fails there for good would keep all before it from ever being looked at.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(mut self, persist: &Persist) -> RetentionTask {
        let (stop, stopped) = watch::channel(());
        let backend = persist.backend();
        let clock = Arc::clone(persist.clock());
        let task = tokio::spawn(async move {
            let line = OncePer::new(BETWEEN_WARNINGS);
            let mut place = None;
            loop {
                // Asked to stop, or nobody is left to ask.
                let goes_on = || stopped.has_changed().is_ok_and(|asked| !asked);
                self.prune.after.clone_from(&place);
                let (mut is_at_work, mut went_on) = (false, false);
                let mut each = |pruned: Option<&Pruned>| {
                    if let Some(pruned) = pruned {
                        went_on = true;
                        place.clone_from(&pruned.next);
                        let (requests, events) = (pruned.requests, pruned.events);
                        tracing::debug!(requests, events, "a batch was pruned");
                    }
                    goes_on()
                };
                let run = async {
                    let request = self.request(&*clock)?;
                    let lease = Lease::take(backend.owners(), &*clock).await?;
                    is_at_work = true;
                    self.under(lease, &*backend, &request, &mut each).await
                };
                let next = match run.await {
                    Ok(pruned) => {
                        tell(&pruned);
                        self.every
                    }
                    Err(error) if error.kind() == ErrorKind::Closed => return,
                    Err(error) => {
                        let passes = match error.kind() {
                            ErrorKind::Busy => true,
                            ErrorKind::Unavailable => error.is_retryable(),
                            _ => false,
                        };
                        if is_at_work && !went_on && !passes {
                            place = None;
                        }
                        if error.kind() == ErrorKind::Busy {
                            tracing::debug!(%error, "retention waits");
                        } else if let Some(held_back) = line.pass() {
                            let kind = error.kind().name();
                            tracing::warn!(kind, %error, held_back, "retention failed; it is tried again");
                        }
                        self.every.min(AFTER_FAILURE)
                    }
                };
                let mut stopped = stopped.clone();
                tokio::select! {
                    () = tokio::time::sleep(next) => {}
                    _ = stopped.changed() => return,
                }
            }
        });
        RetentionTask { stop, task }
    }
}

fn tell(pruned: &Pruned) {
    let Pruned {
        requests,
        jobs,
        vms,
        events,
        ..
    } = pruned;
    if *requests == 0 {
        tracing::debug!("retention found nothing to forget");
    } else {
        tracing::info!(requests, jobs, vms, events, "retention is done");
    }
}

/// A [`Retention`] at work. Dropping it stops the work as [`stop`](Self::stop) does, without waiting for the end of a batch.
#[derive(Debug)]
#[must_use = "dropping it stops the work"]
pub struct RetentionTask {
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl RetentionTask {
    /// Ends a run that is under way after its batch, and waits for that. Cancel-safe.
    pub async fn stop(self) {
        let Self { stop, task } = self;
        stop.send_replace(());
        // It may have ended by itself.
        let _ = task.await;
    }
}
