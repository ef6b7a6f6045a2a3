//! The history: claimed slots by key and by their latest change.

use std::collections::BTreeMap;
use std::iter;
use std::ops::Bound;

use persist_core::merge::Slot;
use persist_core::{Claim, Event, EventPosition, EventQuery, Page, Rank, Seq, Subject, Timestamp, VmKey};
use uuid::Uuid;

use crate::state::{Key as _, Line, State};

/// A claimed slot.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// The claim that found the slot free; shared with the caller, as a claim never changes.
    pub(crate) claim: Claim,
    /// What the slot holds since another claim filled blanks of it.
    filled: Option<Box<Slot>>,
    seq: i64,
    recorded_at: Timestamp,
}

impl Recorded {
    pub(crate) fn slot(&self) -> Slot {
        match &self.filled {
            Some(slot) => Slot::clone(slot),
            None => Slot::claimed_by(&self.claim),
        }
    }

    fn event(&self) -> Event {
        Event::new(
            Seq::new(self.seq),
            self.recorded_at,
            self.claim.subject().clone(),
            self.slot(),
        )
    }
}

/// The slots in the order of their latest change, each by the claim that names it.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    claims: BTreeMap<i64, Claim>,
    last: i64,
}

impl Sequence {
    /// A slot for a claim that found it free.
    pub(crate) fn record(&mut self, claim: &Claim, recorded_at: Timestamp) -> Recorded {
        Recorded {
            claim: claim.clone(),
            filled: None,
            seq: self.append(claim),
            recorded_at,
        }
    }

    /// Moves a slot to the end, with what it now holds.
    pub(crate) fn refill(&mut self, recorded: &mut Recorded, slot: Slot) {
        self.claims.remove(&recorded.seq);
        recorded.seq = self.append(&recorded.claim);
        recorded.filled = Some(Box::new(slot));
    }

    /// The numbers of these slots are never given again.
    pub(crate) fn forget(&mut self, slots: &[Recorded]) {
        for slot in slots {
            self.claims.remove(&slot.seq);
        }
    }

    fn append(&mut self, claim: &Claim) -> i64 {
        self.last += 1;
        self.claims.insert(self.last, claim.clone());
        self.last
    }
}

/// A page of a checked query.
pub(crate) fn page(
    state: &State,
    query: &EventQuery,
    position: EventPosition,
    instance_id: Uuid,
) -> Page<Event> {
    let most = query.limit as usize + 1;
    let wanted = |claim: &Claim| {
        let id = claim.subject().request_id();
        query.request_id.is_none_or(|wanted| wanted == id)
    };
    let events = match position {
        EventPosition::Key(after) => {
            let first = query.request_id.unwrap_or_default();
            let after = after.filter(|(subject, _)| first <= subject.request_id());
            by_key(state, first, after)
                .take_while(|recorded| wanted(&recorded.claim))
                .take(most)
                .map(Recorded::event)
                .collect()
        }
        EventPosition::Seq(after) => {
            let start = after.map_or(Bound::Unbounded, |seq| Bound::Excluded(seq.get()));
            let claims = state.sequence.claims.range((start, Bound::Unbounded));
            claims
                .filter(|(_, claim)| wanted(claim))
                .filter_map(|(_, claim)| held(state, claim))
                .take(most)
                .map(Recorded::event)
                .collect()
        }
    };
    Page::from_overread(events, query.limit, |event| query.cursor(event, instance_id))
}

/// The slots in the order of their keys: after one of them, or else from a request id on.
fn by_key(state: &State, first: Uuid, after: Option<(Subject, Rank)>) -> impl Iterator<Item = &Recorded> {
    let start = after
        .as_ref()
        .map_or(Subject::Job(first), |(subject, _)| subject.clone());
    lines(state, start).flat_map(move |line| match &after {
        Some((subject, rank))
            if line
                .slots
                .first()
                .is_some_and(|slot| slot.claim.subject() == subject) =>
        {
            let next = line.place(*rank).map_or_else(|free| free, |held| held + 1);
            &line.slots[next..]
        }
        _ => &line.slots[..],
    })
}

/// The time lines from a subject on: a job before its VMs.
fn lines(state: &State, start: Subject) -> impl Iterator<Item = &Line> {
    let (job, vm) = match start {
        Subject::Job(id) => (Bound::Included(id), VmKey::lowest(id)),
        Subject::Vm(key) => (Bound::Excluded(key.request_id), key),
    };
    let mut jobs = state.jobs.from(job).peekable();
    let mut vms = state.vms.from(Bound::Included(vm)).peekable();
    iter::from_fn(move || {
        let vm_is_next = match (jobs.peek(), vms.peek()) {
            (Some((id, _)), Some((vm, _))) => vm.request_id < **id,
            (_, vm) => vm.is_some(),
        };
        if vm_is_next {
            vms.next().map(|(_, line)| line)
        } else {
            jobs.next().map(|(_, line)| line)
        }
    })
}

/// The slot that a claim names.
fn held<'a>(state: &'a State, claim: &Claim) -> Option<&'a Recorded> {
    let line = match claim.subject() {
        Subject::Job(id) => state.jobs.get(id),
        Subject::Vm(key) => state.vms.get(key),
    }?;
    line.place(claim.rank()).ok().map(|place| &line.slots[place])
}
