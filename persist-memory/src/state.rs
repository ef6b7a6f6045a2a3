//! All rows and the history, under one lock, and what moves them together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::ops::Bound;

use foldhash::fast::RandomState;
use persist_core::merge::{self, Fill, Row};
use persist_core::{Claim, Horizon, Order, Outcome, Owner, Rank, Subject, TimeRange, Timestamp, VmKey};
use uuid::Uuid;

use crate::event::{Recorded, Sequence};
use crate::ledger::Refusals;
use crate::vm;

/// The whole store.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) jobs: Table<Uuid>,
    pub(crate) vms: Table<VmKey>,
    pub(crate) sequence: Sequence,
    pub(crate) marks: BTreeMap<String, String>,
    /// Who beats, by name.
    pub(crate) owners: BTreeMap<String, Owner>,
    pub(crate) refusals: Refusals,
    pub(crate) pruned: Horizon,
}

impl State {
    /// Merges one claim: slot and row move together, as the caller holds the lock.
    pub(crate) fn merge(&mut self, claim: &Claim, recorded_at: Timestamp) -> Outcome {
        let Self {
            jobs, vms, sequence, ..
        } = self;
        match claim.subject() {
            Subject::Job(id) => jobs.merge(id, claim, recorded_at, sequence),
            Subject::Vm(key) => vms.merge(key, claim, recorded_at, sequence),
        }
    }

    /// Removes a job, its VMs and their history. The highest number that went.
    pub(crate) fn remove(&mut self, id: Uuid) -> i64 {
        self.refusals.forget(id);
        let mut last = self.jobs.remove(&id, &mut self.sequence);
        for key in self.vms_of(id).map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            last = last.max(self.vms.remove(&key, &mut self.sequence));
        }
        last
    }

    pub(crate) fn has_slot(&self, subject: &Subject, rank: Rank) -> bool {
        let line = match subject {
            Subject::Job(id) => self.jobs.get(id),
            Subject::Vm(key) => self.vms.get(key),
        };
        line.is_some_and(|line| line.place(rank).is_ok())
    }

    pub(crate) fn vms_of(&self, id: Uuid) -> impl Iterator<Item = (&VmKey, &Line)> {
        vm::of_job(&self.vms, id)
    }
}

/// The time line of a job or a VM: its slots, and the row that they make.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) row: Row,
    /// By rank.
    pub(crate) slots: Vec<Recorded>,
}

impl Line {
    fn first(slot: Recorded) -> Self {
        // The life of a job, with room for one more; `vec!` would have room for this one only.
        let mut slots = Vec::with_capacity(4);
        let row = Row::first(&slot.claim);
        slots.push(slot);
        Self { row, slots }
    }

    fn merge(&mut self, claim: &Claim, recorded_at: Timestamp, sequence: &mut Sequence) -> Outcome {
        match self.place(claim.rank()) {
            Err(free) => {
                self.slots.insert(free, sequence.record(claim, recorded_at));
                if self.row.join(claim) {
                    Outcome::Applied { created: false }
                } else {
                    Outcome::Late {
                        current: self.row.current(),
                    }
                }
            }
            Ok(held) => {
                let held = &mut self.slots[held];
                let mut slot = held.slot();
                let fill = slot.fill(claim);
                let standing = slot.state;
                if fill == Fill::Filled {
                    self.row.join(&slot);
                    sequence.refill(held, slot);
                }
                merge::outcome_of_held(fill, standing, self.row.current())
            }
        }
    }

    /// Where the slot of a rank is, or else where it belongs.
    pub(crate) fn place(&self, rank: Rank) -> Result<usize, usize> {
        self.slots.binary_search_by_key(&rank, |slot| slot.claim.rank())
    }
}

/// A key whose first part is a request id.
pub(crate) trait Key: Ord + Hash + Clone {
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

/// Time lines by key. The two orders change only where a line comes, goes or turns out to be older: any other
/// update finds its line by hash alone.
#[derive(Debug)]
pub(crate) struct Table<K> {
    /// Boxed, as a map that grows moves what it holds: 300 bytes a line cost a third of the
    /// rate (2026-11).
    lines: HashMap<K, Box<Line>, RandomState>,
    by_id: BTreeSet<K>,
    by_age: BTreeSet<(Timestamp, K)>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self {
            lines: HashMap::default(),
            by_id: BTreeSet::new(),
            by_age: BTreeSet::new(),
        }
    }
}

impl<K: Key> Table<K> {
    pub(crate) fn get(&self, key: &K) -> Option<&Line> {
        self.lines.get(key).map(Box::as_ref)
    }

    /// The lines in the order of their keys.
    pub(crate) fn from(&self, start: Bound<K>) -> impl Iterator<Item = (&K, &Line)> {
        let keys = self.by_id.range((start, Bound::Unbounded));
        keys.filter_map(|key| self.with_line(key))
    }

    fn with_line<'a>(&'a self, key: &'a K) -> Option<(&'a K, &'a Line)> {
        self.get(key).map(|line| (key, line))
    }

    fn merge(&mut self, key: &K, claim: &Claim, recorded_at: Timestamp, sequence: &mut Sequence) -> Outcome {
        let Some(line) = self.lines.get_mut(key) else {
            let line = Box::new(Line::first(sequence.record(claim, recorded_at)));
            self.by_id.insert(key.clone());
            self.by_age.insert((line.row.created_at, key.clone()));
            self.lines.insert(key.clone(), line);
            return Outcome::Applied { created: true };
        };
        let before = line.row.created_at;
        let outcome = line.merge(claim, recorded_at, sequence);
        if line.row.created_at != before {
            self.by_age.remove(&(before, key.clone()));
            self.by_age.insert((line.row.created_at, key.clone()));
        }
        outcome
    }

    fn remove(&mut self, key: &K, sequence: &mut Sequence) -> i64 {
        let Some(line) = self.lines.remove(key) else {
            return 0;
        };
        self.by_id.remove(key);
        self.by_age.remove(&(line.row.created_at, key.clone()));
        sequence.forget(&line.slots)
    }

    /// The rows of an order after a place in it, beginning and ending where the ranges do. The ranges only
    /// shorten the way: rows outside of them may come along.
    pub(crate) fn walk(
        &self,
        order: Order,
        after: Option<(Timestamp, K)>,
        created: TimeRange,
        from_id: Option<Uuid>,
    ) -> Box<dyn Iterator<Item = (&K, &Line)> + '_> {
        match order {
            Order::OldestFirst => {
                let from = created.from.map(|from| (from, K::lowest(Uuid::nil())));
                let start = later(after.map(Bound::Excluded), from.map(Bound::Included));
                let ages = self.by_age.range((start, Bound::Unbounded));
                let until = move |at: Timestamp| created.until.is_none_or(|until| at < until);
                Box::new(
                    ages.take_while(move |(at, _)| until(*at))
                        .filter_map(|(_, key)| self.with_line(key)),
                )
            }
            Order::NewestFirst => {
                let until = created.until.map(|until| (until, K::lowest(Uuid::nil())));
                let end = match (after, until) {
                    (Some(after), Some(until)) => Bound::Excluded(after.min(until)),
                    (one, other) => one.or(other).map_or(Bound::Unbounded, Bound::Excluded),
                };
                let ages = self.by_age.range((Bound::Unbounded, end)).rev();
                let from = move |at: Timestamp| created.from.is_none_or(|from| from <= at);
                Box::new(
                    ages.take_while(move |(at, _)| from(*at))
                        .filter_map(|(_, key)| self.with_line(key)),
                )
            }
            Order::ById => {
                let from = from_id.map(K::lowest).map(Bound::Included);
                let start = later(after.map(|(_, key)| Bound::Excluded(key)), from);
                Box::new(self.from(start))
            }
        }
    }
}

/// The later of two places to start from; a cursor comes first, an inclusive start second.
fn later<T: Ord>(cursor: Option<Bound<T>>, start: Option<Bound<T>>) -> Bound<T> {
    match (cursor, start) {
        (Some(Bound::Excluded(cursor)), Some(Bound::Included(start))) if cursor < start => {
            Bound::Included(start)
        }
        (Some(bound), _) | (None, Some(bound)) => bound,
        (None, None) => Bound::Unbounded,
    }
}
