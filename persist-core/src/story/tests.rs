use super::*;
use crate::event::Seq;
use crate::merge::Slot;
use crate::state::{StateTable as _, VmState};
use crate::time::SystemClock;
use crate::update::{JobUpdate, Update, VmUpdate};

const ID: Uuid = Uuid::from_u128(7);

fn at(seconds: i64) -> Timestamp {
    time::from_micros(1_793_520_000_000_000 + seconds * 1_000_000).unwrap()
}

/// Recorded when it was so.
fn event(update: impl Into<Update>) -> Event {
    let claim = update.into().check(&SystemClock).unwrap();
    let slot = Slot::claimed_by(&claim);
    Event::new(Seq::new(1), slot.at, claim.subject().clone(), slot)
}

fn job(seconds: i64, attempt: u32, state: JobState) -> Event {
    event(JobUpdate::new(ID, state).attempt(attempt).at(at(seconds)))
}

fn vm(seconds: i64, state: VmState) -> Event {
    event(VmUpdate::new(ID, "vm-7", state).at(at(seconds)))
}

fn story(events: Vec<Event>) -> Story {
    Story::of(ID, events, None).unwrap()
}

#[test]
fn steps_are_in_the_order_of_time_with_what_lies_between() {
    let told = story(vec![
        job(90, 1, JobState::Succeeded),
        vm(12, VmState::Running),
        job(0, 1, JobState::Queued),
    ]);
    let steps: Vec<_> = told
        .timeline
        .iter()
        .map(|step| {
            (
                step.event.state.name(),
                step.after.map(|after| after.num_seconds()),
            )
        })
        .collect();
    assert_eq!(
        steps,
        [("queued", None), ("running", Some(12)), ("succeeded", Some(78))]
    );
    let json = serde_json::to_value(&told.timeline[1]).unwrap();
    assert_eq!(
        (&json["after_us"], &json["domain_name"]),
        (&12_000_000.into(), &"vm-7".into())
    );
    assert_eq!(told.job.unwrap().state, JobState::Succeeded);
    assert_eq!(told.vms[0].state, VmState::Running);
}

#[test]
fn each_attempt_waited_and_ran() {
    let told = story(vec![
        job(0, 1, JobState::Queued),
        job(30, 1, JobState::Running),
        job(60, 1, JobState::Lost),
        job(55, 1, JobState::Failed),
        job(100, 2, JobState::Running),
        vm(1, VmState::Running),
    ]);
    let seconds = |span: Option<TimeDelta>| span.map(|span| span.num_seconds());
    let runs: Vec<_> = told
        .attempts
        .iter()
        .map(|run| {
            (
                run.attempt.get(),
                run.state.name(),
                seconds(run.waited),
                seconds(run.ran),
            )
        })
        .collect();
    assert_eq!(
        runs,
        [(1, "failed", Some(30), Some(25)), (2, "running", None, None)]
    );
}

#[test]
fn k1_no_span_is_negative() {
    let told = story(vec![job(50, 1, JobState::Queued), job(10, 1, JobState::Running)]);
    assert_eq!((told.attempts[0].waited, told.attempts[0].ran), (None, None));
    let of = |state| {
        told.spans
            .iter()
            .find(|span| span.state == State::Job(state))
            .unwrap()
    };
    assert_eq!(of(JobState::Queued).until, Some(at(50)), "not before it began");
    assert_eq!(of(JobState::Running).until, None);
    assert_eq!(told.oddities[0].kind, OddityKind::ClockWentBack);
    assert!(
        told.oddities[0].what.contains("40.0 s before queued"),
        "{:?}",
        told.oddities
    );
}

#[test]
fn spans_last_until_the_next_state_and_endings_last_for_nothing() {
    let told = story(vec![
        job(0, 1, JobState::Queued),
        job(5, 1, JobState::Running),
        job(60, 1, JobState::Succeeded),
        vm(1, VmState::Prepared),
        vm(5, VmState::Running),
        vm(61, VmState::Stopped),
        vm(70, VmState::Destroyed),
    ]);
    let spans: Vec<_> = told
        .spans
        .iter()
        .map(|span| {
            let seconds = |time: Timestamp| (time - at(0)).num_seconds();
            (
                span.domain_name.is_some(),
                span.state.name(),
                seconds(span.from),
                span.until.map(seconds),
                span.then.map(State::name),
            )
        })
        .collect();
    assert_eq!(
        spans,
        [
            (false, "queued", 0, Some(5), Some("running")),
            (true, "prepared", 1, Some(5), Some("running")),
            (false, "running", 5, Some(60), Some("succeeded")),
            (true, "running", 5, Some(61), Some("stopped")),
            (true, "stopped", 61, Some(70), Some("destroyed")),
        ]
    );
    assert_eq!(told.oddities, [], "nothing is odd about an ordinary job");
}

#[test]
fn what_is_odd_is_told() {
    let kinds = |events: Vec<Event>| {
        let told = story(events).oddities;
        told.iter().map(|oddity| oddity.kind).collect::<Vec<_>>()
    };
    let whole = || {
        vec![
            job(0, 1, JobState::Queued),
            job(5, 1, JobState::Running),
            job(60, 1, JobState::Succeeded),
        ]
    };
    let with = |more: Vec<Event>| [whole(), more].concat();
    use OddityKind::{AttemptMissing, Healed, ReportedEarly, ReportedLate, StateMissing, VmOutlivedJob};
    assert_eq!(
        kinds(vec![job(0, 1, JobState::Queued), job(9, 1, JobState::Cancelled)]),
        []
    );
    assert_eq!(
        kinds(vec![job(0, 1, JobState::Queued), job(9, 1, JobState::Succeeded)]),
        [StateMissing]
    );
    assert_eq!(kinds(vec![job(5, 1, JobState::Running)]), [StateMissing]);
    assert_eq!(kinds(with(vec![job(55, 1, JobState::Lost)])), [Healed]);
    assert_eq!(kinds(with(vec![job(90, 3, JobState::Queued)])), [AttemptMissing]);
    assert_eq!(kinds(vec![job(90, 2, JobState::Queued)]), [AttemptMissing]);
    let prepared = vm(1, VmState::Prepared);
    assert_eq!(
        kinds(with(vec![prepared.clone(), vm(5, VmState::Running)])),
        [VmOutlivedJob]
    );
    let stopped = |seconds| {
        vec![
            prepared.clone(),
            vm(5, VmState::Running),
            vm(seconds, VmState::Stopped),
        ]
    };
    assert_eq!(kinds(with(stopped(119))), []);
    assert_eq!(kinds(with(stopped(120))), [VmOutlivedJob]);
    for (recorded, kind) in [
        (119, None),
        (120, Some(ReportedLate)),
        (56, None),
        (55, Some(ReportedEarly)),
    ] {
        let mut events = whole();
        events[2].recorded_at = at(recorded);
        assert_eq!(kinds(events), kind.into_iter().collect::<Vec<_>>(), "{recorded}");
    }
}

#[test]
fn a_history_that_was_imported_is_late_as_a_whole() {
    let mut events = vec![
        job(0, 1, JobState::Queued),
        job(5, 1, JobState::Running),
        job(60, 1, JobState::Succeeded),
    ];
    for event in &mut events {
        event.recorded_at = at(3 * 86_400);
    }
    let told = story(events).oddities;
    let texts: Vec<_> = told.iter().map(|oddity| oddity.what.as_str()).collect();
    assert_eq!(texts, ["3 of 3 slots were recorded up to 3.0 days later"]);
}

#[test]
fn a_moment_of_the_past_shows_what_was_so_or_what_was_known() {
    let mut events = vec![
        job(0, 1, JobState::Queued),
        job(5, 1, JobState::Running),
        job(60, 1, JobState::Succeeded),
    ];
    events[1].recorded_at = at(70);
    let state = |as_of| {
        let told = Story::of(ID, events.clone(), Some(as_of));
        told.and_then(|told| told.job).map(|job| job.state.name())
    };
    assert_eq!(state(AsOf::At(at(-1))), None);
    assert_eq!(state(AsOf::At(at(5))), Some("running"));
    assert_eq!(state(AsOf::At(at(59))), Some("running"));
    assert_eq!(state(AsOf::At(at(60))), Some("succeeded"));
    assert_eq!(state(AsOf::RecordedAt(at(5))), Some("queued"));
    assert_eq!(state(AsOf::RecordedAt(at(60))), Some("succeeded"));
}
