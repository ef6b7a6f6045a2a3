//! Retention: forgets whole jobs in small batches, one runner at a time, beside whoever writes.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use persist_core::layer::OncePer;
use persist_core::{
    Clock, Error, ErrorKind, Heartbeat, JobState, Owner, Owners, PersistBackend, Prune, Pruned, Result, Retry,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use crate::heal::BETWEEN_WARNINGS;
use crate::persist::Persist;

/// The name under which a runner beats, so that others see that there is one.
pub const RETENTION_ACTOR: &str = "persist:retention";

/// A run that failed, or met another, is tried again after this time, if the next is not due before.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// Request ids of a batch. Of 500 each held one of two cores for 50 ms, and the 99th percentile of 64 callers beside was 1.8 times
/// what it is by itself; of 100 it was 1.2 times (3 rounds on a busy machine, 2026-11-28).
const BATCH: u32 = 200;

/// How often a runner that rests asks whether it is to go on.
const LOOK: Duration = Duration::from_millis(250);

/// What the last beat of a run is good for.
const ENDED: Duration = *persist_core::HEARTBEAT.start();

/// For how long a runner that was killed keeps others away: two batches that take their whole deadline.
const LEASE: Duration = Duration::from_secs(20);

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
        let done = self.batches(backend, &request, &lease, &mut each).await;
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
    /// log, and the next one goes on where it was; one that came no further begins anew, unless the database is away.
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
                let mut went_on = false;
                let run = self.run(&*backend, &*clock, |pruned| {
                    if let Some(pruned) = pruned {
                        went_on = true;
                        place.clone_from(&pruned.next);
                        let (requests, events) = (pruned.requests, pruned.events);
                        tracing::debug!(requests, events, "a batch was pruned");
                    }
                    goes_on()
                });
                let next = match run.await {
                    Ok(pruned) => {
                        tell(&pruned);
                        self.every
                    }
                    Err(error) if error.kind() == ErrorKind::Closed => return,
                    Err(error) => {
                        // What fails there for good would keep all before it from ever being looked at.
                        let may_heal = went_on || error.kind() == ErrorKind::Unavailable;
                        place = place.filter(|_| may_heal && error.is_retryable());
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
        if let Some(owner) = last.filter(|owner| owner.alive && !has_ended(owner)) {
            return Err(busy(owner));
        }
        let now = u64::try_from(clock.now().timestamp_micros()).unwrap_or_default();
        let lease = Self {
            owners,
            // Above the one before, whatever its clock was, and not that of another who begins at the same time.
            epoch: last.map_or(now, |owner| now.max(owner.epoch + 1)) + chance(),
        };
        lease.beat(LEASE).await?;
        Ok(lease)
    }

    /// Says that it is still there while a batch is at work, which may look at much before it finds any.
    async fn during<T>(&self, batch: impl Future<Output = Result<T>>) -> Result<T> {
        let mut batch = std::pin::pin!(batch);
        loop {
            match tokio::time::timeout(LEASE / 4, &mut batch).await {
                Ok(done) => return done,
                Err(_) => self.beat_on().await?,
            }
        }
    }

    /// One more beat. One that does not come through is no end: the lease outlasts three.
    async fn beat_on(&self) -> Result<()> {
        match self.beat(LEASE).await {
            Err(error) if error.is_retryable() => {
                tracing::debug!(%error, "a beat of retention did not come through");
                Ok(())
            }
            beaten => beaten,
        }
    }

    /// Rests, and says that it is still there. Whether to go on then.
    async fn rest(&self, time: Duration, each: &mut impl FnMut(Option<&Pruned>) -> bool) -> Result<bool> {
        let end = Instant::now() + time;
        self.beat_on().await?;
        let mut beaten = Instant::now();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            tokio::time::sleep(left.min(LOOK)).await;
            if !each(None) {
                return Ok(false);
            }
            if left <= LOOK {
                return Ok(true);
            }
            if beaten.elapsed() >= LEASE / 4 {
                self.beat_on().await?;
                beaten = Instant::now();
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
                let taken_over = Error::new(ErrorKind::Busy, what).retry_as(Retry::Never);
                Err(taken_over.caused_by(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Lets the next one in, by a beat that is good for the shortest time. Where that fails it comes in when the lease has run out.
    async fn end(&self) {
        let _ = self.beat(ENDED).await;
    }
}

/// A number that another runner hardly has.
fn chance() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0_u8) % 1_000_000
}

/// Whether its last beat was its goodbye.
fn has_ended(owner: &Owner) -> bool {
    (owner.valid_until - owner.beat_at)
        .to_std()
        .is_ok_and(|valid_for| valid_for <= ENDED)
}

fn busy(owner: &Owner) -> Error {
    let until = persist_core::time::format(owner.valid_until);
    let what = format!("another retention is at work, until {until} if it does not say more");
    Error::new(ErrorKind::Busy, what).during("prune")
}
