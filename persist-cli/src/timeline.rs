//! A job's history in the order of time, and what it says of waiting and running.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use persist::{Attempt, Event, JobState, State, Timestamp, time};
use serde::{Serialize, Serializer};

/// A slot, and how long after the one before it.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    #[serde(flatten)]
    pub(crate) event: Event,
    #[serde(rename = "after_us", serialize_with = "micros")]
    pub(crate) after: Option<TimeDelta>,
}

/// An attempt of the job itself.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) attempt: Attempt,
    /// Of its highest slot.
    pub(crate) state: State,
    #[serde(with = "time::rfc3339::option")]
    pub(crate) queued_at: Option<Timestamp>,
    #[serde(with = "time::rfc3339::option")]
    pub(crate) running_at: Option<Timestamp>,
    #[serde(with = "time::rfc3339::option")]
    pub(crate) ended_at: Option<Timestamp>,
    /// Between queued and running.
    #[serde(rename = "waited_us", serialize_with = "micros")]
    pub(crate) waited: Option<TimeDelta>,
    /// Between running and the ending.
    #[serde(rename = "ran_us", serialize_with = "micros")]
    pub(crate) ran: Option<TimeDelta>,
}

fn micros<S: Serializer>(span: &Option<TimeDelta>, serializer: S) -> Result<S::Ok, S::Error> {
    span.and_then(|span| span.num_microseconds())
        .serialize(serializer)
}

/// The slots of a job and its VMs in the order of time; those of one time by subject and rank.
pub(crate) fn steps(mut events: Vec<Event>) -> Vec<Step> {
    events.sort_by(|a, b| (a.at, &a.subject, a.rank).cmp(&(b.at, &b.subject, b.rank)));
    let mut before = None;
    events
        .into_iter()
        .map(|event| {
            let after = before
                .replace(event.at)
                .map(|before: Timestamp| event.at - before);
            Step { event, after }
        })
        .collect()
}

/// The attempts of the job, in order. VMs count attempts of their own and tell nothing here.
pub(crate) fn runs(steps: &[Step]) -> Vec<Run> {
    let mut attempts: BTreeMap<Attempt, Vec<&Event>> = BTreeMap::new();
    for Step { event, .. } in steps.iter().filter(|step| !step.event.subject.is_vm()) {
        attempts.entry(event.attempt()).or_default().push(event);
    }
    attempts
        .into_iter()
        .filter_map(|(attempt, events)| run(attempt, &events))
        .collect()
}

fn run(attempt: Attempt, events: &[&Event]) -> Option<Run> {
    let highest = events.iter().max_by_key(|event| event.rank)?;
    let at = |state: JobState| {
        events
            .iter()
            .find(|event| event.state == State::Job(state))
            .map(|event| event.at)
    };
    let (queued_at, running_at) = (at(JobState::Queued), at(JobState::Running));
    // Of an inferred and a reported ending the reported one, which is higher, counts.
    let ended_at = highest.state.is_ended().then_some(highest.at);
    Some(Run {
        attempt,
        state: highest.state,
        queued_at,
        running_at,
        ended_at,
        waited: between(queued_at, running_at),
        ran: between(running_at, ended_at),
    })
}

/// Clocks of two reporters may disagree: a span that would be negative is not known.
fn between(from: Option<Timestamp>, until: Option<Timestamp>) -> Option<TimeDelta> {
    let span = until? - from?;
    (span >= TimeDelta::zero()).then_some(span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use persist::{JobUpdate, Seq, Slot, SystemClock, Update, VmState, VmUpdate};
    use uuid::Uuid;

    const ID: Uuid = Uuid::from_u128(7);

    fn at(seconds: i64) -> Timestamp {
        time::from_micros(1_793_520_000_000_000 + seconds * 1_000_000).unwrap()
    }

    fn event(update: impl Into<Update>) -> Event {
        let claim = update.into().check(&SystemClock).unwrap();
        Event::new(
            Seq::new(1),
            at(0),
            claim.subject().clone(),
            Slot::claimed_by(&claim),
        )
    }

    fn job(seconds: i64, attempt: u32, state: JobState) -> Event {
        event(JobUpdate::new(ID, state).attempt(attempt).at(at(seconds)))
    }

    #[test]
    fn steps_are_in_the_order_of_time_with_what_lies_between() {
        let vm = event(VmUpdate::new(ID, "vm-7", VmState::Running).at(at(12)));
        let steps = steps(vec![
            job(90, 1, JobState::Succeeded),
            vm,
            job(0, 1, JobState::Queued),
        ]);
        let told: Vec<_> = steps
            .iter()
            .map(|s| (s.event.state.name(), s.after.map(|d| d.num_seconds())))
            .collect();
        assert_eq!(
            told,
            [("queued", None), ("running", Some(12)), ("succeeded", Some(78))]
        );
        let json = serde_json::to_value(&steps[1]).unwrap();
        assert_eq!(
            (&json["after_us"], &json["domain_name"]),
            (&12_000_000.into(), &"vm-7".into())
        );
    }

    #[test]
    fn each_attempt_waited_and_ran() {
        let history = vec![
            job(0, 1, JobState::Queued),
            job(30, 1, JobState::Running),
            job(60, 1, JobState::Lost),
            job(55, 1, JobState::Failed),
            job(100, 2, JobState::Running),
            event(VmUpdate::new(ID, "vm", VmState::Running).attempt(3).at(at(1))),
        ];
        let runs = runs(&steps(history));
        let seconds = |span: Option<TimeDelta>| span.map(|span| span.num_seconds());
        let told = runs
            .iter()
            .map(|r| (r.attempt.get(), r.state.name(), seconds(r.waited), seconds(r.ran)));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [(1, "failed", Some(30), Some(25)), (2, "running", None, None)]
        );
    }

    #[test]
    fn k1_no_span_is_negative() {
        let runs = runs(&steps(vec![
            job(50, 1, JobState::Queued),
            job(10, 1, JobState::Running),
        ]));
        assert_eq!((runs[0].waited, runs[0].ran), (None, None));
    }
}
