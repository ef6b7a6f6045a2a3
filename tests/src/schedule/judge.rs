//! What a store must hold, and what it may, by what was told.

use std::collections::BTreeMap;

use persist_core::{Attribute, Claim, Current, Event, Outcome, Rank, Subject};

use super::play::{Known, Said};

type Slots<'a> = BTreeMap<(&'a Subject, Rank), &'a Event>;

/// Compares a history with what was told: all that was acknowledged is there, as it was told, and nothing is there
/// that nobody said or that was told not to be.
pub(super) fn judge(said: &[Said], history: &[Event]) -> Result<(), String> {
    let mut slots = Slots::new();
    for event in history {
        if slots.insert((&event.subject, event.rank), event).is_some() {
            return Err(format!("one slot stands twice: {event:?}"));
        }
    }
    for event in history {
        comes_from(event, said)?;
    }
    let mut taken: BTreeMap<(&Subject, Rank), &Claim> = BTreeMap::new();
    let mut made: BTreeMap<&Subject, &Claim> = BTreeMap::new();
    for Said { claim, known } in said {
        let Known::Told(outcome) = known else { continue };
        let key = (claim.subject(), claim.rank());
        is_there(claim, *outcome, &slots)?;
        let takes = matches!(outcome, Outcome::Applied { .. } | Outcome::Late { .. });
        if takes && let Some(other) = taken.insert(key, claim) {
            return Err(format!("a slot was taken twice, by {claim:?} and {other:?}"));
        }
        let makes = *outcome == (Outcome::Applied { created: true });
        if makes && let Some(other) = made.insert(claim.subject(), claim) {
            return Err(format!("a row was made twice, by {claim:?} and {other:?}"));
        }
    }
    Ok(())
}

/// Actor, reason and attributes.
fn values(claim: &Claim) -> [Option<&str>; 8] {
    let [a, b, c, d, e, f] = Attribute::ALL.map(|attribute| claim.attribute(attribute));
    [claim.actor(), claim.reason(), a, b, c, d, e, f]
}

fn held(event: &Event) -> [Option<&str>; 8] {
    let [a, b, c, d, e, f] = Attribute::ALL.map(|attribute| event.attributes.get(attribute));
    [event.actor.as_deref(), event.reason.as_deref(), a, b, c, d, e, f]
}

/// Fails unless all that a slot holds was said by somebody who was not told that it didn't happen.
fn comes_from(event: &Event, said: &[Said]) -> Result<(), String> {
    let may_stand = |known: &Known| match known {
        Known::NotApplied | Known::Told(Outcome::Refused { .. }) => false,
        Known::Told(_) | Known::Unknown => true,
    };
    let sources: Vec<_> = said
        .iter()
        .filter(|said| may_stand(&said.known))
        .map(|said| &said.claim)
        .filter(|claim| {
            (claim.subject(), claim.rank(), claim.state()) == (&event.subject, event.rank, event.state)
        })
        .collect();
    if !sources.iter().any(|claim| claim.at() == event.at) {
        return Err(format!("nobody said this slot: {event:?}"));
    }
    for (n, value) in held(event).iter().enumerate() {
        if value.is_some() && !sources.iter().any(|claim| values(claim)[n] == *value) {
            return Err(format!("nobody said {value:?} of this slot: {event:?}"));
        }
    }
    Ok(())
}

/// Fails unless an acknowledged claim is in its slot as it was told.
fn is_there(claim: &Claim, outcome: Outcome, slots: &Slots<'_>) -> Result<(), String> {
    let Some(event) = slots.get(&(claim.subject(), claim.rank())) else {
        return Err(format!(
            "{outcome:?} was told, and the slot is not there: {claim:?}"
        ));
    };
    let pairs = values(claim).into_iter().zip(held(event));
    let given: Vec<_> = pairs.filter(|(mine, _)| mine.is_some()).collect();
    let (state, rank) = (claim.state(), claim.rank());
    let same = event.state == state;
    let fits = match outcome {
        Outcome::Applied { .. } | Outcome::Late { .. } => {
            same && event.at == claim.at() && given.iter().all(|(mine, its)| mine == its)
        }
        Outcome::Filled { .. } => {
            let filled = given.iter().any(|(mine, its)| mine == its);
            same && filled && given.iter().all(|(_, its)| its.is_some())
        }
        Outcome::Unchanged { .. } => same && given.iter().all(|(_, its)| its.is_some()),
        Outcome::Refused { standing, .. } => !same && event.state == standing,
        _ => true,
    };
    let row_fits = outcome.current().is_none_or(|Current { state, attempt }| {
        let row = Rank::new(attempt, state.phase());
        let is_high = match outcome {
            Outcome::Late { .. } => row > rank,
            _ => row >= rank,
        };
        is_high
            && slots
                .get(&(claim.subject(), row))
                .is_some_and(|top| top.state == state)
    });
    if fits && row_fits {
        return Ok(());
    }
    Err(format!(
        "{outcome:?} was told to {claim:?}, and its slot is {event:?}"
    ))
}

#[cfg(test)]
mod tests {
    use persist_core::JobState::{Failed, Queued, Running, Succeeded};
    use persist_core::{JobUpdate, Seq, Slot};

    use super::*;
    use crate::sample::{CREATED, MOVED, at, claims, filled, job, late, refused, unchanged};

    fn said(update: JobUpdate, known: Known) -> Said {
        let claim = claims([update]).unwrap().remove(0);
        Said { claim, known }
    }

    fn told(update: JobUpdate, outcome: Outcome) -> Said {
        said(update, Known::Told(outcome))
    }

    fn slot(update: JobUpdate) -> Event {
        let claim = claims([update]).unwrap().remove(0);
        let subject = claim.subject().clone();
        Event::new(Seq::new(1), at(0), subject, Slot::claimed_by(&claim))
    }

    #[test]
    fn what_was_told_must_be_there_as_it_was_told() {
        let running = || job(1, Running).runs_on("large");
        let holds = |said: Said, history: &[Event]| judge(&[said], history).is_ok();
        assert!(holds(told(running(), CREATED), &[slot(running())]));
        assert!(!holds(told(running(), CREATED), &[]));
        assert!(!holds(told(running(), CREATED), &[slot(job(1, Running))]));
        assert!(!holds(told(running(), CREATED), &[slot(running().at(at(99)))]));
        assert!(!holds(
            told(running(), filled(Running, 1)),
            &[slot(job(1, Running))]
        ));
        // The row that is told is a slot, and not below.
        assert!(!holds(told(running(), late(Running, 1)), &[slot(running())]));
        assert!(!holds(told(running(), unchanged(Failed, 1)), &[slot(running())]));
        let endings = [
            told(job(1, Failed), CREATED),
            told(job(1, Succeeded), refused(Failed, Failed, 1)),
        ];
        assert_eq!(judge(&endings, &[slot(job(1, Failed))]), Ok(()));
        assert!(judge(&endings, &[slot(job(1, Succeeded))]).is_err());
    }

    #[test]
    fn a_slot_is_taken_and_a_row_made_once() {
        let twice = [told(job(1, Queued), CREATED), told(job(1, Queued), MOVED)];
        assert!(judge(&twice, &[slot(job(1, Queued))]).is_err());
        let made = [told(job(1, Queued), CREATED), told(job(1, Running), CREATED)];
        assert!(judge(&made, &[slot(job(1, Queued)), slot(job(1, Running))]).is_err());
        assert!(judge(&made[..1], &[slot(job(1, Queued)), slot(job(1, Queued))]).is_err());
    }

    #[test]
    fn what_is_unknown_may_be_there_and_what_was_not_applied_may_not() {
        let queued = || job(1, Queued).actor("me");
        for (known, may) in [(Known::Unknown, true), (Known::NotApplied, false)] {
            assert_eq!(judge(&[said(queued(), known)], &[]), Ok(()));
            let there = judge(&[said(queued(), known)], &[slot(queued())]);
            assert_eq!(there.is_ok(), may, "{there:?}");
        }
        assert!(judge(&[], &[slot(queued())]).is_err(), "nobody said it");
        let without = told(job(1, Queued), CREATED);
        assert!(
            judge(&[without], &[slot(queued())]).is_err(),
            "nobody said the actor"
        );
    }
}
