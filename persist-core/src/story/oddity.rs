//! What a person should look at twice.

use chrono::TimeDelta;
use serde::Serialize;

use crate::attempt::Attempt;
use crate::event::Event;
use crate::state::{JobState, State};
use crate::time::{self, Timestamp};

/// A report that comes this much later than what it reports.
const LATE: TimeDelta = TimeDelta::seconds(60);
/// A reporter whose clock is this far before the database's.
const EARLY: TimeDelta = TimeDelta::seconds(5);
/// Reports that are told one by one; of more only how many there are, and by how much.
const MOST_REPORTS: usize = 2;

/// What sort of oddity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OddityKind {
    /// A later state says an earlier time: the clocks of two reporters disagree.
    ClockWentBack,
    /// It was recorded a minute or more after it was so.
    ReportedLate,
    /// By the reporter's clock it was so five seconds or more after the database recorded it.
    ReportedEarly,
    /// A state that must have been was never reported.
    StateMissing,
    /// An attempt before this one was never reported.
    AttemptMissing,
    /// An inferred ending was followed by a reported one.
    Healed,
    /// The VM was live when its job had ended for good.
    VmOutlivedJob,
}

impl OddityKind {
    /// The stable snake-case word.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClockWentBack => "clock_went_back",
            Self::ReportedLate => "reported_late",
            Self::ReportedEarly => "reported_early",
            Self::StateMissing => "state_missing",
            Self::AttemptMissing => "attempt_missing",
            Self::Healed => "healed",
            Self::VmOutlivedJob => "vm_outlived_job",
        }
    }
}

/// Something that a person should look at twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Oddity {
    /// What sort.
    pub kind: OddityKind,
    /// The VM; `None` for the job itself.
    pub domain_name: Option<String>,
    /// The attempt.
    pub attempt: Attempt,
    /// When, by the reporter's clock.
    #[serde(with = "time::rfc3339")]
    pub at: Timestamp,
    /// It in words.
    pub what: String,
}

impl Oddity {
    fn new(kind: OddityKind, event: &Event, what: String) -> Self {
        Self {
            kind,
            domain_name: event.subject.vm_name().map(str::to_owned),
            attempt: event.attempt(),
            at: event.at,
            what,
        }
    }
}

/// Of events by subject and rank.
pub(super) fn oddities(events: &[Event]) -> Vec<Oddity> {
    let mut found = Vec::new();
    for of_one in events.chunk_by(|a, b| a.subject == b.subject) {
        for pair in of_one.windows(2) {
            if let [before, after] = pair {
                found.extend(between(before, after));
            }
        }
        let attempts = of_one.chunk_by(|a, b| a.attempt() == b.attempt());
        for attempt in attempts {
            found.extend(missing(attempt));
        }
        found.extend(first_attempt(of_one));
    }
    found.extend(reports(events));
    found.extend(outlived(events));
    found.sort_by_key(|oddity| oddity.at);
    found
}

fn between(before: &Event, after: &Event) -> Vec<Oddity> {
    let mut found = Vec::new();
    if after.at < before.at {
        let span = seconds(before.at - after.at);
        let what = format!(
            "{} is said to have been {span} before {}, which is earlier in life",
            after.state, before.state
        );
        found.push(Oddity::new(OddityKind::ClockWentBack, after, what));
    }
    if after.attempt() == before.attempt() && before.state == State::Job(JobState::Lost) {
        let what = format!("it was taken for lost, and had {}", after.state);
        found.push(Oddity::new(OddityKind::Healed, after, what));
    }
    if after.attempt() > before.attempt() && !before.state.is_ended() {
        let what = format!(
            "its ending was never reported, and attempt {} began",
            after.attempt()
        );
        found.push(Oddity::new(OddityKind::StateMissing, before, what));
    }
    if after.attempt().get() > before.attempt().get() + 1 {
        let what = format!(
            "nothing was reported between attempts {} and {}",
            before.attempt(),
            after.attempt()
        );
        found.push(Oddity::new(OddityKind::AttemptMissing, after, what));
    }
    found
}

fn first_attempt(of_one: &[Event]) -> Option<Oddity> {
    let first = of_one.first().filter(|event| event.attempt().get() > 1)?;
    let what = format!("nothing was reported before attempt {}", first.attempt());
    Some(Oddity::new(OddityKind::AttemptMissing, first, what))
}

/// States that an attempt must have been in.
fn missing(attempt: &[Event]) -> Option<Oddity> {
    let (first, last) = (attempt.first()?, attempt.last()?);
    let lacks = |phase| !attempt.iter().any(|event| event.rank.phase() == phase);
    let names: &[&str] = if first.subject.is_vm() {
        &["prepared", "running"]
    } else {
        &["queued", "running"]
    };
    // Any other ending may come while it waits.
    let ran = last.state == State::Job(JobState::Succeeded);
    let mut lacking = Vec::new();
    if lacks(0) {
        lacking.push(names[0]);
    }
    if lacks(1) && ran {
        lacking.push(names[1]);
    }
    let verb = if lacking.len() > 1 { "were" } else { "was" };
    let what = format!("{} {verb} never reported", lacking.join(" and "));
    (!lacking.is_empty()).then(|| Oddity::new(OddityKind::StateMissing, first, what))
}

/// Reports that came late or early. An imported history is late as a whole, which is one thing to tell.
fn reports(events: &[Event]) -> Vec<Oddity> {
    let of_kind = |kind, is_odd: fn(TimeDelta) -> bool, when: &str| {
        let odd: Vec<_> = events
            .iter()
            .filter(|event| is_odd(event.recorded_at - event.at))
            .collect();
        let longest = odd.iter().map(|event| (event.recorded_at - event.at).abs()).max();
        let (Some(first), Some(longest)) = (odd.first(), longest) else {
            return Vec::new();
        };
        let long = seconds(longest);
        if odd.len() > MOST_REPORTS {
            let what = format!(
                "{} of {} slots were recorded up to {long} {when}",
                odd.len(),
                events.len()
            );
            return vec![Oddity::new(kind, first, what)];
        }
        let one = |event: &&Event| {
            let long = seconds((event.recorded_at - event.at).abs());
            Oddity::new(kind, event, format!("{} was recorded {long} {when}", event.state))
        };
        odd.iter().map(one).collect()
    };
    let late = of_kind(OddityKind::ReportedLate, |span| span >= LATE, "later");
    let early = of_kind(
        OddityKind::ReportedEarly,
        |span| -span >= EARLY,
        "before it is said to have been",
    );
    late.into_iter().chain(early).collect()
}

/// VMs that were live after the last ending of the job.
fn outlived(events: &[Event]) -> Vec<Oddity> {
    let job = events.iter().rfind(|event| !event.subject.is_vm());
    let Some(ended) = job.filter(|event| event.state.is_ended()) else {
        return Vec::new();
    };
    let vms = events.chunk_by(|a, b| a.subject == b.subject);
    let of_vms = vms.filter(|of_one| of_one.iter().all(|event| event.subject.is_vm()));
    let outlived = |of_one: &[Event]| {
        let last = of_one.last()?;
        let still = !last.state.is_ended();
        let what = if still {
            format!("it is {} and its job has {}", last.state, ended.state)
        } else {
            let over = of_one.iter().rfind(|event| !event.state.is_ended())?;
            let next = of_one.iter().find(|event| event.rank > over.rank)?;
            let span = next.at - ended.at;
            if span < LATE {
                return None;
            }
            format!(
                "it was {} for {} after its job had {}",
                over.state,
                seconds(span),
                ended.state
            )
        };
        Some(Oddity::new(OddityKind::VmOutlivedJob, last, what))
    };
    of_vms.filter_map(outlived).collect()
}

/// A span in one unit, to a tenth.
fn seconds(span: TimeDelta) -> String {
    let seconds = span.num_milliseconds() as f64 / 1_000.0;
    match seconds {
        ..120.0 => format!("{seconds:.1} s"),
        120.0..7_200.0 => format!("{:.1} min", seconds / 60.0),
        7_200.0..172_800.0 => format!("{:.1} h", seconds / 3_600.0),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}
