//! The stable backend that callers hold: the driver under it comes, goes and comes back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use persist_core::{
    CHUNK, Capabilities, Claim, Clock, Down, Error, ErrorKind, Event, EventQuery, Health, Job, JobQuery,
    Mode, Outcome, Page, PersistBackend, PlannedMigration, Prune, Pruned, Result, Retry, Schema,
    SchemaStatus, Timestamp, UpdateOutcome, Vm, VmKey, VmQuery,
};
use tokio::sync::watch;
use uuid::Uuid;

use crate::connector::Connector;
use crate::heal::heal;

type Driver = Arc<dyn PersistBackend>;

#[derive(Debug)]
enum State {
    Disabled,
    Ready(Driver),
    /// With the driver that failed, if there ever was one.
    Away(Option<Driver>),
    Closed,
}

#[derive(Debug)]
struct Situation {
    state: State,
    since: Timestamp,
    last_error: Option<ErrorKind>,
}

#[derive(Debug)]
pub(crate) struct Switch {
    this: Weak<Switch>,
    situation: Mutex<Situation>,
    /// What heals; without it errors go to the caller as they are.
    connector: Option<Arc<Connector>>,
    name: &'static str,
    has_schema: bool,
    clock: Arc<dyn Clock>,
    enabled: AtomicBool,
    dropped: AtomicU64,
    unknown: AtomicU64,
    stop: watch::Sender<bool>,
}

impl Switch {
    pub(crate) fn disabled(clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::make(State::Disabled, None, "none", false, clock, None)
    }

    /// Over a driver whose errors are the caller's to see.
    pub(crate) fn strict(driver: Driver, has_schema: bool, clock: Arc<dyn Clock>) -> Arc<Self> {
        let name = driver.name();
        Self::make(State::Ready(driver), None, name, has_schema, clock, None)
    }

    /// Over the result of a first try to connect; heals itself.
    pub(crate) fn best_effort(
        first: Result<Driver>,
        connector: Arc<Connector>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let (state, error) = match first {
            Ok(driver) => (State::Ready(driver), None),
            Err(error) => {
                loud(&error, connector.name);
                (State::Away(None), Some(error.kind()))
            }
        };
        let (name, has_schema) = (connector.name, connector.has_schema);
        let switch = Self::make(state, Some(connector), name, has_schema, clock, error);
        if error.is_some() {
            switch.start_healing();
        }
        switch
    }

    fn make(
        state: State,
        connector: Option<Arc<Connector>>,
        name: &'static str,
        has_schema: bool,
        clock: Arc<dyn Clock>,
        last_error: Option<ErrorKind>,
    ) -> Arc<Self> {
        let enabled = AtomicBool::new(matches!(state, State::Ready(_)));
        let situation = Mutex::new(Situation {
            state,
            since: clock.now(),
            last_error,
        });
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            situation,
            connector,
            name,
            has_schema,
            clock,
            enabled,
            dropped: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            stop: watch::Sender::new(false),
        })
    }

    /// From the first readiness until close.
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    pub(crate) fn is_disabled(&self) -> bool {
        matches!(self.situation.lock().state, State::Disabled)
    }

    pub(crate) fn counts(&self) -> (u64, u64) {
        (
            self.dropped.load(Ordering::Relaxed),
            self.unknown.load(Ordering::Relaxed),
        )
    }

    /// Notes updates that are certainly not sent.
    pub(crate) fn drop_all(&self, updates: usize) -> Vec<Outcome> {
        self.dropped.fetch_add(updates as u64, Ordering::Relaxed);
        tracing::debug!(updates, "updates dropped");
        vec![Outcome::Dropped; updates]
    }

    pub(crate) fn resting(&self) -> Option<Driver> {
        match &self.situation.lock().state {
            State::Away(driver) => driver.clone(),
            State::Disabled | State::Ready(_) | State::Closed => None,
        }
    }

    pub(crate) fn still_away(&self, error: &Error) {
        tracing::debug!(kind = error.kind().name(), "connecting failed again");
        self.situation.lock().last_error = Some(error.kind());
    }

    /// Puts a working driver in, unless it was closed meanwhile.
    pub(crate) async fn turn_on(&self, driver: Driver) {
        let left = {
            let mut situation = self.situation.lock();
            if let State::Away(old) = &mut situation.state {
                let old = old.take().filter(|old| !Arc::ptr_eq(old, &driver));
                situation.state = State::Ready(driver);
                situation.since = self.clock.now();
                self.enabled.store(true, Ordering::Release);
                let (dropped, unknown) = self.counts();
                tracing::info!(backend = self.name, dropped, unknown, "persistence is on");
                old
            } else {
                Some(driver)
            }
        };
        if let Some(left) = left {
            // It is of no use any more, whatever it says.
            let _ = left.close().await;
        }
    }

    /// Takes a failed driver out. Only the first failure of one readiness does anything.
    fn turn_off(&self, failed: &Driver, error: &Error) {
        {
            let mut situation = self.situation.lock();
            match &situation.state {
                State::Ready(driver) if Arc::ptr_eq(driver, failed) => {}
                _ => return,
            }
            situation.state = State::Away(Some(Arc::clone(failed)));
            situation.since = self.clock.now();
            situation.last_error = Some(error.kind());
            self.start_healing();
        }
        loud(error, self.name);
    }

    fn start_healing(&self) {
        if let Some(connector) = &self.connector {
            tokio::spawn(heal(
                self.this.clone(),
                Arc::clone(connector),
                self.stop.subscribe(),
            ));
        }
    }

    /// The driver; `None` while updates are to be dropped.
    fn writer(&self) -> Result<Option<Driver>> {
        match &self.situation.lock().state {
            State::Ready(driver) => Ok(Some(Arc::clone(driver))),
            State::Disabled | State::Away(_) => Ok(None),
            State::Closed => Err(closed("apply")),
        }
    }

    /// The driver, for what can't be dropped: never an empty answer for "could not read".
    fn reader(&self, operation: &'static str) -> Result<Driver> {
        let error = match &self.situation.lock().state {
            State::Ready(driver) => return Ok(Arc::clone(driver)),
            State::Closed => return Err(closed(operation)),
            State::Disabled => Error::new(
                ErrorKind::Unavailable,
                "persistence is off: no database URL is set",
            )
            .retry_as(Retry::Never),
            State::Away(_) => Error::new(
                ErrorKind::Unavailable,
                "the database is away; trying again in the background",
            ),
        };
        Err(error.during(operation))
    }

    /// Whether an error is the caller's to handle also where history is optional.
    fn is_callers(kind: ErrorKind) -> bool {
        matches!(
            kind,
            ErrorKind::InvalidInput | ErrorKind::Closed | ErrorKind::Unsupported
        )
    }
}

fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, "this handle was closed").during(operation)
}

fn schema_of(driver: &dyn PersistBackend) -> Result<&dyn Schema> {
    driver
        .schema()
        .ok_or_else(|| Error::new(ErrorKind::Unsupported, "this backend has no schema"))
}

fn loud(error: &Error, backend: &str) {
    let mut causes = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    let kind = error.kind().name();
    tracing::error!(backend, kind, %error, ?causes, "the database is away: updates are dropped until it is back");
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait::async_trait]
impl PersistBackend for Switch {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn apply(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        if self.connector.is_none() {
            return match self.writer()? {
                Some(driver) => driver.apply(claims).await,
                None => Ok(self.drop_all(claims.len())),
            };
        }
        self.writer()?;
        let mut outcomes = Vec::with_capacity(claims.len());
        // By chunks, so that `dropped` counts none that an earlier chunk has stored.
        for chunk in claims.chunks(CHUNK) {
            let Some(driver) = self.writer()? else {
                outcomes.extend(self.drop_all(chunk.len()));
                continue;
            };
            match driver.apply(chunk).await {
                Ok(of_chunk) => outcomes.extend(of_chunk),
                Err(error) if Self::is_callers(error.kind()) => return Err(error),
                Err(error) => {
                    // A lock held too long says nothing about the next call.
                    if error.kind() != ErrorKind::Busy {
                        self.turn_off(&driver, &error);
                    }
                    match error.outcome() {
                        UpdateOutcome::NotApplied => outcomes.extend(self.drop_all(chunk.len())),
                        UpdateOutcome::Unknown => {
                            self.unknown.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                            outcomes.resize(outcomes.len() + chunk.len(), Outcome::Dropped);
                        }
                    }
                }
            }
        }
        Ok(outcomes)
    }

    async fn job(&self, id: Uuid) -> Result<Option<Job>> {
        self.reader("job")?.job(id).await
    }

    async fn vm(&self, key: &VmKey) -> Result<Option<Vm>> {
        self.reader("vm")?.vm(key).await
    }

    async fn jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        self.reader("jobs")?.jobs(query).await
    }

    async fn vms(&self, query: &VmQuery) -> Result<Page<Vm>> {
        self.reader("vms")?.vms(query).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<Event>> {
        self.reader("events")?.events(query).await
    }

    async fn prune(&self, request: &Prune) -> Result<Pruned> {
        self.reader("prune")?.prune(request).await
    }

    async fn health(&self) -> Result<Health> {
        let (mode, driver) = match &self.situation.lock().state {
            State::Disabled => (Mode::Disabled, None),
            State::Ready(driver) => (Mode::Ready, Some(Arc::clone(driver))),
            State::Away(_) => (Mode::Degraded, None),
            State::Closed => return Err(closed("health")),
        };
        let mut health = match driver {
            Some(driver) => driver.health().await?,
            None => Health::new(self.name, mode),
        };
        let situation = self.situation.lock();
        health.since = Some(situation.since);
        (health.dropped, health.unknown) = self.counts();
        Ok(health.last_error(situation.last_error))
    }

    async fn close(&self) -> Result<()> {
        let before = std::mem::replace(&mut self.situation.lock().state, State::Closed);
        self.enabled.store(false, Ordering::Release);
        self.stop.send_replace(true);
        let (State::Ready(driver) | State::Away(Some(driver))) = before else {
            return Ok(());
        };
        // In a task, so that a caller who gives up waiting does not stop the draining half-way.
        let closing = tokio::spawn(async move { driver.close().await });
        let panicked =
            |_| Err(Error::new(ErrorKind::Internal, "the driver panicked while closing").during("close"));
        closing.await.unwrap_or_else(panicked)
    }
}

impl Capabilities for Switch {
    /// Known by the URL alone, so that it is the same answer while the driver is away.
    fn schema(&self) -> Option<&dyn Schema> {
        self.has_schema.then_some(self)
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait::async_trait]
impl Schema for Switch {
    async fn status(&self) -> Result<SchemaStatus> {
        let driver = self.reader("status")?;
        schema_of(&*driver)?.status().await
    }

    async fn check(&self) -> Result<()> {
        let driver = self.reader("check")?;
        schema_of(&*driver)?.check().await
    }

    async fn up(&self) -> Result<Vec<String>> {
        let driver = self.reader("up")?;
        schema_of(&*driver)?.up().await
    }

    async fn down(&self, request: Down) -> Result<Vec<String>> {
        let driver = self.reader("down")?;
        schema_of(&*driver)?.down(request).await
    }

    async fn plan(&self) -> Result<Vec<PlannedMigration>> {
        let driver = self.reader("plan")?;
        schema_of(&*driver)?.plan().await
    }
}
