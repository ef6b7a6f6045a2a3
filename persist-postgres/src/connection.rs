//! Connections: a small pool, and the one way in which every operation runs on it.
//!
//! sqlx's pool is not used. It pings at every release (a second round trip for each point read, without a
//! deadline: one vanished server and the pool is drained for good), and it hides why a connection could not
//! be made behind one "timed out". This one knows four things: a bound, an age, a generation, and that a
//! connection on which anything went wrong is never used again.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use persist_core::{Error, ErrorKind, Result, Retry, UpdateOutcome, end_of};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::config::PostgresConfig;
use crate::error::{Phase, classify};
use crate::session::{Session, keeps_connection};

/// A future that borrows the session it works on.
pub(crate) type Work<'s, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 's>>;

/// Whether an operation's statements must agree with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Each statement stands for itself.
    Single,
    /// All commit together.
    Transaction,
}

const LIFETIME: Duration = Duration::from_secs(300);
/// A connection that was idle for longer is asked whether it lives: firewalls forget without a word.
const QUIET: Duration = Duration::from_secs(30);
const ASK: Duration = Duration::from_millis(1_000);
const MOST_AT_ONCE: u64 = 20;

/// The connections of one backend.
pub(crate) struct Pool {
    options: PgConnectOptions,
    target: String,
    size: u32,
    begin: Arc<str>,
    /// How long a call waits for a connection at most, however long its own deadline is.
    patience: Duration,
    pooler: bool,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Live>>,
    /// Raised when connections made so far can't be trusted: their server may have been demoted.
    generation: AtomicU64,
    closed: AtomicBool,
}

struct Live {
    session: Session,
    born: Instant,
    used: Instant,
    lifetime: Duration,
    generation: u64,
}

/// A connection in use. Dropped, it is cut: only [`Lease::give_back`] keeps it.
struct Lease {
    live: Live,
    fresh: bool,
    _permit: OwnedSemaphorePermit,
}

/// What the tries of one call have met so far.
#[derive(Default)]
struct Tries {
    /// Whether there is to be another one.
    again: bool,
    /// Whether only a new connection will do.
    fresh: bool,
    /// Whether it was cancelled once.
    cancelled: bool,
    /// Whether it may have been applied.
    unknown: bool,
    at_once: u64,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("target", &self.target)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool without any connection yet.
    ///
    /// # Errors
    /// `InvalidUrl` for settings that can't be used.
    pub(crate) fn new(config: &PostgresConfig) -> Result<Arc<Self>> {
        let options = config.connect_options()?;
        let settings = config.server_timeouts();
        let local: String = settings
            .iter()
            .map(|(name, time)| format!("SET LOCAL {name} = '{}ms'; ", time.as_millis()))
            .collect();
        // Behind a pooler nothing but the transaction itself is ours.
        let begin = if config.url.pooler {
            format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = on; SET LOCAL jit = off; {local}"
            )
        } else {
            "BEGIN".to_owned()
        };
        let size = config.connections;
        Ok(Arc::new(Self {
            target: format!("{}:{}", options.get_host(), options.get_port()),
            options,
            size,
            begin: begin.into(),
            patience: config.deadlines.connect,
            pooler: config.url.pooler,
            permits: Arc::new(Semaphore::new(size as usize)),
            idle: Mutex::new(Vec::new()),
            generation: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }))
    }

    /// Runs `work` on a connection, in a task of its own with its deadline inside: a caller that goes away
    /// leaves no half statement and no open transaction behind.
    pub(crate) async fn run<T, W>(
        self: &Arc<Self>,
        operation: &'static str,
        deadline: Duration,
        scope: Scope,
        work: W,
    ) -> Result<T>
    where
        T: Send + 'static,
        W: for<'s> Fn(&'s mut Session) -> Work<'s, T> + Send + Sync + 'static,
    {
        self.refuse_closed().map_err(|error| error.during(operation))?;
        let pool = Arc::clone(self);
        let task = tokio::spawn(async move { pool.attempts(deadline, scope, &work).await });
        let result = task.await.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::OutcomeUnknown,
                "the task of the call ended before the answer came",
            ))
        });
        result.map_err(|error| error.during(operation))
    }

    async fn attempts<T, W>(&self, deadline: Duration, scope: Scope, work: &W) -> Result<T>
    where
        W: for<'s> Fn(&'s mut Session) -> Work<'s, T> + Send + Sync,
    {
        let end = end_of(deadline);
        let mut tries = Tries::default();
        loop {
            match self.attempt(end, deadline, scope, work, &mut tries).await {
                Ok(value) => return Ok(value),
                Err(error) if tries.again => tracing::debug!(kind = error.kind().name(), "calling again"),
                // Once it may have been applied, no later failure says that it certainly was not.
                Err(error) if tries.unknown => return Err(error.outcome_as(UpdateOutcome::Unknown)),
                Err(error) => return Err(error),
            }
        }
    }

    /// One try; `tries` says afterwards whether there is to be another one.
    async fn attempt<T, W>(
        &self,
        end: Instant,
        deadline: Duration,
        scope: Scope,
        work: &W,
        tries: &mut Tries,
    ) -> Result<T>
    where
        W: for<'s> Fn(&'s mut Session) -> Work<'s, T> + Send + Sync,
    {
        tries.again = false;
        let mut lease = self.acquire(end.min(end_of(self.patience)), tries.fresh).await?;
        let Ok(answer) = timeout_at(end, call(&mut lease.live.session, scope, work)).await else {
            let what = format!("no answer within {} ms", deadline.as_millis());
            return Err(Error::new(ErrorKind::Timeout, what));
        };
        let error = match answer {
            Ok(value) => {
                self.give_back(lease);
                return Ok(value);
            }
            Err(error) => error,
        };
        tries.unknown |= error.outcome() == UpdateOutcome::Unknown && error.kind() != ErrorKind::Timeout;
        let was_fresh = lease.fresh;
        if keeps_connection(&error) {
            self.give_back(lease);
        } else if matches!(error.kind(), ErrorKind::ReadOnly | ErrorKind::OutcomeUnknown) {
            self.forget_idle();
        }
        let is = |code| error.context("sqlstate") == Some(code);
        // What an old connection did not know, a new one may: a server that restarted, a changed table,
        // a prepared statement that went.
        let is_settings = error.retry() == Retry::Now && error.kind() != ErrorKind::Busy;
        let stale = error.kind() == ErrorKind::OutcomeUnknown && !was_fresh || is_settings || is("25P02");
        if stale && !tries.fresh {
            tries.fresh = true;
            tries.again = true;
            return Err(error);
        }
        if is_settings {
            // The same on a new connection: it is set up so, and trying on hides it.
            return Err(error.retry_as(Retry::Never));
        }
        if is("57014") && !tries.cancelled {
            tries.cancelled = true;
            tries.again = Instant::now() < end;
            return Err(error);
        }
        let pause = Duration::from_micros(rand::random_range(0..=2_000 * (tries.at_once + 1)));
        if error.retry() == Retry::Now
            && tries.at_once < MOST_AT_ONCE
            && end.saturating_duration_since(Instant::now()) > pause
        {
            tries.at_once += 1;
            tries.again = true;
            tokio::time::sleep(pause).await;
        }
        Err(error)
    }

    async fn acquire(&self, end: Instant, fresh: bool) -> Result<Lease> {
        let permit = match timeout_at(end, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(closed()),
            Err(_) => {
                let what = format!(
                    "no connection became free in time: pool of {}, all in use",
                    self.size
                );
                return Err(Error::new(ErrorKind::Busy, what).with("pool", self.size));
            }
        };
        while !fresh && let Some(mut live) = self.pop_idle() {
            if live.used.elapsed() > QUIET {
                let ask = (Instant::now() + ASK).min(end);
                if !matches!(timeout_at(ask, live.session.connection.ping()).await, Ok(Ok(()))) {
                    // Those that were quiet as long are not asked: each would cost a second.
                    self.forget_quiet();
                    continue;
                }
            }
            return Ok(Lease {
                live,
                fresh: false,
                _permit: permit,
            });
        }
        let generation = self.generation.load(Ordering::Acquire);
        let session = timeout_at(end, self.connect()).await.unwrap_or_else(|_| {
            let what = format!(
                "no connection to {} in time; check host, port and the server",
                self.target
            );
            Err(Error::new(ErrorKind::Timeout, what).outcome_as(UpdateOutcome::NotApplied))
        })?;
        let now = Instant::now();
        // Spread, so that connections made together are not made anew together.
        let lifetime = LIFETIME.mul_f64(rand::random_range(0.9..1.1));
        Ok(Lease {
            live: Live {
                session,
                born: now,
                used: now,
                lifetime,
                generation,
            },
            fresh: true,
            _permit: permit,
        })
    }

    fn pop_idle(&self) -> Option<Live> {
        let generation = self.generation.load(Ordering::Acquire);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // The one used last is the one that surely lives; old ones at the bottom leave by their age.
        idle.retain(|live| live.generation == generation && live.born.elapsed() < live.lifetime);
        idle.pop()
    }

    fn give_back(&self, lease: Lease) {
        let Lease {
            mut live, _permit, ..
        } = lease;
        live.used = Instant::now();
        if !live.session.is_broken && !self.closed.load(Ordering::Acquire) {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(live);
        }
    }

    fn forget_idle(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn forget_quiet(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|live| live.used.elapsed() <= QUIET);
    }

    async fn connect(&self) -> Result<Session> {
        let connection = self.options.connect().await.map_err(|error| match &error {
            sqlx::Error::Io(cause) => {
                let what = format!(
                    "can't reach {}; check host and port, and that the server is up",
                    self.target
                );
                Error::new(ErrorKind::Unavailable, what).caused_by(std::io::Error::from(cause.kind()))
            }
            _ => classify(&error, Phase::Connect),
        })?;
        let mut session = Session::new(connection, self.pooler, Arc::clone(&self.begin));
        session.check().await?;
        Ok(session)
    }

    /// # Errors
    /// `Closed` after `close`.
    pub(crate) fn refuse_closed(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            Err(closed())
        } else {
            Ok(())
        }
    }

    /// Makes one connection, to learn early what is wrong.
    pub(crate) async fn probe(&self, deadline: Duration) -> Result<()> {
        let lease = self.acquire(end_of(deadline), false).await?;
        self.give_back(lease);
        Ok(())
    }

    /// Refuses new calls, waits for accepted ones, and lets go of the connections.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // Every call ends by its deadline, so this does too. An error means that somebody else closed it.
        let _all = self.permits.acquire_many(self.size).await;
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for live in idle {
            let _ = tokio::time::timeout(ASK, live.session.connection.close()).await;
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the backend was closed")
}

async fn call<T, W>(session: &mut Session, scope: Scope, work: &W) -> Result<T>
where
    W: for<'s> Fn(&'s mut Session) -> Work<'s, T>,
{
    match scope {
        Scope::Single => work(session).await,
        Scope::Transaction => {
            session.begin().await?;
            let result = work(session).await;
            session.end(result).await
        }
    }
}
