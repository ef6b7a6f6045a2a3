//! The handle that an orchestrator keeps.

use std::sync::Arc;

use persist_core::{
    Claim, Clock, Event, EventQuery, Health, Job, JobQuery, JobUpdate, Outcome, Page, PersistBackend, Prune,
    Pruned, Result, Update, Vm, VmKey, VmQuery, VmUpdate,
};
use uuid::Uuid;

use crate::attempts::Warned;
use crate::builder::{Builder, OnUnavailable};
use crate::switch::{AsItStands, Switch};

/// Records job states and VM events, and reads them back. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct Persist(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    switch: Arc<Switch>,
    clock: Arc<dyn Clock>,
    actor: Option<String>,
    warned: Warned,
}

impl Persist {
    /// Connects and migrates as a matter of best effort: a database that is away costs no job.
    ///
    /// Without a URL (`None`, empty, blank, `none:`) persistence is off. With one, any failure of connecting
    /// and migrating is one loud log line; updates are then dropped and counted, reads are `Unavailable`, and
    /// persistence turns itself on when the database answers. For a start that waits or fails instead see
    /// [`builder`](Self::builder).
    ///
    /// ```
    /// # async fn example() -> persist::Result<()> {
    /// let persist = persist::Persist::new(None).await?;
    /// assert!(!persist.is_enabled());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `InvalidUrl` for a URL that can't be parsed, an unknown scheme, and a backend that is not compiled in:
    /// a typing mistake must not look like an outage.
    pub async fn new(url: Option<String>) -> Result<Self> {
        Self::builder(url)
            .on_unavailable(OnUnavailable::BestEffort)
            .connect()
            .await
    }

    /// Chooses what `new` has chosen.
    pub fn builder(url: Option<String>) -> Builder {
        Builder::new(url)
    }

    pub(crate) fn over(switch: Arc<Switch>, clock: Arc<dyn Clock>, actor: Option<String>) -> Self {
        Self(Arc::new(Inner {
            switch,
            clock,
            actor,
            warned: Warned::default(),
        }))
    }

    /// True from the first readiness until `close`, with a spool from the start; `health().mode` tells what is going on now.
    pub fn is_enabled(&self) -> bool {
        self.0.switch.is_enabled()
    }

    /// Records that a job was in a state. `Ok` means durable, unless the outcome is `Dropped`;
    /// `Spooled` is durable in the spool, and not in the database yet.
    ///
    /// # Errors
    /// `InvalidInput` naming the field; whatever the store meets, unless history is best effort.
    pub async fn record_job_state(&self, update: JobUpdate) -> Result<Outcome> {
        self.record_one(update.into()).await
    }

    /// Records that a VM was in a state. It may come before its job's first update.
    ///
    /// # Errors
    /// As [`record_job_state`](Self::record_job_state).
    pub async fn record_vm_event(&self, update: VmUpdate) -> Result<Outcome> {
        self.record_one(update.into()).await
    }

    /// Records many updates; outcomes by position. After an error any subset may stand: send them again.
    ///
    /// # Errors
    /// As [`record_job_state`](Self::record_job_state); `InvalidInput` carries the `index` and comes before
    /// anything was stored.
    pub async fn record(&self, updates: Vec<Update>) -> Result<Vec<Outcome>> {
        let switch = &self.0.switch;
        if switch.is_disabled() {
            return Ok(switch.drop_all(updates.len()));
        }
        let checked = updates.into_iter().enumerate().map(|(index, update)| {
            let claim = update.actor_or(self.0.actor.as_deref()).check(&*self.0.clock);
            claim.map_err(|error| error.with("index", index).during("record"))
        });
        let claims = checked.collect::<Result<Vec<Claim>>>()?;
        let outcomes = switch.apply(&claims).await?;
        for (claim, outcome) in claims.iter().zip(&outcomes) {
            self.0.warned.look(claim.subject(), claim.attempt(), outcome);
        }
        Ok(outcomes)
    }

    async fn record_one(&self, update: Update) -> Result<Outcome> {
        let outcomes = self.record(vec![update]).await?;
        outcomes.into_iter().next().ok_or_else(|| {
            let kind = persist_core::ErrorKind::Internal;
            persist_core::Error::new(kind, "the backend gave no outcome").during("record")
        })
    }

    /// The job of this id, if any update of it has come.
    ///
    /// # Errors
    /// `Unavailable` while persistence is off, the database away, or anything waits in the spool, as for every read.
    pub async fn job(&self, id: Uuid) -> Result<Option<Job>> {
        self.0.switch.job(id).await
    }

    /// The VM of this key, if any update of it has come.
    ///
    /// # Errors
    /// As [`job`](Self::job).
    pub async fn vm(&self, key: &VmKey) -> Result<Option<Vm>> {
        self.0.switch.vm(key).await
    }

    /// A page of jobs.
    ///
    /// # Errors
    /// As [`job`](Self::job); `InvalidInput` as [`JobQuery::check`] says.
    pub async fn jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        self.0.switch.jobs(query).await
    }

    /// A page of VMs.
    ///
    /// # Errors
    /// As [`job`](Self::job); `InvalidInput` as [`VmQuery::check`] says.
    pub async fn vms(&self, query: &VmQuery) -> Result<Page<Vm>> {
        self.0.switch.vms(query).await
    }

    /// A page of the history.
    ///
    /// # Errors
    /// As [`job`](Self::job); `InvalidInput` as [`EventQuery::check`] says.
    pub async fn events(&self, query: &EventQuery) -> Result<Page<Event>> {
        self.0.switch.events(query).await
    }

    /// Removes whole jobs with their VMs and history.
    ///
    /// # Errors
    /// As [`job`](Self::job); `InvalidInput` as [`Prune::check`] says.
    pub async fn prune(&self, request: &Prune) -> Result<Pruned> {
        self.0.switch.prune(request).await
    }

    /// How things are. While persistence is off or the database away that is an answer, and no error.
    ///
    /// # Errors
    /// What the store says when asked; `Closed` after close.
    pub async fn health(&self) -> Result<Health> {
        self.0.switch.health().await
    }

    /// The same store as a backend, with all layers. It stays valid while the driver under it is replaced.
    pub fn backend(&self) -> Arc<dyn PersistBackend> {
        Arc::clone(&self.0.switch) as Arc<dyn PersistBackend>
    }

    /// The same, but for reads and `prune`: they ask the database also while updates wait in the spool, and are
    /// answered without them. What they miss, `health().spool` counts.
    pub fn backend_as_it_stands(&self) -> Arc<dyn PersistBackend> {
        Arc::new(AsItStands(Arc::clone(&self.0.switch)))
    }

    /// Refuses new calls, lets accepted ones finish, and lets go of the database. Closes every clone. What waits
    /// in a spool is replayed while that works, for at most a write deadline; the rest stays in its file.
    ///
    /// # Errors
    /// What letting go met; the handle is closed all the same.
    pub async fn close(&self) -> Result<()> {
        self.0.switch.close().await
    }
}
