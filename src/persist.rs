//! The handle that an orchestrator keeps.

use std::sync::Arc;
use std::time::Duration;

use persist_core::layer::Observed;
use persist_core::{
    Claim, Clock, Event, EventQuery, Health, Job, JobQuery, JobUpdate, Mode, Outcome, Page, PersistBackend,
    Prune, Pruned, Result, Update, Vm, VmKey, VmQuery, VmUpdate,
};
use tokio::sync::watch::Receiver;
use uuid::Uuid;

use crate::attempts::Warned;
use crate::builder::{Builder, OnUnavailable};
use crate::switch::{AsItStands, Switch};
use crate::watch::{self, Poller, WatchQuery, Watching};

/// Records job states and VM events, and reads them back. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct Persist(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    switch: Arc<Switch>,
    /// The switch, with every call told of.
    backend: Arc<Observed<Switch>>,
    /// The same, read without what waits in a spool.
    as_it_stands: Arc<Observed<AsItStands>>,
    clock: Arc<dyn Clock>,
    actor: Option<String>,
    warned: Warned,
    poller: Arc<Poller>,
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

    /// Chooses the same over a backend of the embedder's own.
    ///
    /// It needs no deadlines: [`Deadlined`](persist_core::layer::Deadlined) keeps them, right over it. If it has its own
    /// all the same, let them be a little shorter than [`Builder::deadlines`]: it knows better what a call that ran out
    /// of time has done. `close` closes it; it is never opened anew.
    ///
    /// ```
    /// # #[cfg(feature = "memory")]
    /// # async fn example(mine: std::sync::Arc<dyn persist::PersistBackend>) -> persist::Result<()> {
    /// let persist = persist::Persist::builder_over(mine).actor("orchestrator-1").connect().await?;
    /// # Ok(()) }
    /// ```
    pub fn builder_over(backend: Arc<dyn PersistBackend>) -> Builder {
        Builder::over(backend)
    }

    pub(crate) fn over(
        switch: Arc<Switch>,
        clock: Arc<dyn Clock>,
        actor: Option<String>,
        slow: Duration,
        look_every: Duration,
    ) -> Self {
        Self(Arc::new(Inner {
            poller: Poller::new(Arc::clone(&switch), look_every),
            backend: Arc::new(Observed::over(Arc::clone(&switch), slow)),
            as_it_stands: Arc::new(Observed::over(Arc::new(AsItStands(Arc::clone(&switch))), slow)),
            switch,
            clock,
            actor,
            warned: Warned::default(),
        }))
    }

    pub(crate) fn actor(&self) -> Option<&str> {
        self.0.actor.as_deref()
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// Whether there is no database, and will be none.
    pub(crate) fn is_off(&self) -> bool {
        self.0.switch.is_disabled()
    }

    /// # Errors
    /// As a read while persistence is off.
    pub(crate) fn refuse_off(&self, operation: &'static str) -> Result<()> {
        if self.is_off() {
            self.0.switch.reader(operation)?;
        }
        Ok(())
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
        match self.claim(update.into())? {
            Some(claim) => self.apply(claim).await,
            None => Ok(Outcome::Dropped),
        }
    }

    /// Records that a VM was in a state. It may come before its job's first update.
    ///
    /// # Errors
    /// As [`record_job_state`](Self::record_job_state).
    pub async fn record_vm_event(&self, update: VmUpdate) -> Result<Outcome> {
        match self.claim(update.into())? {
            Some(claim) => self.apply(claim).await,
            None => Ok(Outcome::Dropped),
        }
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
        let updates = updates.into_iter().enumerate();
        let checked = updates.map(|(index, update)| self.check(index, update));
        let claims = checked.collect::<Result<Vec<Claim>>>()?;
        let outcomes = self.apply_all(&claims).await?;
        for (claim, outcome) in claims.iter().zip(&outcomes) {
            self.0.warned.look(claim.subject(), claim.attempt(), outcome);
        }
        Ok(outcomes)
    }

    /// The claim of an update, or `None` where it is dropped.
    fn claim(&self, update: Update) -> Result<Option<Claim>> {
        let switch = &self.0.switch;
        if switch.is_disabled() {
            switch.drop_all(1);
            return Ok(None);
        }
        self.check(0, update).map(Some)
    }

    async fn apply(&self, claim: Claim) -> Result<Outcome> {
        let outcomes = self.apply_all(std::slice::from_ref(&claim)).await?;
        let outcome = outcomes.into_iter().next().ok_or_else(|| {
            let kind = persist_core::ErrorKind::Internal;
            persist_core::Error::new(kind, "the backend gave no outcome").during("record")
        })?;
        self.0.warned.look(claim.subject(), claim.attempt(), &outcome);
        Ok(outcome)
    }

    /// What [`backend`](Self::backend) does too, with a box less for each layer.
    async fn apply_all(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        let Inner { backend, switch, .. } = &*self.0;
        // Pinned here: it would be moved, and kept twice, by each that passes it on.
        let call = std::pin::pin!(switch.apply_unboxed(claims));
        backend.applied(claims.len(), call).await
    }

    fn check(&self, index: usize, update: Update) -> Result<Claim> {
        let claim = update.actor_or(self.0.actor.as_deref()).check(&*self.0.clock);
        claim.map_err(|error| error.with("index", index).during("record"))
    }

    /// The job of this id, if any update of it has come.
    ///
    /// # Errors
    /// `Unavailable` while persistence is off, the database away, or anything waits in the spool, as for every read.
    pub async fn job(&self, id: Uuid) -> Result<Option<Job>> {
        self.0.backend.job(id).await
    }

    /// The VM of this key, if any update of it has come.
    ///
    /// # Errors
    /// As [`job`](Self::job).
    pub async fn vm(&self, key: &VmKey) -> Result<Option<Vm>> {
        self.0.backend.vm(key).await
    }

    /// A page of jobs.
    ///
    /// # Errors
    /// As [`job`](Self::job); `InvalidInput` as [`JobQuery::check`] says.
    pub async fn jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        self.0.backend.jobs(query).await
    }

    /// A page of VMs.
    ///
    /// # Errors
    /// As [`job`](Self::job); `InvalidInput` as [`VmQuery::check`] says.
    pub async fn vms(&self, query: &VmQuery) -> Result<Page<Vm>> {
        self.0.backend.vms(query).await
    }

    /// A page of the history.
    ///
    /// # Errors
    /// As [`job`](Self::job); `InvalidInput` as [`EventQuery::check`] says.
    pub async fn events(&self, query: &EventQuery) -> Result<Page<Event>> {
        self.0.backend.events(query).await
    }

    /// Removes whole jobs with their VMs and history.
    ///
    /// # Errors
    /// As [`job`](Self::job); `InvalidInput` as [`Prune::check`] says.
    pub async fn prune(&self, request: &Prune) -> Result<Pruned> {
        self.0.backend.prune(request).await
    }

    /// How things are. While persistence is off or the database away that is an answer, and no error.
    ///
    /// # Errors
    /// What the store says when asked; `Closed` after close.
    pub async fn health(&self) -> Result<Health> {
        self.0.backend.health().await
    }

    /// The mode, and its changes until [`close`](Self::close).
    ///
    /// The receiver holds the latest mode: whoever is slow misses those in between. Waiting for it is cancel-safe. The last
    /// mode is [`Mode::Closed`], or whatever it was when the last handle was dropped; after it `changed` and `wait_for`
    /// are errors.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> persist::Result<()> {
    /// use persist::{Mode, Persist};
    /// let persist = Persist::new(None).await?;
    /// let mut modes = persist.mode_changes();
    /// assert_eq!(*modes.borrow_and_update(), Mode::Disabled);
    /// persist.close().await?;
    /// while modes.changed().await.is_ok() {
    ///     println!("persistence is {}", modes.borrow_and_update().name());
    /// }
    /// # Ok(()) }
    /// ```
    pub fn mode_changes(&self) -> Receiver<Mode> {
        self.0.switch.watch()
    }

    /// Every slot that is claimed or filled, as it comes: by whatever process, once each, in an order in which nothing is
    /// missed, from now on or from where another one was ([`WatchQuery`]).
    ///
    /// However many watch through this handle and its clones, one task asks the store: at once after what this process has
    /// written, else less and less often while nothing comes, up to [`Builder::look_every`]. Who takes changes more slowly
    /// than they come holds nobody up and loses nothing: it reads by itself until it has caught up. While the database is
    /// away it waits, and goes on when that is back. Changes that wait in a spool are seen when they come to the database.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> persist::Result<()> {
    /// # #[cfg(feature = "memory")] {
    /// use persist::{JobState, JobUpdate, Persist, WatchQuery};
    /// let persist = Persist::new(Some("memory:".to_owned())).await?;
    /// let mut watching = persist.watch(WatchQuery::default().states([JobState::Failed])).await?;
    /// let id = uuid::Uuid::from_u128(7);
    /// persist.record_job_state(JobUpdate::new(id, JobState::Running)).await?;
    /// persist.record_job_state(JobUpdate::new(id, JobState::Failed)).await?;
    /// let failed = watching.next().await.expect("it goes on until an error")?;
    /// println!("{} has failed; go on from {}", failed.event.subject, failed.cursor());
    /// # }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Unsupported` for a store that can't be watched, as one on Citus; `Unavailable` while persistence is off; from now on
    /// also whatever asking for that place meets; `InvalidInput` for a cursor of elsewhere, `Lagged` for one behind what was
    /// pruned.
    pub async fn watch(&self, query: WatchQuery) -> Result<Watching> {
        watch::watch(&self.0.poller, query).await
    }

    /// The same store as a backend, with all layers. It stays valid while the driver under it is replaced.
    pub fn backend(&self) -> Arc<dyn PersistBackend> {
        Arc::clone(&self.0.backend) as Arc<dyn PersistBackend>
    }

    /// The same, but for reads and `prune`: they ask the database also while updates wait in the spool, and are
    /// answered without them. What they miss, `health().spool` counts.
    pub fn backend_as_it_stands(&self) -> Arc<dyn PersistBackend> {
        Arc::clone(&self.0.as_it_stands) as Arc<dyn PersistBackend>
    }

    /// Refuses new calls, lets accepted ones finish, and lets go of the database. Closes every clone. What waits
    /// in a spool is replayed while that works, for at most a write deadline; the rest stays in its file.
    ///
    /// # Errors
    /// What letting go met; the handle is closed all the same. `Timeout` when it took longer than [`Deadlines::close`](persist_core::Deadlines::close):
    /// it then goes on in the background.
    pub async fn close(&self) -> Result<()> {
        self.0.backend.close().await
    }
}
