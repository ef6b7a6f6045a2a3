//! The story of one job: what it and its VMs went through, in the order of time, and what is odd about it.

mod oddity;
mod span;

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::attempt::Attempt;
use crate::event::Event;
use crate::job::Job;
use crate::ledger::Refusal;
use crate::merge;
use crate::state::{JobState, State};
use crate::subject::Subject;
use crate::time::{self, Timestamp};
use crate::vm::Vm;

pub use oddity::{Oddity, OddityKind};
pub use span::Span;

/// A moment of the past, by one of two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// What had happened by then, by the clocks of those who reported: `at`.
    At(Timestamp),
    /// What this store had been told by then, by the database's clock: `recorded_at`. A blank that was filled later shows its
    /// value, as only the claim of a slot has a time.
    RecordedAt(Timestamp),
}

impl AsOf {
    fn has(self, event: &Event) -> bool {
        match self {
            Self::At(at) => event.at <= at,
            Self::RecordedAt(at) => event.recorded_at <= at,
        }
    }

    fn has_refusal(self, refusal: &Refusal) -> bool {
        match self {
            Self::At(at) => refusal.claim.at() <= at,
            Self::RecordedAt(at) => refusal.first_at <= at,
        }
    }
}

/// All that is known of a job and its VMs, now or as of a moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Story {
    /// The job's id.
    #[serde(skip)]
    pub request_id: Uuid,
    /// The row, folded from the slots; `None` where only VMs have reported.
    pub job: Option<Job>,
    /// The rows of its VMs, by name.
    pub vms: Vec<Vm>,
    /// The attempts of the job itself, in order.
    pub attempts: Vec<Run>,
    /// The slots of the job and its VMs in the order of time; those of one time by subject and rank.
    pub timeline: Vec<Step>,
    /// What lasted from when to when: the phases of the job and its VMs, for a chart.
    pub spans: Vec<Span>,
    /// What is odd: gaps, clocks that disagree, endings that were corrected.
    pub oddities: Vec<Oddity>,
    /// What was refused, by subject, slot and state; `None` where the store keeps no account of it, or none that may be read.
    pub refusals: Option<Vec<Refusal>>,
}

/// A slot, and how long after the one before it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Step {
    /// The slot.
    #[serde(flatten)]
    pub event: Event,
    /// Since the step before; `None` of the first.
    #[serde(rename = "after_us", serialize_with = "micros")]
    pub after: Option<TimeDelta>,
}

/// An attempt of the job itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Run {
    /// Its number.
    pub attempt: Attempt,
    /// Of its highest slot.
    pub state: State,
    /// When it was queued, if that was reported.
    #[serde(with = "time::rfc3339::option")]
    pub queued_at: Option<Timestamp>,
    /// When it began to run, if that was reported.
    #[serde(with = "time::rfc3339::option")]
    pub running_at: Option<Timestamp>,
    /// When it ended. Of an inferred and a reported ending the reported one counts.
    #[serde(with = "time::rfc3339::option")]
    pub ended_at: Option<Timestamp>,
    /// Between queued and running; `None` also where clocks disagree, so that it would be negative.
    #[serde(rename = "waited_us", serialize_with = "micros")]
    pub waited: Option<TimeDelta>,
    /// Between running and the ending; `None` also where it would be negative.
    #[serde(rename = "ran_us", serialize_with = "micros")]
    pub ran: Option<TimeDelta>,
}

fn micros<S: Serializer>(span: &Option<TimeDelta>, serializer: S) -> Result<S::Ok, S::Error> {
    span.and_then(|span| span.num_microseconds())
        .serialize(serializer)
}

impl Story {
    /// The story that these events of one job and its VMs tell, or `None` where there are none (by then). Their order does not
    /// matter.
    pub fn of(request_id: Uuid, events: Vec<Event>, as_of: Option<AsOf>) -> Option<Self> {
        let mut events: Vec<_> = events
            .into_iter()
            .filter(|event| event.subject.request_id() == request_id)
            .filter(|event| as_of.is_none_or(|as_of| as_of.has(event)))
            .collect();
        if events.is_empty() {
            return None;
        }
        events.sort_by(|a, b| (&a.subject, a.rank).cmp(&(&b.subject, b.rank)));
        let (mut job, mut vms) = (None, Vec::new());
        for of_one in events.chunk_by(|a, b| a.subject == b.subject) {
            let slots: Vec<_> = of_one.iter().map(Event::slot).collect();
            let (Some(event), Some(row)) = (of_one.first(), merge::fold(&slots)) else {
                continue;
            };
            match &event.subject {
                Subject::Job(id) => job = Job::from_row(*id, &row),
                Subject::Vm(key) => vms.extend(Vm::from_row(key.clone(), &row)),
            }
        }
        let spans = span::spans(&events);
        let oddities = oddity::oddities(&events);
        let attempts = runs(&events);
        Some(Self {
            request_id,
            job,
            vms,
            attempts,
            timeline: steps(events),
            spans,
            oddities,
            refusals: None,
        })
    }

    /// Adds what was refused (by then).
    pub fn refused(&mut self, mut refusals: Vec<Refusal>, as_of: Option<AsOf>) {
        refusals.retain(|refusal| as_of.is_none_or(|as_of| as_of.has_refusal(refusal)));
        refusals.sort_by(|a, b| a.key().cmp(&b.key()));
        self.refusals = Some(refusals);
    }
}

fn steps(mut events: Vec<Event>) -> Vec<Step> {
    // Stable: those of one time stay by subject and rank.
    events.sort_by_key(|event| event.at);
    let mut before = None;
    let step = |event: Event| {
        let after = before
            .replace(event.at)
            .map(|before: Timestamp| event.at - before);
        Step { event, after }
    };
    events.into_iter().map(step).collect()
}

/// The attempts of the job. VMs count attempts of their own and tell nothing here.
fn runs(events: &[Event]) -> Vec<Run> {
    let mut attempts: BTreeMap<Attempt, Vec<&Event>> = BTreeMap::new();
    for event in events.iter().filter(|event| !event.subject.is_vm()) {
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
        let event = events.iter().find(|event| event.state == State::Job(state));
        event.map(|event| event.at)
    };
    let (queued_at, running_at) = (at(JobState::Queued), at(JobState::Running));
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

fn between(from: Option<Timestamp>, until: Option<Timestamp>) -> Option<TimeDelta> {
    let span = until? - from?;
    (span >= TimeDelta::zero()).then_some(span)
}

#[cfg(test)]
mod tests;
