//! The contract's methods, each handing over to the file of its aggregate.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use parking_lot::Mutex;
use persist_core::{
    Bell, CHUNK, Capabilities, Changes, Claim, Clock, Error, ErrorKind, Event, EventQuery, Health, Inspect,
    Job, JobQuery, Ledger, Marks, Mode, Outcome, Owners, Page, PersistBackend, Prune, Pruned, Result, Schema,
    SystemClock, Vm, VmKey, VmQuery, time,
};
use uuid::Uuid;

use crate::state::State;
use crate::{event, job, prune, vm};

/// A store in this process's memory.
///
/// A store lives as long as a handle onto it that is neither closed nor dropped.
pub struct MemoryBackend {
    store: Mutex<Option<Arc<Store>>>,
    clock: Arc<dyn Clock>,
    bell: Bell,
}

pub(crate) struct Store {
    pub(crate) instance_id: Uuid,
    pub(crate) state: Mutex<State>,
    bell: Bell,
}

/// Weak, so that the registry keeps no store alive: its handles do.
static NAMED: Mutex<BTreeMap<String, Weak<Store>>> = Mutex::new(BTreeMap::new());

impl Store {
    #[expect(
        clippy::disallowed_methods,
        reason = "the identity of a store is made where the store is"
    )]
    fn new() -> Arc<Self> {
        Arc::new(Self {
            instance_id: Uuid::new_v4(),
            state: Mutex::default(),
            bell: Bell::default(),
        })
    }
}

impl MemoryBackend {
    /// An empty store of its own.
    pub fn new() -> Self {
        Self::over(Store::new())
    }

    /// The store of this name in this process, made empty where no open handle onto it is left.
    ///
    /// The handles share their rows. Closing one closes that handle only; when the last one is closed or
    /// dropped, the content goes, and the next `named` starts anew.
    ///
    /// ```
    /// use persist_memory::MemoryBackend;
    /// let (one, other) = (MemoryBackend::named("ci"), MemoryBackend::named("ci"));
    /// assert_eq!(one.instance_id(), other.instance_id());
    /// ```
    pub fn named(name: &str) -> Self {
        let mut named = NAMED.lock();
        if let Some(store) = named.get(name).and_then(Weak::upgrade) {
            return Self::over(store);
        }
        named.retain(|_, store| store.strong_count() > 0);
        let store = Store::new();
        named.insert(name.to_owned(), Arc::downgrade(&store));
        Self::over(store)
    }

    /// Takes `recorded_at` from this clock instead of the system's.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The identity of the store, or `None` after close.
    pub fn instance_id(&self) -> Option<Uuid> {
        self.store.lock().as_ref().map(|store| store.instance_id)
    }

    fn over(store: Arc<Store>) -> Self {
        Self {
            bell: store.bell.another(),
            store: Mutex::new(Some(store)),
            clock: Arc::new(SystemClock),
        }
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    pub(crate) fn store(&self, operation: &'static str) -> Result<Arc<Store>> {
        self.store
            .lock()
            .clone()
            .ok_or_else(|| Error::new(ErrorKind::Closed, "this handle was closed").during(operation))
    }

    pub(crate) fn now(&self, operation: &'static str) -> Result<persist_core::Timestamp> {
        time::normalize("recorded_at", self.clock.now()).map_err(|error| error.during(operation))
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend")
            .field("instance_id", &self.instance_id())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl PersistBackend for MemoryBackend {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn apply(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        let store = self.store("apply")?;
        let mut outcomes = Vec::with_capacity(claims.len());
        // Chunked as on the other backends, so that readers get a turn between.
        for chunk in claims.chunks(CHUNK) {
            let recorded_at = self.now("apply")?;
            let mut state = store.state.lock();
            outcomes.extend(chunk.iter().map(|claim| state.merge(claim, recorded_at)));
            drop(state);
            store.bell.ring();
        }
        Ok(outcomes)
    }

    async fn job(&self, id: Uuid) -> Result<Option<Job>> {
        let store = self.store("job")?;
        let state = store.state.lock();
        Ok(state.jobs.get(&id).and_then(|line| Job::from_row(id, &line.row)))
    }

    async fn vm(&self, key: &VmKey) -> Result<Option<Vm>> {
        let store = self.store("vm")?;
        let state = store.state.lock();
        let line = state.vms.get(key);
        Ok(line.and_then(|line| Vm::from_row(key.clone(), &line.row)))
    }

    async fn jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        let store = self.store("jobs")?;
        let query = query.check().map_err(|error| error.during("jobs"))?;
        job::page(&store.state.lock(), &query)
    }

    async fn vms(&self, query: &VmQuery) -> Result<Page<Vm>> {
        let store = self.store("vms")?;
        let query = query.check().map_err(|error| error.during("vms"))?;
        vm::page(&store.state.lock(), &query)
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<Event>> {
        let store = self.store("events")?;
        let position = query
            .check(store.instance_id)
            .map_err(|error| error.during("events"))?;
        Ok(event::page(
            &store.state.lock(),
            query,
            position,
            store.instance_id,
        ))
    }

    async fn prune(&self, request: &Prune) -> Result<Pruned> {
        let store = self.store("prune")?;
        let request = request.check().map_err(|error| error.during("prune"))?;
        prune::prune(&mut store.state.lock(), &request)
    }

    async fn health(&self) -> Result<Health> {
        let store = self.store("health")?;
        let mut health = Health::new("memory", Mode::Ready);
        health.instance_id = Some(store.instance_id);
        Ok(health)
    }

    async fn close(&self) -> Result<()> {
        *self.store.lock() = None;
        Ok(())
    }
}

impl Capabilities for MemoryBackend {
    fn schema(&self) -> Option<&dyn Schema> {
        None
    }

    fn changes(&self) -> Option<&dyn Changes> {
        Some(self)
    }

    fn owners(&self) -> Option<&dyn Owners> {
        Some(self)
    }

    fn ledger(&self) -> Option<&dyn Ledger> {
        Some(self)
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        None
    }

    fn marks(&self) -> Option<&dyn Marks> {
        Some(self)
    }
}
