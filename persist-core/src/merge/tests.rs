use super::*;
use crate::{Attempt, FixedClock, JobState, JobUpdate, time};
use uuid::Uuid;

fn at(second: i64) -> Timestamp {
    time::from_micros(second * 1_000_000).unwrap()
}

fn update(state: JobState, second: i64) -> JobUpdate {
    JobUpdate::new(Uuid::from_u128(1), state).at(at(second))
}

fn claim(update: JobUpdate) -> Claim {
    update.check(&FixedClock(at(0))).unwrap()
}

fn slot(update: JobUpdate) -> Slot {
    Slot::claimed_by(&claim(update))
}

fn current(state: JobState, attempt: u32) -> Current {
    Current {
        state: state.into(),
        attempt: Attempt::new(attempt).unwrap(),
    }
}

#[test]
fn each_blank_is_filled_once_and_by_the_same_state_only() {
    use JobState::{Failed, Succeeded};
    let full = || update(Failed, 9).actor("me").reason("why").runs_on("small");
    let blanks: [(&str, JobUpdate); 4] = [
        ("actor", update(Failed, 1).reason("a").runs_on("a")),
        ("reason", update(Failed, 1).actor("a").runs_on("a")),
        ("runs_on", update(Failed, 1).actor("a").reason("a")),
        ("all", update(Failed, 1)),
    ];
    for (what, held) in blanks {
        let (mut held, other) = (slot(held), claim(full()));
        let before = held.clone();
        assert!(held.lacks_any_of(&other), "{what}");
        assert_eq!(held.fill(&other), Fill::Filled, "{what}");
        assert!(!held.lacks_any_of(&other), "{what}");
        assert_eq!(held.fill(&other), Fill::Unchanged, "{what}");
        let kept = |before: &Option<String>, brought: &str| before.clone().or(Some(brought.to_owned()));
        assert_eq!(held.actor, kept(&before.actor, "me"));
        assert_eq!(held.reason, kept(&before.reason, "why"));
        assert_eq!(
            (held.at, held.state),
            (at(1), Failed.into()),
            "these never change"
        );
    }
    let mut bare = slot(full());
    assert!(
        !bare.lacks_any_of(&claim(update(Failed, 1))),
        "blanks bring nothing"
    );
    assert_eq!(bare.fill(&claim(update(Failed, 1))), Fill::Unchanged);
    let standing = slot(update(Failed, 1));
    let mut held = standing.clone();
    let other = claim(update(Succeeded, 1).actor("me").runs_on("small"));
    assert_eq!(held.fill(&other), Fill::Refused);
    assert_eq!(held, standing);
    assert_eq!(slot(full()).actor.as_deref(), Some("me"));
}

#[test]
fn a_row_is_the_join_of_its_slots_in_any_order() {
    use JobState::{Queued, Running, Succeeded};
    let slots = [
        slot(update(Queued, 50).repo_url("https://h/a").runs_on("old")),
        slot(update(Running, 20).runs_on("new").actor("me")),
        slot(update(Succeeded, 40)),
        slot(update(Queued, 30).attempt(2)),
    ];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
        let row = fold(order.map(|n| &slots[n])).unwrap();
        assert_eq!((row.created_at, row.updated_at), (at(20), at(50)), "{order:?}");
        assert_eq!(row.current(), current(Queued, 2));
        assert_eq!(row.attributes.get(Attribute::RunsOn), Some("new"));
        assert_eq!(row.attribute_rank(Attribute::RunsOn), Some(slots[1].rank));
        assert_eq!(row.attributes.get(Attribute::RepoUrl), Some("https://h/a"));
        assert_eq!(row.attribute_rank(Attribute::RepoUrl), Some(slots[0].rank));
        assert_eq!(row.attribute_rank(Attribute::CommitSha), None);
    }
    assert_eq!(fold([]), None);
}

#[test]
fn only_a_higher_slot_moves_a_row_forward() {
    use JobState::{Failed, Queued, Running, Succeeded};
    let mut row = Row::first(&claim(update(Running, 5).runs_on("a")));
    assert_eq!((row.created_at, row.updated_at), (at(5), at(5)));
    assert!(!row.join(&claim(update(Queued, 1))), "lower");
    assert!(!row.join(&claim(update(Running, 5))), "the same");
    assert_eq!(row.current(), current(Running, 1));
    assert!(row.join(&claim(update(Succeeded, 9).runs_on("b"))));
    assert_eq!(row.current(), current(Succeeded, 1));
    assert_eq!(row.attributes.get(Attribute::RunsOn), Some("b"));
    assert!(
        !row.join(&claim(update(Failed, 9))),
        "another ending of the same rank"
    );
    assert_eq!(row.current(), current(Succeeded, 1));
    // What a table holds is the same row.
    let stored = Row::stored(row.rank, row.state, row.created_at, row.updated_at);
    assert_eq!(stored.attribute_rank(Attribute::RunsOn), None);
    assert_eq!(stored.with(Attribute::RunsOn, "b".into(), row.rank), row);
}

#[test]
fn the_outcome_of_a_held_slot_tells_what_stands() {
    let (standing, current) = (State::Job(JobState::Failed), current(JobState::Queued, 2));
    let table = [
        (Fill::Filled, Outcome::Filled { current }),
        (Fill::Unchanged, Outcome::Unchanged { current }),
        (Fill::Refused, Outcome::Refused { standing, current }),
    ];
    for (fill, outcome) in table {
        assert_eq!(outcome_of_held(fill, standing, current), outcome);
    }
}
