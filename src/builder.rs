//! How a [`Persist`] comes up, and what it does while the database is away.

use std::sync::Arc;
use std::time::Duration;

use persist_core::layer::{Deadlined, OncePer, Retrying};
use persist_core::{
    Clock, DbUrl, Deadlines, Error, ErrorKind, Pace, PersistBackend, Result, SqliteMode, SystemClock, end_of,
    metrics,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::connector::{Brought, Connector, Location};
use crate::heal::{BETWEEN_WARNINGS, backoff};
use crate::persist::Persist;
use crate::powers::Powers;
use crate::scheme::{OpenOptions, check_compiled_in};
#[cfg(feature = "spool")]
use crate::spool::Spool;
#[cfg(any(feature = "spool", all(test, feature = "memory")))]
use crate::spool::Spooling;
use crate::switch::{Only, Switch};

/// What to do while the database is away. A misconfiguration (password, database, rights, a newer schema) is
/// no outage: with `Fail`, `Retry` and `Spool` it ends `connect` at once.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnUnavailable {
    /// `connect` and every call fail as soon as it is known.
    Fail,
    /// `connect` waits, and every call retries, for at most this long.
    Retry {
        /// For `connect`, and for each call from its start.
        within: Duration,
    },
    /// History is optional: `connect` succeeds whatever happens, updates are dropped and counted, reads are
    /// `Unavailable`, and a background task turns persistence on when the database answers.
    BestEffort,
    /// Nothing is lost and nothing waits: `connect` succeeds while the database is away, updates that it can't take go
    /// to a local file and are replayed when it answers again, beside new ones, which go direct. Every failure but
    /// `InvalidInput` spools, unknown outcomes included. Reads are `Unavailable` while anything waits.
    #[cfg(feature = "spool")]
    Spool(Spool),
}

impl Default for OnUnavailable {
    /// `Retry` within 30 seconds.
    fn default() -> Self {
        Self::Retry {
            within: Duration::from_secs(30),
        }
    }
}

/// A call that takes longer is told in the log, unless another time is set.
const SLOW: Duration = Duration::from_secs(1);

/// Made by [`Persist::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it connects"]
pub struct Builder {
    /// Kept as a secret: it is shown by nobody before it is parsed.
    url: Option<SecretString>,
    /// In place of the URL.
    brought: Option<Arc<dyn PersistBackend>>,
    on_unavailable: OnUnavailable,
    actor: Option<String>,
    options: OpenOptions,
    migrate: bool,
    clock: Arc<dyn Clock>,
    slow: Duration,
    look_every: Duration,
}

impl Builder {
    pub(crate) fn new(url: Option<String>) -> Self {
        Self {
            url: url.map(SecretString::from),
            brought: None,
            on_unavailable: OnUnavailable::default(),
            actor: None,
            options: OpenOptions::default(),
            migrate: true,
            clock: Arc::new(SystemClock),
            slow: SLOW,
            look_every: Pace::LONGEST,
        }
    }

    pub(crate) fn over(backend: Arc<dyn PersistBackend>) -> Self {
        Self {
            brought: Some(backend),
            ..Self::new(None)
        }
    }

    /// What to do while the database is away; [`OnUnavailable::Retry`] unless set.
    pub fn on_unavailable(mut self, on_unavailable: OnUnavailable) -> Self {
        self.on_unavailable = on_unavailable;
        self
    }

    /// Who reports, on updates that name no one.
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// Deadlines of every call.
    pub fn deadlines(mut self, deadlines: Deadlines) -> Self {
        self.options.deadlines = deadlines;
        self
    }

    /// Most connections beside those of updates, which are 4 on Postgres and 1 on SQLite; the driver's default (8)
    /// unless set.
    pub fn connections(mut self, connections: u32) -> Self {
        self.options.connections = Some(connections);
        self
    }

    /// Whether `connect` brings the schema up; otherwise it only checks it, and makes no file. On unless set. Where that fails, for want of rights
    /// for instance, a store that lacks only what is optional is used as it is, with a warning.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Stamps updates without a time; the system's clock unless set.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// From which time on a call is told in the log as slow, with its waiting and its retries: 1 s unless set. There is one
    /// such line in ten seconds, with the operation, the time and how many others it stands for, and no value of a row.
    pub fn slow_after(mut self, time: Duration) -> Self {
        self.slow = time;
        self
    }

    /// How often the store is asked for changes while anybody watches and nothing comes: at least every second unless set, and
    /// no more often than every 20 ms. After a change, and after what this process has written, it is asked sooner.
    pub fn look_every(mut self, time: Duration) -> Self {
        self.look_every = time;
        self
    }

    /// Connects, and brings the schema up or checks it. Without a URL, or with `none:`, persistence is off.
    ///
    /// # Errors
    /// `InvalidUrl` for a URL that can't be parsed and for a backend that is not compiled in; with `Fail` and
    /// `Retry` also whatever connecting and migrating met; with `Spool` a misconfiguration, and a spool that can't be
    /// opened, as one that another process has.
    pub async fn connect(self) -> Result<Persist> {
        metrics::describe();
        if let Some(backend) = &self.brought {
            let connector = self.connector_over(Arc::clone(backend));
            return self.connect_by(connector).await;
        }
        let url = match self.url.as_ref().map(|url| url.expose_secret().trim()) {
            None | Some("") => DbUrl::None,
            Some(text) => text.parse()?,
        };
        let url = self.no_more_than_there_is(url);
        check_compiled_in(&url)?;
        if matches!(url, DbUrl::None) {
            tracing::info!("persistence is off: no database URL is set");
            return Ok(Persist::over(
                Switch::disabled(Arc::clone(&self.clock)),
                self.clock,
                self.actor,
                self.slow,
                self.look_every,
            ));
        }
        let read_only = matches!(&url, DbUrl::Sqlite(url) if url.mode == SqliteMode::ReadOnly);
        #[cfg(feature = "spool")]
        if read_only && matches!(self.on_unavailable, OnUnavailable::Spool(_)) {
            let what = "database URL: mode=ro takes no updates, and a spool would keep them for ever";
            return Err(Error::new(ErrorKind::InvalidUrl, what).during("connect"));
        }
        let connector = Connector {
            name: url.backend(),
            powers: Powers::of_url(&url),
            migrate: self.migrate && !read_only,
            lasting: !matches!(&url, DbUrl::Memory(_))
                && !matches!(&url, DbUrl::Sqlite(url) if url.path.is_none()),
            reopens: matches!(&url, DbUrl::Postgres(_)),
            within: self.options.deadlines.connect,
            outbox: None,
            open: Arc::new(Location {
                url,
                options: self.options.clone(),
            }),
        };
        self.connect_by(connector).await
    }

    /// A file without a schema is of no use to who may not make one.
    fn no_more_than_there_is(&self, mut url: DbUrl) -> DbUrl {
        if let DbUrl::Sqlite(url) = &mut url
            && url.path.is_some()
            && url.mode == SqliteMode::Create
            && !self.migrate
        {
            url.mode = SqliteMode::ReadWrite;
        }
        url
    }

    /// It is there, and stays the only one: what `revive` finds dead can't be opened anew.
    fn connector_over(&self, backend: Arc<dyn PersistBackend>) -> Connector {
        let deadlines = self.options.deadlines;
        Connector {
            name: backend.name(),
            powers: Powers::of(&*backend),
            migrate: self.migrate,
            lasting: false,
            reopens: false,
            within: deadlines.connect,
            outbox: None,
            open: Arc::new(Brought(Arc::new(Deadlined::over(backend, deadlines)))),
        }
    }

    pub(crate) async fn connect_by(self, connector: Connector) -> Result<Persist> {
        let clock = Arc::clone(&self.clock);
        let powers = connector.powers;
        let switch = match self.on_unavailable {
            OnUnavailable::Fail => {
                let driver = connector.connect(Duration::MAX).await?;
                Switch::strict(Only::Plain(driver), powers, clock)
            }
            OnUnavailable::Retry { within } => {
                let driver = wait(&connector, within).await?;
                let trusted = Retrying::over(driver, within).trusting(&self.options.deadlines);
                Switch::strict(Only::Retrying(Arc::new(trusted)), powers, clock)
            }
            OnUnavailable::BestEffort => {
                let connector = Arc::new(connector);
                let first = first(&connector, &self.options.deadlines).await;
                Switch::healing(first, connector, None, clock)
            }
            #[cfg(feature = "spool")]
            OnUnavailable::Spool(spool) => {
                let deadlines = &self.options.deadlines;
                let outbox = Arc::new(spool.open(*deadlines).await?);
                let spooling = Spooling::new(outbox, spool.behaviour(deadlines), Arc::clone(&clock));
                spooled(connector, spooling, deadlines, clock).await?
            }
        };
        let mut close = self.options.deadlines.close();
        if switch.spool.is_some() {
            // Calls that are on their way to the spool, and what of it the database takes yet.
            close = close.saturating_add(self.options.deadlines.write.saturating_mul(3));
        }
        switch.closes_within(close);
        Ok(Persist::over(
            switch,
            self.clock,
            self.actor,
            self.slow,
            self.look_every,
        ))
    }
}

/// The first try to connect, which does not hang on a server that froze while migrating: it goes on in the background.
async fn first(connector: &Arc<Connector>, deadlines: &Deadlines) -> Result<Arc<dyn PersistBackend>> {
    // A task of its own: a driver that panics is a driver that could not be connected.
    let trying = Arc::clone(connector);
    // It ends with this call, also when that is dropped: it holds what the next one wants.
    let mut first = JoinSet::new();
    first.spawn(async move { trying.connect(Duration::MAX).await });
    let longest = deadlines.connect.saturating_add(deadlines.migration);
    match timeout(longest, first.join_next()).await {
        Ok(Some(Ok(first))) => first,
        Ok(_) => {
            let panicked = "the driver panicked while connecting";
            Err(Error::new(ErrorKind::Internal, panicked))
        }
        Err(_) => Err(Error::deadline("connect", longest)),
    }
}

/// A switch that keeps in the spool what the database can't take.
///
/// # Errors
/// A misconfiguration: it does not heal, and filling a disk would only hide it.
#[cfg(any(feature = "spool", all(test, feature = "memory")))]
pub(crate) async fn spooled(
    mut connector: Connector,
    spooling: Arc<Spooling>,
    deadlines: &Deadlines,
    clock: Arc<dyn Clock>,
) -> Result<Arc<Switch>> {
    connector.outbox = Some(Arc::clone(&spooling.outbox));
    let connector = Arc::new(connector);
    let first = first(&connector, deadlines).await;
    if let Err(error) = &first
        && is_misconfigured(error, connector.name)
    {
        spooling.close().await;
        return Err(error.clone());
    }
    Ok(Switch::healing(first, connector, Some(spooling), clock))
}

#[cfg(any(feature = "spool", all(test, feature = "memory")))]
fn is_misconfigured(error: &Error, backend: &str) -> bool {
    match error.kind() {
        // A server may be a standby today, and restored tomorrow; a file stays what it is.
        ErrorKind::ReadOnly | ErrorKind::Corrupt => backend == "sqlite",
        ErrorKind::InvalidUrl | ErrorKind::Auth | ErrorKind::SchemaMismatch | ErrorKind::Unsupported => true,
        // What is away heals by waiting; a name mistyped does not.
        ErrorKind::Unavailable => !error.is_retryable(),
        _ => false,
    }
}

async fn wait(connector: &Connector, within: Duration) -> Result<Arc<dyn PersistBackend>> {
    let end = end_of(within);
    let mut delays = backoff();
    let line = OncePer::new(BETWEEN_WARNINGS);
    loop {
        let error = match connector
            .connect(end.saturating_duration_since(Instant::now()))
            .await
        {
            Ok(driver) => return Ok(driver),
            Err(error) => error,
        };
        let delay = delays.next().unwrap_or(within);
        if !error.is_retryable() || end.saturating_duration_since(Instant::now()) <= delay {
            return Err(error);
        }
        let kind = error.kind().name();
        match line.pass() {
            Some(held_back) => {
                tracing::warn!(kind, %error, held_back, "the database is away; waiting for it");
            }
            None => tracing::debug!(kind, %error, "the database is away; waiting for it"),
        }
        tokio::time::sleep(delay).await;
    }
}
