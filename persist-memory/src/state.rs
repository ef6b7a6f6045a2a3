//! All rows and the history, under one lock, and what moves them together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use persist_core::merge::{self, Row};
use persist_core::{
    Attribute, Claim, Order, Outcome, Prune, Pruned, Slot, State as SubjectState, Subject, TimeRange,
    Timestamp, VmKey,
};
use uuid::Uuid;

use crate::event::History;
use crate::vm;

/// The whole store.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) jobs: Table<Uuid>,
    pub(crate) vms: Table<VmKey>,
    pub(crate) history: History,
}

impl State {
    /// Merges one claim: slot and row move together, as the caller holds the lock.
    pub(crate) fn merge(&mut self, claim: &Claim, recorded_at: Timestamp) -> Outcome {
        let Self { jobs, vms, history } = self;
        match history.claim(claim, recorded_at) {
            Ok(slot) => {
                let (created, forward, current) = match claim.subject() {
                    Subject::Job(id) => jobs.join(id, slot),
                    Subject::Vm(key) => vms.join(key, slot),
                };
                if forward {
                    Outcome::Applied { created }
                } else {
                    Outcome::Late { current }
                }
            }
            Err((fill, slot)) => {
                let standing = slot.state;
                let current = match claim.subject() {
                    Subject::Job(id) => jobs.join(id, slot).2,
                    Subject::Vm(key) => vms.join(key, slot).2,
                };
                merge::outcome_of_held(fill, standing, current)
            }
        }
    }

    /// Removes a job, its VMs and their history.
    fn remove(&mut self, id: Uuid) {
        self.jobs.remove(&id);
        for key in self.vms_of(id).map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.vms.remove(&key);
        }
        self.history.remove(id);
    }

    pub(crate) fn vms_of(&self, id: Uuid) -> impl Iterator<Item = (&VmKey, &Row)> {
        vm::of_job(&self.vms, id)
    }
}

/// A key whose first part is a request id.
pub(crate) trait Key: Ord + Clone {
    /// The lowest key of this request id.
    fn lowest(id: Uuid) -> Self;
}

impl Key for Uuid {
    fn lowest(id: Uuid) -> Self {
        id
    }
}

impl Key for VmKey {
    fn lowest(id: Uuid) -> Self {
        Self::new(id, "")
    }
}

/// Current rows by key, and their keys by age.
#[derive(Debug)]
pub(crate) struct Table<K> {
    rows: BTreeMap<K, Row>,
    by_age: BTreeSet<(Timestamp, K)>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            by_age: BTreeSet::new(),
        }
    }
}

impl<K: Key> Table<K> {
    pub(crate) fn get(&self, key: &K) -> Option<&Row> {
        self.rows.get(key)
    }

    pub(crate) fn from(&self, lowest: K) -> impl Iterator<Item = (&K, &Row)> {
        self.rows.range(lowest..)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &Row)> {
        self.rows.iter()
    }

    /// Joins a slot. Says whether the row is new, whether it moved forward, and where it stands.
    fn join(&mut self, key: &K, slot: &Slot) -> (bool, bool, persist_core::Current) {
        let Some(row) = self.rows.get_mut(key) else {
            let row = Row::first(slot);
            let current = row.current();
            self.by_age.insert((row.created_at, key.clone()));
            self.rows.insert(key.clone(), row);
            return (true, true, current);
        };
        let before = row.created_at;
        let forward = row.join(slot);
        if row.created_at != before {
            self.by_age.remove(&(before, key.clone()));
            self.by_age.insert((row.created_at, key.clone()));
        }
        (false, forward, row.current())
    }

    fn remove(&mut self, key: &K) {
        if let Some(row) = self.rows.remove(key) {
            self.by_age.remove(&(row.created_at, key.clone()));
        }
    }

    /// The rows of an order after a place in it, beginning and ending where the ranges do. The ranges only
    /// shorten the way: rows outside of them may come along.
    pub(crate) fn walk(
        &self,
        order: Order,
        after: Option<(Timestamp, K)>,
        created: TimeRange,
        from_id: Option<Uuid>,
    ) -> Box<dyn Iterator<Item = (&K, &Row)> + '_> {
        let of_age = |(_, key): &'_ (Timestamp, K)| self.rows.get_key_value(key);
        match order {
            Order::OldestFirst => {
                let from = created.from.map(|from| (from, K::lowest(Uuid::nil())));
                let start = later(after.map(Bound::Excluded), from.map(Bound::Included));
                let ages = self.by_age.range((start, Bound::Unbounded));
                let until = move |at: Timestamp| created.until.is_none_or(|until| at < until);
                Box::new(ages.take_while(move |(at, _)| until(*at)).filter_map(of_age))
            }
            Order::NewestFirst => {
                let until = created.until.map(|until| (until, K::lowest(Uuid::nil())));
                let end = match (after, until) {
                    (Some(after), Some(until)) => Bound::Excluded(after.min(until)),
                    (one, other) => one.or(other).map_or(Bound::Unbounded, Bound::Excluded),
                };
                let ages = self.by_age.range((Bound::Unbounded, end)).rev();
                let from = move |at: Timestamp| created.from.is_none_or(|from| from <= at);
                Box::new(ages.take_while(move |(at, _)| from(*at)).filter_map(of_age))
            }
            Order::ById => {
                let from = from_id.map(K::lowest).map(Bound::Included);
                let start = later(after.map(|(_, key)| Bound::Excluded(key)), from);
                Box::new(self.rows.range((start, Bound::Unbounded)))
            }
        }
    }
}

/// The later of two places to start from; a cursor comes first, an inclusive start second.
pub(crate) fn later<T: Ord>(cursor: Option<Bound<T>>, start: Option<Bound<T>>) -> Bound<T> {
    match (cursor, start) {
        (Some(Bound::Excluded(cursor)), Some(Bound::Included(start))) if cursor < start => {
            Bound::Included(start)
        }
        (Some(bound), _) | (None, Some(bound)) => bound,
        (None, None) => Bound::Unbounded,
    }
}

/// Removes what matches, the oldest first.
pub(crate) fn prune(state: &mut State, request: &Prune) -> Pruned {
    let kept = request.keep_per_repo.map(|keep| Kept::newest(state, keep));
    let mut ages = candidates(state, request);
    ages.sort_unstable();
    let mut matching = ages
        .into_iter()
        .map(|(_, id)| id)
        .filter(|id| matches(state, request, *id) && !kept.as_ref().is_some_and(|kept| kept.0.contains(id)))
        .take(request.limit as usize + 1)
        .collect::<Vec<_>>();
    let more = matching.len() > request.limit as usize;
    matching.truncate(request.limit as usize);

    let mut pruned = Pruned::new(matching.len() as u64, 0, 0, 0, more);
    for id in matching {
        pruned.jobs += u64::from(state.jobs.get(&id).is_some());
        pruned.vms += state.vms_of(id).count() as u64;
        pruned.events += state.history.of_request(id).count() as u64;
        if !request.dry_run {
            state.remove(id);
        }
    }
    pruned
}

/// Request ids that may be meant, with the age that decides who goes first.
fn candidates(state: &State, request: &Prune) -> Vec<(Timestamp, Uuid)> {
    let without_job = request.states.is_empty() && request.keep_per_repo.is_none();
    let age = |id: Uuid| match state.jobs.get(&id) {
        Some(job) => Some(job.created_at),
        None if without_job => state.vms_of(id).map(|(_, vm)| vm.created_at).min(),
        None => None,
    };
    let ids: BTreeSet<Uuid> = if request.ids.is_empty() {
        let vms = state.vms.iter().map(|(key, _)| key.request_id);
        state.jobs.iter().map(|(id, _)| *id).chain(vms).collect()
    } else {
        request.ids.iter().copied().collect()
    };
    ids.into_iter().filter_map(|id| Some((age(id)?, id))).collect()
}

fn matches(state: &State, request: &Prune, id: Uuid) -> bool {
    let job = state.jobs.get(&id);
    let rows = || job.into_iter().chain(state.vms_of(id).map(|(_, vm)| vm));
    let wanted = |row: &Row| match row.state {
        SubjectState::Job(state) => request.states.contains(&state),
        SubjectState::Vm(_) => false,
    };
    (!request.ids.is_empty() || rows().all(|row| row.state.is_ended()))
        && request
            .ended_before
            .is_none_or(|before| rows().all(|row| row.updated_at < before))
        && (request.states.is_empty() || job.is_some_and(wanted))
}

/// The newest jobs of each repository, which stay.
struct Kept(BTreeSet<Uuid>);

impl Kept {
    fn newest(state: &State, keep: u32) -> Self {
        let mut counts: HashMap<Option<&str>, u32> = HashMap::new();
        let newest = state
            .jobs
            .walk(Order::NewestFirst, None, TimeRange::default(), None);
        let kept = newest.filter(|(_, row)| {
            let count = counts.entry(row.attributes.get(Attribute::RepoUrl)).or_default();
            *count = count.saturating_add(1);
            *count <= keep
        });
        Self(kept.map(|(id, _)| *id).collect())
    }
}
