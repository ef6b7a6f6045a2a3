//! Schedules: who calls what, and what happens to each call.

use std::fmt;
use std::time::Duration;

use persist_core::layer::Fault;
use persist_core::{JobState, State, StateTable as _, Subject, VmKey, VmState};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::{Index, select};

use crate::sample;
use crate::strategy::Draft;

/// What several callers do at once, each step by step.
#[derive(Clone, PartialEq)]
pub struct Schedule {
    /// The steps of each.
    pub callers: Vec<Vec<Step>>,
}

/// A call, and what happens to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What is asked.
    pub call: Call,
    /// Whether and how it goes wrong.
    pub mishap: Mishap,
}

/// What is asked of the store.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// Updates, in one batch.
    Apply(Vec<Draft>),
    /// A row.
    Row(Subject),
    /// The history of a job and its VMs.
    History(Subject),
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// Nothing.
    None,
    /// The layer of faults does this to it.
    Fault(Fault),
    /// Its caller polls it so many times and drops it.
    Drop(u32),
}

impl Schedule {
    /// How many calls there are.
    pub fn calls(&self) -> usize {
        self.callers.iter().map(Vec::len).sum()
    }
}

/// Any schedule: at most three callers of at most eight calls about two jobs and a VM, so that they meet.
pub(super) fn schedules() -> impl Strategy<Value = Schedule> {
    vec(vec(step(), 1..=8), 1..=3).prop_map(|callers| Schedule { callers })
}

fn step() -> impl Strategy<Value = Step> {
    let call = prop_oneof![
        6 => vec(draft(), 1..=4).prop_map(Call::Apply),
        1 => subject().prop_map(Call::Row),
        1 => subject().prop_map(Call::History),
    ];
    let mishap = prop_oneof![
        6 => Just(Mishap::None),
        1 => (0..3_u64).prop_map(|millis| Mishap::Fault(Fault::Delay(Duration::from_millis(millis)))),
        1 => Just(Mishap::Fault(Fault::FailBefore)),
        2 => Just(Mishap::Fault(Fault::FailAfter)),
        1 => Just(Mishap::Fault(Fault::FreezeBefore)),
        1 => Just(Mishap::Fault(Fault::FreezeAfter)),
        2 => (1..6_u32).prop_map(Mishap::Drop),
    ];
    (call, mishap).prop_map(|(call, mishap)| Step { call, mishap })
}

fn subject() -> impl Strategy<Value = Subject> {
    select(vec![
        Subject::Job(sample::id(1)),
        Subject::Job(sample::id(2)),
        Subject::Vm(VmKey::new(sample::id(1), "vm")),
    ])
}

/// Forward or late, filling or repeated, agreeing or not.
fn draft() -> impl Strategy<Value = Draft> {
    let value = || weighted(0.3, select(&["abcd", "abce"][..]).prop_map(str::to_owned));
    let values = (value(), value(), value(), value(), value());
    (subject(), any::<Index>(), 1..=2_u32, 0..3_i64, values).prop_map(
        |(subject, index, attempt, micros, (first, second, third, actor, reason))| Draft {
            state: match subject {
                Subject::Job(_) => State::Job(index.get(JobState::TABLE).state),
                Subject::Vm(_) => State::Vm(index.get(VmState::TABLE).state),
            },
            subject,
            attempt,
            at: sample::micros(micros),
            values: [first, second, third, actor, reason],
        },
    )
}

fn name(subject: &Subject) -> String {
    let id = subject.request_id().as_u128() & 0xffff;
    match subject {
        Subject::Job(_) => format!("job {id}"),
        Subject::Vm(key) => format!("VM {id}/{}", key.domain_name),
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let drafts = match self {
            Self::Apply(drafts) => drafts,
            Self::Row(subject) => return write!(f, "read {}", name(subject)),
            Self::History(subject) => return write!(f, "read the history of {}", name(subject)),
        };
        f.write_str("apply")?;
        for (n, draft) in drafts.iter().enumerate() {
            let micros = draft.at.timestamp_micros() - sample::BEGIN_MICROS;
            let (subject, state, attempt) = (name(&draft.subject), draft.state, draft.attempt);
            let comma = if n > 0 { "," } else { "" };
            write!(f, "{comma} {subject} {state} attempt {attempt} at {micros} µs")?;
            for (field, value) in draft.fields().iter().zip(&draft.values) {
                if let Some(value) = value {
                    write!(f, " {field}={value}")?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Mishap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Fault(Fault::FailBefore) => f.write_str(" - fails before it runs"),
            Self::Fault(Fault::FailAfter) => f.write_str(" - its answer is lost"),
            Self::Fault(Fault::FreezeBefore) => f.write_str(" - freezes before it runs"),
            Self::Fault(Fault::FreezeAfter) => f.write_str(" - freezes after it ran"),
            Self::Fault(fault) => write!(f, " - {fault:?}"),
            Self::Drop(polls) => write!(f, " - dropped after {polls} polls"),
        }
    }
}

/// A line for each call.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (caller, steps) in (1..).zip(&self.callers) {
            for Step { call, mishap } in steps {
                writeln!(f, "  caller {caller}: {call}{mishap}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}")
    }
}
