//! Connections: a small pool, and the one way in which every operation runs on it.
//!
//! sqlx's pool is not used. It pings at every release (a second round trip for each point read, without a
//! deadline: one vanished server and the pool is drained for good), and it hides why a connection could not
//! be made behind one "timed out". This one knows four things: a bound, an age, a generation, and that a
//! connection on which anything went wrong is never used again.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use persist_core::{Error, ErrorKind, FLUSHERS, Result, UpdateOutcome, end_of, metrics};
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgRow};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::{PLANNER, PostgresConfig};
use crate::error::{Phase, classify, needs_pooler};
use crate::lane::{Lane, Live, Permit, closed};
use crate::session::{Session, keeps_connection};
use crate::tls::{self, Files};
use crate::tries::Tries;

/// A future that borrows the session it works on.
pub(crate) type Work<'s, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 's>>;

/// Whether an operation's statements must agree with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Each statement stands for itself.
    Single,
    /// So does each of a batch of updates; it runs on a connection that nothing else may take, so that slow reads
    /// never keep updates waiting.
    Flush,
    /// All commit together.
    Transaction,
}

/// The connections of one backend.
pub(crate) struct Pool {
    options: PgConnectOptions,
    /// The same without settings of the session.
    bare: PgConnectOptions,
    files: Files,
    target: String,
    begin: Arc<str>,
    /// How long a call waits for a connection at most, however long its own deadline is.
    patience: Duration,
    /// How long it waits for the beginning of a transaction, which nothing holds up but a server that froze.
    answer: Duration,
    pooler: bool,
    calls: Lane,
    flushes: Lane,
    /// Raised when connections made so far can't be trusted: their server may have been demoted.
    generation: AtomicU64,
    closed: AtomicBool,
}

/// A connection in use. Dropped, it is cut: only [`Lane::rest`] keeps it.
struct Lease {
    live: Live,
    fresh: bool,
    _permit: Permit,
}

/// How a try ended without a value.
enum Failed {
    /// There was no connection to be had, or no time left.
    Finally(Error),
    /// On a connection that had been made for this try, or before it.
    On { error: Error, was_fresh: bool },
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Finally(error)
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("target", &self.target)
            .field("calls", &self.calls.size())
            .field("flushes", &self.flushes.size())
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
            let planner: String = PLANNER
                .iter()
                .map(|(name, value)| format!("SET LOCAL {name} = {value}; "))
                .collect();
            format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = on; {planner}{local}"
            )
        } else {
            "BEGIN".to_owned()
        };
        Ok(Arc::new(Self {
            target: format!("{}:{}", options.get_host(), options.get_port()),
            options,
            bare: config.bare_options()?.0.extra_float_digits(None),
            files: config.files(),
            begin: begin.into(),
            // An update's caller gives up when its deadline ends. To hear that nothing was sent, and why, it must be told
            // before.
            patience: config.deadlines.connect.min(config.deadlines.write * 9 / 10),
            answer: config.deadlines.read,
            pooler: config.url.pooler,
            calls: Lane::new("reads", config.connections as usize),
            flushes: Lane::new("updates", FLUSHERS),
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
        let task = tokio::spawn(async move { pool.attempts(end_of(deadline), deadline, scope, &work).await });
        let result = task.await.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::OutcomeUnknown,
                "the task of the call ended before the answer came",
            ))
        });
        result.map_err(|error| error.during(operation))
    }

    /// Runs a statement that stands for itself, and may be sent again.
    pub(crate) async fn rows(
        self: &Arc<Self>,
        operation: &'static str,
        deadline: Duration,
        sql: &Arc<str>,
        arguments: PgArguments,
    ) -> Result<Vec<PgRow>> {
        let sql = Arc::clone(sql);
        self.run(operation, deadline, Scope::Single, move |session| {
            let (sql, arguments) = (Arc::clone(&sql), arguments.clone());
            Box::pin(async move { session.rows(sql, arguments).await })
        })
        .await
    }

    /// Runs `work` by a certain time, `deadline` from where the call began. Must be called in a task of its own.
    pub(crate) async fn attempts<T, W>(
        &self,
        end: Instant,
        deadline: Duration,
        scope: Scope,
        work: &W,
    ) -> Result<T>
    where
        W: for<'s> Fn(&'s mut Session) -> Work<'s, T> + Send + Sync,
    {
        let mut tries = Tries::default();
        loop {
            let fresh = tries.takes_fresh();
            let (error, was_fresh) = match self.attempt(end, deadline, scope, work, fresh).await {
                Ok(value) => return Ok(value),
                Err(Failed::Finally(error)) => return Err(tries.last(error)),
                Err(Failed::On { error, was_fresh }) => (error, was_fresh),
            };
            let kind = error.kind();
            let left = end.saturating_duration_since(Instant::now());
            let pause = tries.again(error, was_fresh, left)?;
            tracing::debug!(kind = kind.name(), "calling again");
            metrics::retried("postgres", kind);
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt<T, W>(
        &self,
        end: Instant,
        deadline: Duration,
        scope: Scope,
        work: &W,
        fresh: bool,
    ) -> Result<T, Failed>
    where
        W: for<'s> Fn(&'s mut Session) -> Work<'s, T> + Send + Sync,
    {
        let mut lease = self.acquire(scope, end.min(end_of(self.patience)), fresh).await?;
        let called = call(&mut lease.live.session, scope, self.answer, work);
        let Ok(answer) = timeout_at(end, called).await else {
            // A server that vanished says nothing on the others either: they are asked before they are used.
            self.flushes.doubt_all();
            self.calls.doubt_all();
            let what = format!("no answer within {} ms", deadline.as_millis());
            return Err(Error::new(ErrorKind::Timeout, what).into());
        };
        let error = match answer {
            Ok(value) => {
                self.lane(scope).rest(lease.live);
                return Ok(value);
            }
            Err(error) => error,
        };
        let was_fresh = lease.fresh;
        if keeps_connection(&error) {
            self.lane(scope).rest(lease.live);
        } else if matches!(error.kind(), ErrorKind::ReadOnly | ErrorKind::OutcomeUnknown) {
            self.forget_idle();
        }
        Err(Failed::On { error, was_fresh })
    }

    async fn acquire(&self, scope: Scope, end: Instant, fresh: bool) -> Result<Lease> {
        let lane = self.lane(scope);
        let permit = lane.permit(end).await?;
        let generation = self.generation.load(Ordering::Acquire);
        if fresh {
            // The one that is made takes the place of one that is kept.
            lane.forget_oldest();
        } else if let Some(live) = lane.resting(generation, end).await {
            return Ok(Lease {
                live,
                fresh: false,
                _permit: permit,
            });
        }
        let session = timeout_at(end, self.connect()).await.unwrap_or_else(|_| {
            let what = format!(
                "no connection to {} in time; check host, port and the server",
                self.target
            );
            Err(Error::new(ErrorKind::Timeout, what).outcome_as(UpdateOutcome::NotApplied))
        })?;
        Ok(Lease {
            live: Live::new(session, generation),
            fresh: true,
            _permit: permit,
        })
    }

    /// How connections are made.
    pub(crate) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    pub(crate) fn is_behind_pooler(&self) -> bool {
        self.pooler
    }

    fn lane(&self, scope: Scope) -> &Lane {
        match scope {
            Scope::Flush => &self.flushes,
            Scope::Single | Scope::Transaction => &self.calls,
        }
    }

    fn forget_idle(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.flushes.forget_all();
        self.calls.forget_all();
    }

    async fn connect(&self) -> Result<Session> {
        let connection = match self.options.connect().await {
            Ok(connection) => connection,
            Err(error) => return Err(self.refusal(&error).await),
        };
        let mut session = Session::new(connection, self.pooler, Arc::clone(&self.begin));
        session.check().await?;
        Ok(session)
    }

    /// Why there is no connection.
    async fn refusal(&self, error: &sqlx::Error) -> Error {
        use sqlx::Error as E;
        if let E::Io(cause) = error
            && let Some(error) = Error::out_of_files(cause)
        {
            return error;
        }
        if tls::may_be_of_files(error)
            && let Some(fault) = self.files.fault(self.options.get_ssl_mode()).await
        {
            return fault;
        }
        if let Some(refusal) = tls::refusal(error, self.options.get_host()) {
            return refusal;
        }
        if let E::Io(cause) = error {
            let what = format!(
                "can't reach {}; check host and port, and that the server is up",
                self.target
            );
            return Error::new(ErrorKind::Unavailable, what).caused_by(std::io::Error::from(cause.kind()));
        }
        let refusal = classify(error, Phase::Connect);
        // Poolers answer so to many things. Whether it is our settings shows without them.
        if refusal.context("sqlstate") == Some("08P01") && !self.pooler && self.bare.connect().await.is_ok() {
            return needs_pooler("a pooler refuses the session's settings").caused_by(refusal);
        }
        refusal
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
        let lease = self.acquire(Scope::Single, end_of(deadline), false).await?;
        self.calls.rest(lease.live);
        Ok(())
    }

    /// From now on nobody is let in who comes by [`run`](Self::run).
    pub(crate) fn refuse_new(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Refuses new calls, waits for accepted ones, and lets go of the connections.
    pub(crate) async fn close(&self) {
        self.refuse_new();
        self.flushes.close().await;
        self.calls.close().await;
    }
}

async fn call<T, W>(session: &mut Session, scope: Scope, answer: Duration, work: &W) -> Result<T>
where
    W: for<'s> Fn(&'s mut Session) -> Work<'s, T>,
{
    match scope {
        Scope::Single | Scope::Flush => work(session).await,
        Scope::Transaction => {
            let begun = timeout(answer, session.begin()).await;
            begun.unwrap_or_else(|_| {
                let what = format!(
                    "no answer within {} ms to the beginning of a transaction",
                    answer.as_millis()
                );
                Err(Error::new(ErrorKind::Timeout, what).outcome_as(UpdateOutcome::NotApplied))
            })?;
            let result = work(session).await;
            session.end(result).await
        }
    }
}
