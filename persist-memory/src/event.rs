//! The history: claimed slots by key and by their latest change.

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
    pub(crate) recorded_at: Timestamp,
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
///
/// A list, as numbers only grow: a tree cost a seventh of an update's time (2026-11). Whatever leaves makes a gap, and
/// the gaps are closed when they are more than half of the list.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    claims: Vec<(i64, Option<Claim>)>,
    gaps: usize,
    pub(crate) last: i64,
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
        self.leave(recorded.seq);
        recorded.seq = self.append(&recorded.claim);
        recorded.filled = Some(Box::new(slot));
    }

    /// The numbers of these slots are never given again. The highest of them.
    pub(crate) fn forget(&mut self, slots: &[Recorded]) -> i64 {
        for slot in slots {
            self.leave(slot.seq);
        }
        slots.iter().map(|slot| slot.seq).max().unwrap_or_default()
    }

    fn append(&mut self, claim: &Claim) -> i64 {
        self.last += 1;
        self.claims.push((self.last, Some(claim.clone())));
        self.last
    }

    fn leave(&mut self, seq: i64) {
        if let Ok(at) = self.claims.binary_search_by_key(&seq, |(seq, _)| *seq)
            && self.claims[at].1.take().is_some()
        {
            self.gaps += 1;
        }
        if self.gaps * 2 > self.claims.len() {
            self.claims.retain(|(_, claim)| claim.is_some());
            self.gaps = 0;
        }
    }

    /// The claims after a number.
    fn after(&self, seq: i64) -> impl Iterator<Item = &Claim> {
        let start = self.claims.partition_point(|(at, _)| *at <= seq);
        self.claims[start..]
            .iter()
            .filter_map(|(_, claim)| claim.as_ref())
    }
}

/// The slots after a number, in the order of their latest change.
pub(crate) fn after(state: &State, seq: i64) -> impl Iterator<Item = Event> {
    let claims = state.sequence.after(seq);
    claims.filter_map(|claim| held(state, claim)).map(Recorded::event)
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
            let claims = state.sequence.after(after.map_or(0, Seq::get));
            claims
                .filter(|claim| wanted(claim))
                .filter_map(|claim| held(state, claim))
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

#[cfg(test)]
mod tests {
    use super::*;
    use persist_core::{JobState, JobUpdate, SystemClock, time};

    #[test]
    fn the_sequence_is_in_order_whatever_left_it_and_closes_its_gaps() {
        let mut sequence = Sequence::default();
        let at = time::from_micros(0).unwrap();
        let mut slots: Vec<_> = (1..=1_000)
            .map(|id| {
                let update = JobUpdate::new(Uuid::from_u128(id), JobState::Queued);
                sequence.record(&update.check(&SystemClock).unwrap(), at)
            })
            .collect();
        let is_right = |sequence: &Sequence, slots: &[Recorded]| {
            let mut known: Vec<_> = slots.iter().map(|slot| (slot.seq, &slot.claim)).collect();
            known.sort_by_key(|(seq, _)| *seq);
            for after in [0, 1, 500, 999, 1_000, 1_500, sequence.last] {
                let later = known
                    .iter()
                    .filter(|(seq, _)| *seq > after)
                    .map(|(_, claim)| *claim);
                assert!(sequence.after(after).eq(later), "after {after}");
            }
            assert!(
                sequence.claims.len() <= 2 * slots.len(),
                "no more gaps than claims"
            );
        };
        is_right(&sequence, &slots);
        for nth in (0..1_000).chain((0..1_000).step_by(7)) {
            let slot = slots[nth].slot();
            sequence.refill(&mut slots[nth], slot);
        }
        is_right(&sequence, &slots);
        while slots.len() > 1 {
            let gone: Vec<_> = slots.drain(..slots.len() / 3 + 1).collect();
            sequence.forget(&gone);
            is_right(&sequence, &slots);
        }
        sequence.forget(&slots);
        is_right(&sequence, &[]);
        assert_eq!(sequence.last, 2_143, "numbers are never given again");
    }
}
