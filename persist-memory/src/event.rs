//! The history: claimed slots by key and by their latest change.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use persist_core::merge::Fill;
use persist_core::{
    Attempt, Claim, Event, EventPosition, EventQuery, Page, Rank, Seq, Slot, Subject, Timestamp,
};
use uuid::Uuid;

use crate::state::{State, later};

type Key = (Subject, Rank);

/// All claimed slots.
#[derive(Debug, Default)]
pub(crate) struct History {
    slots: BTreeMap<Key, Recorded>,
    by_seq: BTreeMap<i64, Key>,
    last_seq: i64,
}

#[derive(Debug)]
struct Recorded {
    seq: i64,
    recorded_at: Timestamp,
    slot: Slot,
}

impl History {
    /// Claims the slot: `Ok` with it where it was free, else what became of the one that stands.
    pub(crate) fn claim(&mut self, claim: &Claim, recorded_at: Timestamp) -> Result<&Slot, (Fill, &Slot)> {
        let key = (claim.subject().clone(), claim.rank());
        match self.slots.entry(key) {
            Entry::Vacant(free) => {
                self.last_seq += 1;
                let seq = self.last_seq;
                self.by_seq.insert(seq, free.key().clone());
                Ok(&free
                    .insert(Recorded {
                        seq,
                        recorded_at,
                        slot: Slot::claimed_by(claim),
                    })
                    .slot)
            }
            Entry::Occupied(held) => {
                let recorded = held.into_mut();
                let fill = recorded.slot.fill(claim);
                if fill == Fill::Filled
                    && let Some(key) = self.by_seq.remove(&recorded.seq)
                {
                    self.last_seq += 1;
                    recorded.seq = self.last_seq;
                    self.by_seq.insert(recorded.seq, key);
                }
                Err((fill, &recorded.slot))
            }
        }
    }

    /// Keys of a job's slots and those of its VMs, in order.
    pub(crate) fn of_request(&self, id: Uuid) -> impl Iterator<Item = &Key> {
        let keys = self.slots.range(first(id)..).map(|(key, _)| key);
        keys.take_while(move |(subject, _)| subject.request_id() == id)
    }

    /// Forgets a job and its VMs. Their sequence numbers are never given again.
    pub(crate) fn remove(&mut self, id: Uuid) {
        for key in self.of_request(id).cloned().collect::<Vec<_>>() {
            if let Some(recorded) = self.slots.remove(&key) {
                self.by_seq.remove(&recorded.seq);
            }
        }
    }

    fn event(&self, key: &Key) -> Option<Event> {
        let recorded = self.slots.get(key)?;
        Some(event(key, recorded))
    }
}

fn event(key: &Key, recorded: &Recorded) -> Event {
    Event::new(
        Seq::new(recorded.seq),
        recorded.recorded_at,
        key.0.clone(),
        recorded.slot.clone(),
    )
}

/// The lowest key of a request id: its job's first slot.
fn first(id: Uuid) -> Key {
    (Subject::Job(id), Rank::new(Attempt::FIRST, 0))
}

/// A page of a checked query.
pub(crate) fn page(
    state: &State,
    query: &EventQuery,
    position: EventPosition,
    instance_id: Uuid,
) -> Page<Event> {
    let history = &state.history;
    let most = query.limit as usize + 1;
    let of_request = |id: Uuid| query.request_id.is_none_or(|wanted| wanted == id);
    let events = match position {
        EventPosition::Key(after) => {
            let start = later(
                after.map(Bound::Excluded),
                query.request_id.map(first).map(Bound::Included),
            );
            let slots = history.slots.range((start, Bound::Unbounded));
            slots
                .take_while(|((subject, _), _)| of_request(subject.request_id()))
                .take(most)
                .map(|(key, recorded)| event(key, recorded))
                .collect()
        }
        EventPosition::Seq(after) => {
            let start = after.map_or(Bound::Unbounded, |seq| Bound::Excluded(seq.get()));
            let keys = history
                .by_seq
                .range((start, Bound::Unbounded))
                .map(|(_, key)| key);
            keys.filter(|(subject, _)| of_request(subject.request_id()))
                .take(most)
                .filter_map(|key| history.event(key))
                .collect()
        }
    };
    Page::from_overread(events, query.limit, |event| query.cursor(event, instance_id))
}
