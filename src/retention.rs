//! Retention: forgets whole jobs in small batches, one runner at a time, beside whoever writes.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use persist_core::layer::OncePer;
use persist_core::{
    Clock, Error, ErrorKind, Heartbeat, JobState, Owner, Owners, PersistBackend, Prune, Pruned, Result,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::heal::BETWEEN_WARNINGS;
use crate::persist::Persist;

/// The name under which a runner beats, so that others see that there is one.
pub const RETENTION_ACTOR: &str = "persist:retention";

/// For how long a runner that was killed keeps others away: two batches that take their whole deadline.
const LEASE: Duration = Duration::from_secs(20);

/// What to forget, how fast, and how often.
///
/// Conditions are joined by "and", as those of [`Prune`], which also says what is never removed: whatever is live. There must be
/// one. A run removes batch after batch, each with a deadline of its own, and rests after each for as long as it took, so that
/// writers have the database for half of the time. It can be stopped and begun again anywhere.
///
/// Of several runners on one store one works: it beats as [`RETENTION_ACTOR`], and the others are told `Busy`. A store that
/// keeps no heartbeats has no such guard; two runners then remove the same jobs once.
///
/// ```
/// # async fn example(persist: persist::Persist) -> persist::Result<()> {
/// use std::time::Duration;
/// let days = |days| Duration::from_secs(days * 24 * 3_600);
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
    /// Without any condition yet: 500 request ids a batch, once an hour.
    pub fn new() -> Self {
        Self {
            prune: Prune::default().limit(500),
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

    /// Removes all that matches, and tells of each batch; goes on while that says so. Dropped in between, what was removed stays
    /// removed, and others are kept away for 20 seconds.
    ///
    /// # Errors
    /// `InvalidInput` as [`request`](Self::request); `Busy` where another runner is at work, until when in its text; whatever
    /// the store meets: what was removed before is removed, and `each` was told.
    pub async fn run(
        &self,
        backend: &dyn PersistBackend,
        clock: &dyn Clock,
        mut each: impl FnMut(&Pruned) -> bool,
    ) -> Result<Pruned> {
        let request = self.request(clock)?;
        let lease = Lease::take(backend.owners(), clock).await?;
        let done = self.batches(backend, &request, &lease, &mut each).await;
        lease.end().await;
        done
    }

    async fn batches(
        &self,
        backend: &dyn PersistBackend,
        request: &Prune,
        lease: &Lease<'_>,
        each: &mut impl FnMut(&Pruned) -> bool,
    ) -> Result<Pruned> {
        let mut all = Pruned::default();
        loop {
            let begun = Instant::now();
            let pruned = backend.prune(request).await?;
            let goes_on = each(&pruned);
            all.requests += pruned.requests;
            all.jobs += pruned.jobs;
            all.vms += pruned.vms;
            all.events += pruned.events;
            all.more = pruned.more;
            if !pruned.more || !goes_on {
                return Ok(all);
            }
            let took = begun.elapsed();
            let rest = self.per_second.map_or(took, |most| {
                let wanted = Duration::from_secs_f64(pruned.requests as f64 / f64::from(most));
                took.max(wanted.saturating_sub(took))
            });
            lease.rest(rest).await?;
        }
    }

    /// Runs now and then, until the returned task is stopped or dropped, or the handle closed. A run that fails is told in the
    /// log, and the next one tries again.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(self, persist: &Persist) -> RetentionTask {
        let (stop, mut stopped) = watch::channel(());
        let backend = persist.backend();
        let clock = Arc::clone(persist.clock());
        let task = tokio::spawn(async move {
            let line = OncePer::new(BETWEEN_WARNINGS);
            loop {
                let run = self.run(&*backend, &*clock, |pruned| {
                    tracing::debug!(
                        requests = pruned.requests,
                        events = pruned.events,
                        "a batch was pruned"
                    );
                    true
                });
                let ended = tokio::select! {
                    ended = run => ended,
                    _ = stopped.changed() => return,
                };
                match ended {
                    Ok(pruned) if pruned.requests == 0 => {
                        tracing::debug!("retention found nothing to forget");
                    }
                    Ok(pruned) => tracing::info!(
                        requests = pruned.requests,
                        jobs = pruned.jobs,
                        vms = pruned.vms,
                        events = pruned.events,
                        "retention is done"
                    ),
                    Err(error) if error.kind() == ErrorKind::Closed => return,
                    Err(error) if error.kind() == ErrorKind::Busy => {
                        tracing::debug!(%error, "retention waits");
                    }
                    Err(error) => {
                        if let Some(held_back) = line.pass() {
                            let kind = error.kind().name();
                            tracing::warn!(kind, %error, held_back, "retention failed; it is tried again");
                        }
                    }
                }
                tokio::select! {
                    () = tokio::time::sleep(self.every) => {}
                    _ = stopped.changed() => return,
                }
            }
        });
        RetentionTask { stop, task }
    }
}

/// A [`Retention`] at work. Dropping it stops the work, as [`stop`](Self::stop) does, without waiting.
#[derive(Debug)]
#[must_use = "dropping it stops the work"]
pub struct RetentionTask {
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl RetentionTask {
    /// Ends a run that is under way, and waits for that. A batch that is cut may have been removed. Cancel-safe.
    pub async fn stop(self) {
        let Self { stop, task } = self;
        stop.send_replace(());
        // It may have ended by itself.
        let _ = task.await;
    }
}

/// That this runner is the one.
struct Lease<'o> {
    owners: Option<&'o dyn Owners>,
    epoch: u64,
}

impl<'o> Lease<'o> {
    async fn take(owners: Option<&'o dyn Owners>, clock: &dyn Clock) -> Result<Self> {
        let Some(beaten) = owners else {
            return Ok(Self {
                owners: None,
                epoch: 0,
            });
        };
        let others = match beaten.list().await {
            Ok(others) => others,
            // Made before there were heartbeats: nobody else is guarded either.
            Err(error) if error.kind() == ErrorKind::SchemaMismatch => {
                return Ok(Self {
                    owners: None,
                    epoch: 0,
                });
            }
            Err(error) => return Err(error),
        };
        let last = others.iter().find(|owner| owner.actor == RETENTION_ACTOR);
        if let Some(owner) = last.filter(|owner| owner.alive) {
            return Err(busy(owner));
        }
        let now = u64::try_from(clock.now().timestamp_micros()).unwrap_or_default();
        let lease = Self {
            owners,
            // Whatever the clock of the one before was.
            epoch: last.map_or(now, |owner| now.max(owner.epoch + 1)),
        };
        lease.beat(LEASE).await?;
        Ok(lease)
    }

    /// Rests, and says that it is still there.
    async fn rest(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            self.beat(LEASE).await?;
            let left = end.saturating_duration_since(Instant::now());
            tokio::time::sleep(left.min(LEASE / 4)).await;
            if left <= LEASE / 4 {
                return Ok(());
            }
        }
    }

    async fn beat(&self, valid_for: Duration) -> Result<()> {
        let Some(owners) = self.owners else { return Ok(()) };
        let beat = Heartbeat::new(RETENTION_ACTOR, self.epoch).valid_for(valid_for);
        match owners.heartbeat(&beat).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                let what = "another retention has taken over";
                Err(Error::new(ErrorKind::Busy, what).caused_by(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Lets the next one in. Where that fails it comes in when the lease has run out.
    async fn end(&self) {
        let _ = self.beat(*persist_core::HEARTBEAT.start()).await;
    }
}

fn busy(owner: &Owner) -> Error {
    let until = persist_core::time::format(owner.valid_until);
    let what = format!("another retention is at work, until {until} if it does not say more");
    Error::new(ErrorKind::Busy, what).during("prune")
}
