//! The spool: what the database could not take waits in a file, and goes to it when it is back.
//!
//! `options` is what callers set, `replay` one step of emptying it, `drain` the task that takes the steps. This is what
//! is between: keeping updates, with or without waiting for room, and what is told of it.

mod drain;
#[cfg(feature = "spool")]
mod options;
mod replay;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use persist_core::layer::OncePer;
use persist_core::metrics::SpoolMeter;
use persist_core::{
    Claim, Clock, Error, ErrorKind, Outbox, OutboxStatus, Outcome, PersistBackend, Result, SpoolHealth,
    end_of,
};
use tokio::sync::{Notify, RwLock};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

pub(crate) use self::drain::drain;
#[cfg(feature = "spool")]
pub use self::options::Spool;
pub(crate) use self::replay::{Lines, Met, identify, step};
pub use self::replay::{Replayed, replay};
use crate::heal::BETWEEN_WARNINGS;

/// Room is looked for so often also where nobody tells that there is some: a disk does not.
const LOOK: Duration = Duration::from_millis(250);

/// What becomes of updates that a full spool can't take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// The caller has an error of kind `Full`, at once.
    #[default]
    Fail,
    /// The caller waits for room until its write deadline, and has the error then.
    Wait,
}

/// How a spool behaves, beside where it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behaviour {
    pub(crate) max_age: Duration,
    pub(crate) when_full: WhenFull,
    /// How long a caller waits for room, and closing for the spool to empty.
    pub(crate) patience: Duration,
}

/// An open spool in use.
#[derive(Debug)]
pub(crate) struct Spooling {
    /// Dropped before the file is let go.
    meter: SpoolMeter,
    pub(crate) outbox: Arc<dyn Outbox>,
    behaviour: Behaviour,
    clock: Arc<dyn Clock>,
    /// Rings when there may be something to replay.
    woken: Notify,
    /// Rings when room was made.
    freed: Notify,
    /// Read by every call that writes; closing waits for all of them.
    pub(crate) calls: RwLock<()>,
    /// One step at a time.
    pub(crate) steps: tokio::sync::Mutex<()>,
    spooled: AtomicU64,
    rejected: AtomicU64,
    replayed: Mutex<Replayed>,
    foreign: Mutex<Option<Uuid>>,
    alarmed: Mutex<Option<Instant>>,
    rejections: OncePer,
    lines: Lines,
}

impl Spooling {
    #[cfg(any(feature = "spool", all(test, feature = "memory")))]
    pub(crate) fn new(outbox: Arc<dyn Outbox>, behaviour: Behaviour, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            meter: SpoolMeter::new(),
            outbox,
            behaviour,
            clock,
            woken: Notify::new(),
            freed: Notify::new(),
            calls: RwLock::new(()),
            steps: tokio::sync::Mutex::new(()),
            spooled: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            replayed: Mutex::default(),
            foreign: Mutex::default(),
            alarmed: Mutex::default(),
            rejections: OncePer::new(BETWEEN_WARNINGS),
            lines: Lines::new(),
        })
    }

    pub(crate) fn status(&self) -> OutboxStatus {
        self.outbox.status()
    }

    /// Tells the task that empties it that it may go on.
    pub(crate) fn wake(&self) {
        self.woken.notify_one();
    }

    /// Keeps updates; `Spooled` means that they are on the disk.
    ///
    /// # Errors
    /// `Full` where there is no room, or was none in time; whatever the disk says.
    pub(crate) async fn keep(&self, claims: &[Claim], begun: Instant) -> Result<Vec<Outcome>> {
        // What the database took of the time of the call is not there to wait for room.
        let end = end_of(self.behaviour.patience.saturating_sub(begun.elapsed()));
        let updates = claims.len() as u64;
        loop {
            // From before the try, so that room that is made meanwhile is not missed.
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            let error = match self.outbox.push(claims, self.clock.now()).await {
                Ok(()) => {
                    self.spooled.fetch_add(updates, Ordering::Relaxed);
                    self.meter.tell(&self.health());
                    return Ok(vec![Outcome::Spooled; claims.len()]);
                }
                Err(error) => error,
            };
            let left = end.saturating_duration_since(Instant::now());
            let waits = self.behaviour.when_full == WhenFull::Wait && error.kind() == ErrorKind::Full;
            if !waits || left.is_zero() {
                self.rejected.fetch_add(updates, Ordering::Relaxed);
                return Err(error);
            }
            // Room or not, it is tried again.
            let _ = timeout(left.min(LOOK), freed).await;
        }
    }

    /// # Errors
    /// `Unavailable` while anything waits: the database would answer with what was.
    pub(crate) fn refuse_reads(&self, operation: &'static str) -> Result<()> {
        let waiting = self.status().waiting;
        if waiting == 0 {
            return Ok(());
        }
        let what = format!(
            "the spool holds {waiting} updates that are not in the database yet; read when they are, or ask for the \
             database as it stands (Persist::backend_as_it_stands)"
        );
        Err(Error::new(ErrorKind::Unavailable, what).during(operation))
    }

    /// Takes one step of emptying it into this database: the number behind which the next begins.
    pub(crate) async fn step(&self, driver: &dyn PersistBackend, after: u64) -> Result<Option<u64>, Met> {
        let mut replayed = Replayed::default();
        let next = step(&*self.outbox, driver, after, &mut replayed, &self.lines).await;
        self.replayed.lock().add(&replayed);
        if replayed.taken + replayed.dead > 0 {
            self.freed.notify_waiters();
            self.meter.tell(&self.health());
        }
        next
    }

    /// Loudly, and not in the turn of another line: these updates are nowhere.
    pub(crate) fn tell_rejected(&self, error: &Error) {
        let kind = error.kind().name();
        let what = "the spool can't take updates: their callers have the error";
        match self.rejections.pass() {
            Some(held_back) => tracing::error!(kind, %error, held_back, "{what}"),
            None => tracing::debug!(kind, %error, "{what}"),
        }
    }

    pub(crate) fn taken(&self) -> u64 {
        self.replayed.lock().taken
    }

    /// Notes which store answered in place of its own, or that its own does again.
    pub(crate) fn note_foreign(&self, error: Option<&Error>) {
        let store = error
            .filter(|error| error.context("bound_to").is_some())
            .and_then(|error| error.context("instance_id")?.parse().ok());
        *self.foreign.lock() = store;
    }

    /// Loudly, once in each interval, while something waits for longer than it should.
    pub(crate) fn look_at_age(&self) {
        let health = self.health();
        self.meter.tell(&health);
        if !health.overdue {
            return;
        }
        let mut alarmed = self.alarmed.lock();
        if alarmed.is_some_and(|last| last.elapsed() < BETWEEN_WARNINGS) {
            return;
        }
        *alarmed = Some(Instant::now());
        let age = Duration::from_micros(health.oldest_age_us.unwrap_or_default());
        tracing::error!(
            waiting = health.held.waiting,
            bytes = health.held.bytes,
            age_s = age.as_secs(),
            max_age_s = self.behaviour.max_age.as_secs(),
            "updates wait in the spool for too long; nothing of them is dropped"
        );
    }

    /// How often the age is looked at.
    pub(crate) fn tick(&self) -> Duration {
        self.behaviour
            .max_age
            .clamp(Duration::from_secs(1), BETWEEN_WARNINGS)
    }

    pub(crate) fn health(&self) -> SpoolHealth {
        let mut health = SpoolHealth::default();
        health.held = self.status();
        // A clock that was set back makes nothing older than it is.
        let age = health
            .held
            .oldest
            .map(|oldest| (self.clock.now() - oldest).to_std().unwrap_or_default());
        health.oldest_age_us = age.map(|age| u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
        health.overdue = age.is_some_and(|age| age > self.behaviour.max_age);
        health.foreign = *self.foreign.lock();
        health.spooled = self.spooled.load(Ordering::Relaxed);
        health.rejected = self.rejected.load(Ordering::Relaxed);
        let replayed = self.replayed.lock();
        (health.replayed, health.refused) = (replayed.taken, replayed.refused);
        health
    }

    /// Waits for the calls that were accepted, and empties it into this database as far as there is time.
    pub(crate) async fn finish(&self, driver: Option<&dyn PersistBackend>) {
        // A call that its caller does not poll any more must not hold up the end.
        let _calls = timeout(self.behaviour.patience.saturating_mul(2), self.calls.write()).await;
        let Some(driver) = driver else { return };
        let emptying = async {
            let _steps = self.steps.lock().await;
            let mut after = 0;
            while let Some(next) = self.step(driver, after).await? {
                after = next;
            }
            Ok::<_, Met>(())
        };
        match timeout(self.behaviour.patience, emptying).await {
            Ok(Ok(())) => {}
            Ok(Err(met)) => tracing::warn!(error = %met.error(), "closing could not empty the spool"),
            Err(_) => tracing::warn!("closing had no time to empty the spool"),
        }
    }

    /// Lets go of the file, and tells what stays in it.
    pub(crate) async fn close(&self) {
        self.meter.close();
        self.outbox.close().await;
        let OutboxStatus { waiting, dead, .. } = self.status();
        if waiting > 0 {
            tracing::warn!(
                waiting,
                dead,
                "updates stay in the spool; the next start replays them"
            );
        }
    }
}
