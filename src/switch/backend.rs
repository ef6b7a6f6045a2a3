//! The ten methods, each by whichever driver is there.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use persist_core::{
    Capabilities, Changes, Claim, Error, ErrorKind, Event, EventQuery, Health, Inspect, Job, JobQuery,
    Ledger, Marks, Mode, Outcome, Owners, Page, PersistBackend, Prune, Pruned, Result, Schema, Vm, VmKey,
    VmQuery,
};
use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;

use super::{State, Switch, closed};

/// Tells, when it goes, that closing has come to its end, also by a panic.
struct Ended(watch::Sender<bool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
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
        self.apply_unboxed(claims).await
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
        self.refuse_to_read("prune")?;
        // What it has removed is told, whatever came to the spool meanwhile.
        self.ask("prune", |driver| async move { driver.prune(request).await })
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
            Some(driver) => driver.health().await.inspect_err(|error| self.note(error))?,
            None => Health::new(self.name, mode),
        };
        let situation = self.situation.lock();
        health.since = Some(situation.since);
        (health.dropped, health.unknown) = self.counts();
        health.spool = self.spool.as_ref().map(|spool| spool.health());
        Ok(health.last_error(situation.last_error.as_ref().map(Error::kind)))
    }

    async fn close(&self) -> Result<()> {
        let within = self.close_within();
        let before = {
            let mut situation = self.situation.lock();
            self.modes.tell(Mode::Closed);
            std::mem::replace(&mut situation.state, State::Closed)
        };
        self.enabled.store(false, Ordering::Release);
        self.stop.send_replace(true);
        let (driver, is_ready) = match before {
            State::Ready(driver) => (Some(driver), true),
            State::Away(driver) => (driver, false),
            State::Disabled => (None, false),
            State::Closed => {
                // Somebody else closes it, and may have given up waiting. An error: it lives in this switch.
                let mut ended = self.ended.subscribe();
                let ended = timeout(within, ended.wait_for(|ended| *ended)).await;
                return ended.map_or_else(|_| Err(Error::deadline("close", within)), |_| Ok(()));
            }
        };
        let spool = self.spool.clone();
        if driver.is_none() && spool.is_none() {
            self.ended.send_replace(true);
            return Ok(());
        }
        let refusals = self.this.upgrade();
        // In a task, so that a caller who gives up waiting does not stop the draining half-way.
        let ended = Ended(self.ended.clone());
        let closing = tokio::spawn(async move {
            let _ended = ended;
            if let Some(spool) = &spool {
                spool.finish(driver.as_deref().filter(|_| is_ready)).await;
            }
            if let (Some(switch), Some(driver)) = (&refusals, &driver)
                && is_ready
            {
                switch.refusals.end(&**driver).await;
            }
            let closed = match driver {
                Some(driver) => driver.close().await,
                None => Ok(()),
            };
            if let Some(switch) = &refusals {
                switch.refusals.tell_left();
            }
            if let Some(spool) = spool {
                spool.close().await;
            }
            closed
        });
        let panicked =
            |_| Err(Error::new(ErrorKind::Internal, "the driver panicked while closing").during("close"));
        match timeout(within, closing).await {
            Ok(closed) => closed.unwrap_or_else(panicked),
            Err(_) => Err(Error::deadline("close", within)),
        }
    }
}

impl Capabilities for Switch {
    // Known by the URL alone, so that it is the same answer while the driver is away.

    fn schema(&self) -> Option<&dyn Schema> {
        self.powers.schema.then_some(self)
    }

    fn changes(&self) -> Option<&dyn Changes> {
        self.powers.changes.then_some(self)
    }

    fn owners(&self) -> Option<&dyn Owners> {
        self.powers.owners.then_some(self)
    }

    fn ledger(&self) -> Option<&dyn Ledger> {
        self.powers.ledger.then_some(self)
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        self.powers.inspect.then_some(self)
    }

    fn marks(&self) -> Option<&dyn Marks> {
        self.powers.marks.then_some(self)
    }
}
