use std::collections::HashMap;

use super::*;
use persist_core::merge::{self, Fill, Row};
use persist_core::{JobState, JobUpdate, StateTable as _, SystemClock, Update, VmState, VmUpdate};
use proptest::prelude::*;
use uuid::Uuid;

/// Slots and rows as the database has them.
#[derive(Default, Clone, PartialEq, Debug)]
struct Store(HashMap<Subject, (HashMap<Rank, Slot>, Option<Row>)>);

impl Store {
    /// The contract: one claim after the other.
    fn one(&mut self, claim: &Claim) -> Outcome {
        let (slots, row) = self.0.entry(claim.subject().clone()).or_default();
        if let Some(slot) = slots.get_mut(&claim.rank()) {
            let fill = slot.fill(claim);
            let row = row.as_mut().unwrap();
            if fill == Fill::Filled {
                row.join(slot);
            }
            return merge::outcome_of_held(fill, slot.state, row.current());
        }
        let slot = Slot::claimed_by(claim);
        slots.insert(claim.rank(), slot.clone());
        match row {
            None => {
                *row = Some(Row::first(&slot));
                Outcome::Applied { created: true }
            }
            Some(row) => {
                if row.join(&slot) {
                    Outcome::Applied { created: false }
                } else {
                    Outcome::Late {
                        current: row.current(),
                    }
                }
            }
        }
    }

    /// What the merging statement does with a wave, all at once.
    fn merge<'b>(&mut self, batch: &'b [Claim], wave: &Wave) -> Returned<'b> {
        let mut returned = Returned::default();
        let mut changed: HashMap<&Subject, Vec<Slot>> = HashMap::new();
        for claim in wave.sent.iter().map(|index| &batch[*index]) {
            let (slots, _) = self.0.entry(claim.subject().clone()).or_default();
            let free = !slots.contains_key(&claim.rank());
            let slot = slots
                .entry(claim.rank())
                .or_insert_with(|| Slot::claimed_by(claim));
            if free || slot.fill(claim) == Fill::Filled {
                let doubled = returned.slots.insert((claim.subject(), claim.rank()), free);
                assert!(doubled.is_none(), "a wave names a slot twice");
                changed.entry(claim.subject()).or_default().push(slot.clone());
            }
        }
        if returned.slots.len() == wave.sent.len() && returned.slots.values().all(|claimed| *claimed) {
            returned.are_all_claimed = true;
            returned.slots.clear();
        }
        for (subject, slots) in changed {
            let (_, row) = self.0.get_mut(subject).unwrap();
            let before = row.as_ref().map(|row| row.rank);
            for slot in &slots {
                match row {
                    None => *row = Some(Row::first(slot)),
                    Some(row) => drop(row.join(slot)),
                }
            }
            let row = row.as_ref().unwrap();
            returned.rows.insert(
                subject,
                Moved {
                    before,
                    rank: row.rank,
                    state: row.state,
                },
            );
        }
        returned
    }

    fn look(&self, subject: &Subject, rank: Rank) -> Found {
        let (slots, row) = &self.0[subject];
        Found {
            standing: slots.get(&rank).map(|slot| slot.state),
            row: row.as_ref().map(|row| (row.rank, row.state)),
        }
    }

    /// The batch by waves, as `merge::chunk` runs it.
    fn by_waves(&mut self, batch: &[Claim]) -> Vec<Outcome> {
        let mut outcomes = vec![None; batch.len()];
        for wave in plan(batch, 0..batch.len()) {
            let returned = self.merge(batch, &wave);
            let mut looked = Looked::new();
            let settled = loop {
                let settled = settle(batch, &wave, &returned, &looked);
                if settled.missing.is_empty() {
                    break settled;
                }
                for (subject, rank) in settled.missing {
                    looked.insert((subject, rank), self.look(subject, rank));
                }
            };
            assert_eq!(settled.vanished, [0; 0]);
            for (index, outcome) in settled.outcomes {
                assert!(outcomes[index].replace(outcome).is_none(), "answered twice");
            }
        }
        outcomes
            .into_iter()
            .map(|outcome| outcome.expect("answered"))
            .collect()
    }
}

fn claim() -> impl Strategy<Value = Claim> {
    let word = || prop_oneof![Just(String::new()), Just("a".to_owned()), Just("b".to_owned())];
    let said = (word(), word(), word(), 1..4_i64);
    let job = (1..3_u128, 1..3_u32, 0..JobState::TABLE.len(), said.clone()).prop_map(
        |(id, attempt, state, said)| {
            let at = chrono::DateTime::from_timestamp(said.3, 0).unwrap();
            let update = JobUpdate::new(Uuid::from_u128(id), JobState::TABLE[state].state)
                .attempt(attempt)
                .at(at);
            Update::from(update.repo_url(said.0).runs_on(said.1).actor(said.2))
        },
    );
    let vm = (1..3_u128, 1..3_u32, 0..VmState::TABLE.len(), said).prop_map(|(id, attempt, state, said)| {
        let at = chrono::DateTime::from_timestamp(said.3, 0).unwrap();
        let update = VmUpdate::new(Uuid::from_u128(id), "vm", VmState::TABLE[state].state)
            .attempt(attempt)
            .at(at);
        Update::from(update.backend(said.0).seed_path(said.1).reason(said.2))
    });
    prop_oneof![job, vm].prop_map(|update| update.check(&SystemClock).unwrap())
}

proptest! {
    #[test]
    fn waves_do_what_one_by_one_does(batches in prop::collection::vec(prop::collection::vec(claim(), 0..40), 1..4)) {
        let (mut one_by_one, mut by_waves) = (Store::default(), Store::default());
        for batch in &batches {
            let expected: Vec<_> = batch.iter().map(|claim| one_by_one.one(claim)).collect();
            prop_assert_eq!(by_waves.by_waves(batch), expected);
            prop_assert_eq!(&by_waves, &one_by_one);
        }
    }
}

fn queued(id: u128, repo: &str) -> Claim {
    let update = JobUpdate::new(Uuid::from_u128(id), JobState::Queued).repo_url(repo);
    update.check(&SystemClock).unwrap()
}

#[test]
fn a_repetition_that_says_nothing_new_is_not_sent() {
    let batch = [
        queued(2, "r"),
        queued(1, ""),
        queued(2, ""),
        queued(1, "r"),
        queued(1, ""),
    ];
    let waves = plan(&batch, 0..batch.len());
    assert_eq!(waves.len(), 2);
    assert_eq!(
        (&waves[0].sent[..], &waves[0].steps[..]),
        (&[1, 0][..], &[(0, 0), (1, 1), (2, 0)][..])
    );
    assert_eq!(
        (&waves[1].sent[..], &waves[1].steps[..]),
        (&[3][..], &[(3, 3), (4, 3)][..])
    );
    assert!(plan(&[], 0..0).is_empty());
}

#[test]
fn a_vanished_slot_is_started_again() {
    let batch = [queued(1, "r")];
    let waves = plan(&batch, 0..1);
    let slot = (batch[0].subject(), batch[0].rank());
    // Only pruning takes both. Where the slot still stands, the row went by another's hand.
    for (standing, without_row) in [(None, None), (Some(batch[0].state()), Some(batch[0].subject()))] {
        let looked = Looked::from([(slot, Found { standing, row: None })]);
        let settled = settle(&batch, &waves[0], &Returned::default(), &looked);
        assert_eq!((settled.outcomes.len(), settled.vanished), (0, vec![0]));
        assert_eq!(settled.without_row, without_row);
    }
}
