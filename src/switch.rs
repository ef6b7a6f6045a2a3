//! The stable backend that callers hold: the driver under it comes, goes and comes back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use persist_core::{
    CHUNK, Capabilities, Claim, Clock, Error, ErrorKind, Event, EventQuery, Health, Job, JobQuery, Mode,
    Outcome, Page, PersistBackend, Prune, Pruned, Result, Retry, Schema, Timestamp, UpdateOutcome, Vm, VmKey,
    VmQuery,
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
    /// Counts the times that it got ready: a call that began in an earlier one says nothing of the present.
    epoch: u64,
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
            epoch: 0,
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
                situation.epoch += 1;
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

    /// Takes a failed driver out. Only the first failure of one readiness does anything: a healed driver may be
    /// the one that failed before.
    fn turn_off(&self, epoch: u64, error: &Error) {
        {
            let mut situation = self.situation.lock();
            let State::Ready(driver) = &situation.state else {
                return;
            };
            if situation.epoch != epoch {
                return;
            }
            situation.state = State::Away(Some(Arc::clone(driver)));
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

    /// The driver and its readiness; `None` while updates are to be dropped.
    fn writer(&self) -> Result<Option<(Driver, u64)>> {
        let situation = self.situation.lock();
        match &situation.state {
            State::Ready(driver) => Ok(Some((Arc::clone(driver), situation.epoch))),
            State::Disabled | State::Away(_) => Ok(None),
            State::Closed => Err(closed("apply")),
        }
    }

    /// Whether a call met a driver that was replaced under it: it is then made again with the present one.
    fn was_replaced(&self, epoch: u64, error: &Error) -> bool {
        error.kind() == ErrorKind::Closed && self.situation.lock().epoch != epoch
    }

    async fn read<T, F>(&self, operation: &'static str, call: impl Fn(Driver) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        loop {
            let (driver, epoch) = self.reader(operation)?;
            match call(driver).await {
                Err(error) if self.was_replaced(epoch, &error) => {}
                answer => return answer,
            }
        }
    }

    /// The driver and its readiness, for what can't be dropped: never an empty answer for "could not read".
    pub(crate) fn reader(&self, operation: &'static str) -> Result<(Driver, u64)> {
        let situation = self.situation.lock();
        let error = match &situation.state {
            State::Ready(driver) => return Ok((Arc::clone(driver), situation.epoch)),
            State::Closed => return Err(closed(operation)),
            State::Disabled => {
                Error::new(ErrorKind::Unavailable, "persistence is off").retry_as(Retry::Never)
            }
            State::Away(_) => Error::new(
                ErrorKind::Unavailable,
                "the database is away; trying again in the background",
            ),
        };
        Err(error.during(operation))
    }

    /// Applies a chunk where history is optional: what the database could not take is dropped and counted.
    async fn apply_or_drop(&self, chunk: &[Claim]) -> Result<Vec<Outcome>> {
        loop {
            let Some((driver, epoch)) = self.writer()? else {
                return Ok(self.drop_all(chunk.len()));
            };
            let error = match driver.apply(chunk).await {
                Ok(outcomes) => return Ok(outcomes),
                Err(error) => error,
            };
            if self.was_replaced(epoch, &error) {
                continue;
            }
            if Self::is_callers(error.kind()) {
                return Err(error);
            }
            // A lock held too long says nothing about the next call.
            if error.kind() != ErrorKind::Busy {
                self.turn_off(epoch, &error);
            }
            return Ok(match error.outcome() {
                UpdateOutcome::NotApplied => self.drop_all(chunk.len()),
                UpdateOutcome::Unknown => {
                    self.unknown.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    vec![Outcome::Dropped; chunk.len()]
                }
            });
        }
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
                Some((driver, _)) => driver.apply(claims).await,
                None => Ok(self.drop_all(claims.len())),
            };
        }
        self.writer()?;
        let mut outcomes = Vec::with_capacity(claims.len());
        // By chunks, so that `dropped` counts none that an earlier chunk has stored.
        for chunk in claims.chunks(CHUNK) {
            outcomes.extend(self.apply_or_drop(chunk).await?);
        }
        Ok(outcomes)
    }

    async fn job(&self, id: Uuid) -> Result<Option<Job>> {
        self.read("job", |driver| async move { driver.job(id).await })
            .await
    }

    async fn vm(&self, key: &VmKey) -> Result<Option<Vm>> {
        self.read("vm", |driver| async move { driver.vm(key).await })
            .await
    }

    async fn jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        self.read("jobs", |driver| async move { driver.jobs(query).await })
            .await
    }

    async fn vms(&self, query: &VmQuery) -> Result<Page<Vm>> {
        self.read("vms", |driver| async move { driver.vms(query).await })
            .await
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<Event>> {
        self.read("events", |driver| async move { driver.events(query).await })
            .await
    }

    async fn prune(&self, request: &Prune) -> Result<Pruned> {
        self.read("prune", |driver| async move { driver.prune(request).await })
            .await
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
