//! The stable backend that callers hold: the driver under it comes, goes and comes back.

mod as_it_stands;
mod backend;
mod modes;
mod only;
mod stored;
mod told;
mod write;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use persist_core::{
    Clock, Deadlines, Error, ErrorKind, Mode, Outcome, PersistBackend, Result, Retry, Timestamp,
};
use tokio::sync::watch;

use crate::connector::Connector;
use crate::heal::{Outages, heal};
use crate::powers::Powers;
use crate::refusals::Refusals;
use crate::spool::{Spooling, drain};
use modes::Modes;
use stored::Stored;

pub(crate) use self::as_it_stands::AsItStands;
pub(crate) use self::only::Only;
pub(crate) use self::write::Drained;

type Driver = Arc<dyn PersistBackend>;

#[derive(Debug)]
enum State {
    Disabled,
    Ready(Driver),
    /// With the driver that failed, if there ever was one.
    Away(Option<Driver>),
    Closed,
}

impl State {
    fn mode(&self) -> Mode {
        match self {
            Self::Disabled => Mode::Disabled,
            Self::Ready(_) => Mode::Ready,
            Self::Away(_) => Mode::Degraded,
            Self::Closed => Mode::Closed,
        }
    }
}

#[derive(Debug)]
struct Situation {
    state: State,
    /// Counts the times that it got ready: a call that began in an earlier one says nothing of the present.
    epoch: u64,
    since: Timestamp,
    last_error: Option<Error>,
}

#[derive(Debug)]
pub(crate) struct Switch {
    this: Weak<Switch>,
    situation: Mutex<Situation>,
    modes: Modes,
    /// How long closing may take its caller; the default deadlines' unless set.
    close_within: OnceLock<Duration>,
    /// What heals; without it errors go to the caller as they are.
    connector: Option<Arc<Connector>>,
    /// Where updates go while the database is away; without it they are dropped, or their callers have the error.
    pub(crate) spool: Option<Arc<Spooling>>,
    name: &'static str,
    powers: Powers,
    /// Where nothing heals.
    only: Option<Only>,
    clock: Arc<dyn Clock>,
    enabled: AtomicBool,
    dropped: AtomicU64,
    unknown: AtomicU64,
    /// The last update since it got ready.
    stored: Stored,
    pub(crate) refusals: Refusals,
    pub(crate) outages: Mutex<Outages>,
    stop: watch::Sender<bool>,
    /// True when closing has come to its end.
    ended: watch::Sender<bool>,
}

impl Switch {
    pub(crate) fn disabled(clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::make(
            State::Disabled,
            None,
            None,
            "none",
            Powers::default(),
            clock,
            None,
        )
    }

    /// Over a driver whose errors are the caller's to see.
    pub(crate) fn strict(only: Only, powers: Powers, clock: Arc<dyn Clock>) -> Arc<Self> {
        let driver = only.driver();
        let name = driver.name();
        Self::make(State::Ready(driver), Some(only), None, name, powers, clock, None)
    }

    /// Over the result of a first try to connect; heals itself.
    pub(crate) fn healing(
        first: Result<Driver>,
        connector: Arc<Connector>,
        spool: Option<Arc<Spooling>>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let (state, error) = match first {
            Ok(driver) => (State::Ready(driver), None),
            Err(error) => (State::Away(None), Some(error)),
        };
        let (name, powers) = (connector.name, connector.powers);
        let last = error.clone();
        let switch = Self::make(state, None, Some((connector, spool)), name, powers, clock, last);
        if let Some(error) = error {
            switch.tell_away(&error);
            switch.start_healing();
        }
        if let Some(spool) = &switch.spool {
            tokio::spawn(drain(switch.this.clone(), switch.stop.subscribe()));
            // An earlier process may have left something.
            spool.wake();
        }
        switch
    }

    fn make(
        state: State,
        only: Option<Only>,
        healing: Option<(Arc<Connector>, Option<Arc<Spooling>>)>,
        name: &'static str,
        powers: Powers,
        clock: Arc<dyn Clock>,
        last_error: Option<Error>,
    ) -> Arc<Self> {
        let (connector, spool) = healing.unzip();
        let spool = spool.flatten();
        // With a spool every update is recorded, also before the first contact.
        let enabled = AtomicBool::new(matches!(state, State::Ready(_)) || spool.is_some());
        let modes = Modes::new(name, state.mode());
        let situation = Mutex::new(Situation {
            state,
            epoch: 0,
            since: clock.now(),
            last_error,
        });
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            situation,
            modes,
            close_within: OnceLock::new(),
            connector,
            spool,
            name,
            powers,
            only,
            clock,
            enabled,
            dropped: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            stored: Stored::never(),
            refusals: Refusals::new(),
            outages: Mutex::new(Outages::new()),
            stop: watch::Sender::new(false),
            ended: watch::Sender::new(false),
        })
    }

    /// From the first readiness until close.
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    pub(crate) fn is_disabled(&self) -> bool {
        // No lock for those that have a database, or will have one: every update asks.
        let may_be = self.only.is_none() && self.connector.is_none();
        may_be && matches!(self.situation.lock().state, State::Disabled)
    }

    /// The present mode, and those to come until close.
    pub(crate) fn watch(&self) -> watch::Receiver<Mode> {
        self.modes.watch()
    }

    /// Closing is given up by its caller after this time, and goes on.
    pub(crate) fn closes_within(&self, time: Duration) {
        // Who makes the switch says it, once.
        let _ = self.close_within.set(time);
    }

    fn close_within(&self) -> Duration {
        *self.close_within.get_or_init(|| Deadlines::default().close())
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
        self.modes.meter.dropped(updates);
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
        self.situation.lock().last_error = Some(error.clone());
        self.tell_away(error);
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
                self.modes.tell(Mode::Ready);
                if let Some(spool) = &self.spool {
                    spool.note_foreign(None);
                    spool.wake();
                }
                self.tell_on();
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
            situation.last_error = Some(error.clone());
            self.modes.tell(Mode::Degraded);
            self.start_healing();
        }
        if self.stored.forget() {
            self.outages.lock().end();
        }
        self.tell_away(error);
    }

    fn tell_away(&self, error: &Error) {
        if let Some(spool) = &self.spool {
            spool.note_foreign(Some(error));
            self.tell(
                error,
                "the database is away: updates are kept in the spool until it is back",
            );
        } else {
            self.tell(
                error,
                "the database is away: updates are dropped until it is back",
            );
        }
    }

    /// Updates that wait in the spool.
    fn waiting(&self) -> u64 {
        self.spool.as_ref().map_or(0, |spool| spool.status().waiting)
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

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.situation.lock().state, State::Closed)
    }

    fn is_ready(&self) -> bool {
        matches!(self.situation.lock().state, State::Ready(_))
    }

    /// Whether a call met a driver that was replaced under it: it is then made again with the present one.
    fn was_replaced(&self, epoch: u64, error: &Error) -> bool {
        error.kind() == ErrorKind::Closed && self.situation.lock().epoch != epoch
    }

    /// Reads what is true: not while updates wait outside of the database.
    pub(crate) async fn read<T, F>(&self, operation: &'static str, call: impl Fn(Driver) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.refuse_to_read(operation)?;
        let answer = self.ask(operation, call).await?;
        if let Some(spool) = &self.spool {
            // What began to wait meanwhile is not in the answer.
            spool.refuse_reads(operation)?;
        }
        Ok(answer)
    }

    /// # Errors
    /// `Unavailable` while updates wait outside of the database.
    fn refuse_to_read(&self, operation: &'static str) -> Result<()> {
        let Some(spool) = &self.spool else { return Ok(()) };
        // What comes first is what is told first: closed, or away.
        self.reader(operation)?;
        spool.refuse_reads(operation)
    }

    /// Reads the database as it stands.
    pub(crate) async fn ask<T, F>(&self, operation: &'static str, call: impl Fn(Driver) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        loop {
            let (driver, epoch) = self.reader(operation)?;
            match call(driver).await {
                Err(error) if self.was_replaced(epoch, &error) => {}
                answer => return answer.inspect_err(|error| self.note(error)),
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
            State::Away(_) => {
                let what = match self.waiting() {
                    0 => "the database is away; trying again in the background".to_owned(),
                    waiting => format!(
                        "the database is away, and {waiting} updates wait for it in the spool; trying again in the \
                         background"
                    ),
                };
                told::away(what, situation.last_error.clone())
            }
        };
        Err(error.during(operation))
    }
}

fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, "this handle was closed").during(operation)
}
