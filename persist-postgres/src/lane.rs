//! The connections of one sort of work: how many may be in use at once, and those that rest.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use persist_core::metrics::{InUse, PoolMeter};
use persist_core::{Error, ErrorKind, Result};
use sqlx::Connection as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::session::Session;

const LIFETIME: Duration = Duration::from_secs(300);
/// A connection that was idle for longer is asked whether it lives: firewalls forget without a word.
const QUIET: Duration = Duration::from_secs(30);
const ASK: Duration = Duration::from_millis(1_000);

/// Connections of one sort of work. Reads have a lane and updates another, so that neither takes the other's warm
/// ones.
pub(crate) struct Lane {
    size: usize,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Live>>,
    closed: AtomicBool,
    meter: PoolMeter,
}

/// A connection, and what tells whether it may be trusted.
pub(crate) struct Live {
    pub(crate) session: Session,
    born: Instant,
    used: Instant,
    lifetime: Duration,
    generation: u64,
    /// Whether it must answer before it is used.
    is_doubted: bool,
}

/// The right to one connection of a lane, until it is dropped.
pub(crate) struct Permit {
    _permit: OwnedSemaphorePermit,
    _in_use: InUse,
}

impl Live {
    pub(crate) fn new(session: Session, generation: u64) -> Self {
        let now = Instant::now();
        Self {
            session,
            born: now,
            used: now,
            // Spread, so that connections made together are not made anew together.
            lifetime: LIFETIME.mul_f64(rand::random_range(0.9..1.1)),
            generation,
            is_doubted: false,
        }
    }

    fn is_trusted(&self) -> bool {
        !self.is_doubted && self.used.elapsed() <= QUIET
    }

    async fn answers(&mut self, end: Instant) -> bool {
        let ask = (Instant::now() + ASK).min(end);
        matches!(timeout_at(ask, self.session.connection.ping()).await, Ok(Ok(())))
    }
}

impl Lane {
    /// For this sort of work, named as the metrics name it.
    pub(crate) fn new(name: &'static str, size: usize) -> Self {
        Self {
            meter: PoolMeter::new("postgres", name, size),
            size,
            permits: Arc::new(Semaphore::new(size)),
            idle: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// # Errors
    /// `Busy` where none became free in time, `Closed` after `close`.
    pub(crate) async fn permit(&self, end: Instant) -> Result<Permit> {
        let _waiter = self.meter.waiter();
        match timeout_at(end, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Permit {
                _permit: permit,
                _in_use: self.meter.in_use(),
            }),
            Ok(Err(_)) => Err(closed()),
            Err(_) => {
                let (size, waiting) = (self.size, self.meter.waiters());
                let what = format!(
                    "no connection became free in time: pool of {size}, all in use, {waiting} waiting"
                );
                let error = Error::new(ErrorKind::Busy, what);
                Err(error.with("pool", size).with("waiting", waiting))
            }
        }
    }

    /// One that rests, of this generation, and lives.
    pub(crate) async fn resting(&self, generation: u64, end: Instant) -> Option<Live> {
        loop {
            let mut live = self.pop(generation)?;
            if live.is_trusted() || live.answers(end).await {
                return Some(live);
            }
            // The like of it are not asked: each would cost a second.
            self.idle().retain(Live::is_trusted);
        }
    }

    fn pop(&self, generation: u64) -> Option<Live> {
        let (mut idle, now) = (self.idle(), Instant::now());
        // The one used last is the one that surely lives; old ones at the bottom leave by their age.
        idle.retain(|live| live.generation == generation && now - live.born < live.lifetime);
        idle.pop()
    }

    /// Keeps it for the next call, unless it is broken.
    pub(crate) fn rest(&self, mut live: Live) {
        (live.used, live.is_doubted) = (Instant::now(), false);
        if !live.session.is_broken && !self.closed.load(Ordering::Acquire) {
            self.idle().push(live);
        }
    }

    /// Has each that rests asked before it is used.
    pub(crate) fn doubt_all(&self) {
        for live in self.idle().iter_mut() {
            live.is_doubted = true;
        }
    }

    pub(crate) fn forget_all(&self) {
        self.idle().clear();
    }

    pub(crate) fn forget_oldest(&self) {
        let mut idle = self.idle();
        if !idle.is_empty() {
            idle.remove(0);
        }
    }

    /// Waits for all that is in use, which ends by its deadline, and lets go of the connections.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // An error means that somebody else closed it.
        let all = u32::try_from(self.size).unwrap_or(u32::MAX);
        let _all = self.permits.acquire_many(all).await;
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle());
        for live in idle {
            let _ = timeout(ASK, live.session.connection.close()).await;
        }
        self.meter.close();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Live>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the backend was closed")
}
