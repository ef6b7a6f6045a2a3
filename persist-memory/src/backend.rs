//! The contract's methods, each handing over to the file of its aggregate.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use parking_lot::Mutex;
use persist_core::{
    CHUNK, Capabilities, Changes, Claim, Clock, Error, ErrorKind, Event, EventQuery, Health, Inspect, Job,
    JobQuery, Mode, Outcome, Owners, Page, PersistBackend, Prune, Pruned, Result, Schema, SystemClock, Vm,
    VmKey, VmQuery, time,
};
use uuid::Uuid;

use crate::state::State;
use crate::{event, job, state, vm};

/// A store in this process's memory.
///
/// A store lives as long as a handle onto it that is neither closed nor dropped.
pub struct MemoryBackend {
    store: Mutex<Option<Arc<Store>>>,
    clock: Arc<dyn Clock>,
}

pub(crate) struct Store {
    instance_id: Uuid,
    pub(crate) state: Mutex<State>,
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
            store: Mutex::new(Some(store)),
            clock: Arc::new(SystemClock),
        }
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
        Ok(state::prune(&mut store.state.lock(), &request))
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
        None
    }

    fn owners(&self) -> Option<&dyn Owners> {
        Some(self)
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use persist_core::{EventOrder, JobState, JobUpdate, Timestamp, VmState, VmUpdate};

    fn at(second: i64) -> Timestamp {
        time::from_micros(second * 1_000_000).unwrap()
    }

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn job(number: u128, state: JobState, second: i64) -> Claim {
        JobUpdate::new(id(number), state)
            .at(at(second))
            .check(&SystemClock)
            .unwrap()
    }

    fn vm(number: u128, name: &str, state: VmState, second: i64) -> Claim {
        VmUpdate::new(id(number), name, state)
            .at(at(second))
            .check(&SystemClock)
            .unwrap()
    }

    #[tokio::test]
    async fn every_outcome_is_told() {
        let backend = MemoryBackend::new();
        let filled = JobUpdate::new(id(1), JobState::Queued)
            .at(at(1))
            .runs_on("a")
            .check(&SystemClock)
            .unwrap();
        let batch = [
            job(1, JobState::Running, 2),
            job(1, JobState::Queued, 1),
            filled.clone(),
            filled,
            job(1, JobState::Failed, 3),
            job(1, JobState::Succeeded, 3),
        ];
        let outcomes = backend.apply(&batch).await.unwrap();
        let names: Vec<_> = outcomes.iter().map(Outcome::name).collect();
        assert_eq!(
            names,
            ["applied", "late", "filled", "unchanged", "applied", "refused"]
        );
        assert_eq!(outcomes[0], Outcome::Applied { created: true });
        assert_eq!(outcomes[4], Outcome::Applied { created: false });
        let found = backend.job(id(1)).await.unwrap().unwrap();
        assert_eq!(
            (found.state, found.runs_on.as_deref()),
            (JobState::Failed, Some("a"))
        );
        assert_eq!((found.created_at, found.updated_at), (at(1), at(3)));
    }

    #[tokio::test]
    async fn a_fill_moves_its_slot_to_the_end_by_sequence() {
        let backend = MemoryBackend::new();
        backend
            .apply(&[job(1, JobState::Queued, 1), job(1, JobState::Running, 2)])
            .await
            .unwrap();
        let fill = JobUpdate::new(id(1), JobState::Queued)
            .at(at(1))
            .actor("me")
            .check(&SystemClock)
            .unwrap();
        backend.apply(&[fill]).await.unwrap();
        let query = EventQuery::default().order(EventOrder::BySeq).limit(1);
        let first = backend.events(&query).await.unwrap();
        let rest = backend.events(&query.clone().after(first.next)).await.unwrap();
        let seen: Vec<_> = [first.items, rest.items]
            .concat()
            .iter()
            .map(|e| (e.seq.get(), e.state.name()))
            .collect();
        assert_eq!(seen, [(2, "running"), (3, "queued")]);
        assert_eq!(rest.next, None);
    }

    #[tokio::test]
    async fn the_history_by_key_has_a_job_before_its_vms_and_goes_on_where_a_slot_is_gone() {
        let backend = MemoryBackend::new();
        let claims = [
            vm(3, "a", VmState::Running, 1),
            job(2, JobState::Running, 2),
            vm(2, "b", VmState::Running, 3),
            vm(2, "a", VmState::Running, 4),
            job(2, JobState::Queued, 5),
            vm(1, "z", VmState::Running, 6),
            job(4, JobState::Queued, 7),
        ];
        backend.apply(&claims).await.unwrap();
        let mut query = EventQuery::default().limit(1);
        let (mut seen, mut cursors) = (Vec::new(), Vec::new());
        loop {
            let page = backend.events(&query).await.unwrap();
            seen.extend(page.items.iter().map(|event| event.at));
            if page.next.is_none() {
                break;
            }
            cursors.push(page.next.clone());
            query = query.after(page.next);
        }
        assert_eq!(seen, [6, 5, 2, 4, 3, 1, 7].map(at));

        backend.prune(&Prune::default().ids([id(2)])).await.unwrap();
        let of_3 = EventQuery::default().request_id(id(3));
        for (nth, cursor) in cursors.into_iter().enumerate() {
            let rest = backend
                .events(&EventQuery::default().after(cursor.clone()))
                .await
                .unwrap();
            let rest: Vec<_> = rest.items.iter().map(|event| event.at).collect();
            assert_eq!(rest, [1, 7].map(at)[usize::from(nth == 5)..], "after {nth}");
            let page = backend.events(&of_3.clone().after(cursor)).await.unwrap();
            assert_eq!(
                page.items.len(),
                usize::from(nth < 5),
                "of one request after {nth}"
            );
        }
    }

    #[tokio::test]
    async fn pages_in_every_order_see_every_row_once() {
        use persist_core::Order;
        let backend = MemoryBackend::new();
        let claims: Vec<_> = (1..=7)
            .map(|n| vm(n, "a", VmState::Running, 100 - (n as i64 / 2)))
            .collect();
        backend.apply(&claims).await.unwrap();
        for order in [Order::NewestFirst, Order::OldestFirst, Order::ById] {
            let mut query = VmQuery::default().order(order).limit(3);
            let mut seen = Vec::new();
            loop {
                let page = backend.vms(&query).await.unwrap();
                seen.extend(page.items.iter().map(|vm| (vm.created_at, vm.request_id)));
                if page.next.is_none() {
                    break;
                }
                query = query.after(page.next);
            }
            let mut sorted = seen.clone();
            match order {
                Order::NewestFirst => sorted.sort_by(|a, b| b.cmp(a)),
                Order::OldestFirst => sorted.sort(),
                Order::ById => sorted.sort_by_key(|(_, id)| *id),
            }
            assert_eq!((seen.len(), &seen), (7, &sorted), "{order:?}");
        }
    }

    #[tokio::test]
    async fn prune_removes_whole_ended_requests_oldest_first() {
        let backend = MemoryBackend::new();
        let claims = [
            job(1, JobState::Succeeded, 1),
            vm(1, "a", VmState::Destroyed, 2),
            job(2, JobState::Failed, 3),
            vm(2, "a", VmState::Running, 3),
            vm(3, "a", VmState::Failed, 0),
            job(4, JobState::Lost, 5),
        ];
        backend.apply(&claims).await.unwrap();
        let all = Prune::default().ended_before(at(5));
        let dry = backend.prune(&all.clone().limit(1).dry_run(true)).await.unwrap();
        assert_eq!(dry, Pruned::new(1, 0, 1, 1, true));
        assert_eq!(backend.prune(&all).await.unwrap(), Pruned::new(2, 1, 2, 3, false));
        assert_eq!(
            backend.prune(&Prune::default().ids([id(2)])).await.unwrap(),
            Pruned::new(1, 1, 1, 2, false)
        );
        assert_eq!(backend.jobs(&JobQuery::default()).await.unwrap().items.len(), 1);
        let keep = Prune::default().keep_per_repo(1);
        assert_eq!(backend.prune(&keep).await.unwrap(), Pruned::default());
        assert_eq!(
            backend.events(&EventQuery::default()).await.unwrap().items.len(),
            1
        );
    }

    #[tokio::test]
    async fn a_named_store_is_shared_and_a_closed_handle_is_closed_alone() {
        let (one, other) = (MemoryBackend::named("shared"), MemoryBackend::named("shared"));
        one.apply(&[job(1, JobState::Queued, 1)]).await.unwrap();
        one.close().await.unwrap();
        one.close().await.unwrap();
        assert_eq!(one.health().await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(one.apply(&[]).await.unwrap_err().kind(), ErrorKind::Closed);
        assert!(other.job(id(1)).await.unwrap().is_some());
        drop(other);
        assert!(MemoryBackend::named("shared").job(id(1)).await.unwrap().is_none());
    }
}
