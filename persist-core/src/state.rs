//! The state machines, declared once.
//!
//! `CHECK` constraints, index predicates, parsing, help texts and documentation are rendered from
//! [`State::TABLE`]; nothing else in the project spells a state.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// One line of a state table.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct StateSpec<S> {
    /// The state.
    pub state: S,
    /// The serialised word.
    pub name: &'static str,
    /// How far along an attempt it is, 0–3.
    pub phase: u8,
    /// Whether nothing more is expected of the attempt: an ended job, a VM that is not live.
    pub ended: bool,
    /// Other spellings that parsing takes; printing never uses them.
    pub spellings: &'static [&'static str],
    /// What it means.
    pub about: &'static str,
}

const fn spec<S>(
    state: S,
    name: &'static str,
    phase: u8,
    ended: bool,
    spellings: &'static [&'static str],
    about: &'static str,
) -> StateSpec<S> {
    StateSpec {
        state,
        name,
        phase,
        ended,
        spellings,
        about,
    }
}

/// A state machine: a table of states with their phases.
pub trait StateTable: Copy + Eq + Sized + 'static {
    /// Every state, in phase order.
    const TABLE: &'static [StateSpec<Self>];
    /// What the machine describes, for messages: `job` or `VM`.
    const SUBJECT: &'static str;

    /// This state's line of the table.
    fn spec(self) -> &'static StateSpec<Self> {
        Self::TABLE
            .iter()
            .find(|spec| spec.state == self)
            .expect("every state has its line")
    }

    /// The serialised word.
    fn name(self) -> &'static str {
        self.spec().name
    }

    /// How far along an attempt it is, 0–3.
    fn phase(self) -> u8 {
        self.spec().phase
    }

    /// Whether nothing more is expected of the attempt.
    fn is_ended(self) -> bool {
        self.spec().ended
    }

    /// The state of this exact serialised word; `None` for any other spelling.
    fn from_name(name: &str) -> Option<Self> {
        Self::TABLE
            .iter()
            .find(|spec| spec.name == name)
            .map(|spec| spec.state)
    }

    /// The state that a person or a CI system means by `text`, in any letter case.
    ///
    /// # Errors
    /// `InvalidInput` that lists the known words.
    fn parse(text: &str) -> Result<Self> {
        let wanted = text.to_ascii_lowercase();
        let found = Self::TABLE
            .iter()
            .find(|spec| spec.name == wanted || spec.spellings.contains(&wanted.as_str()));
        found.map(|spec| spec.state).ok_or_else(|| {
            let known: Vec<_> = Self::TABLE.iter().map(|spec| spec.name).collect();
            let what = format!("unknown {} state; known are {}", Self::SUBJECT, known.join(", "));
            Error::invalid("state", what)
        })
    }
}

/// The states of a job (design: phases 0–3; a job has ended from phase 2 on).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum JobState {
    /// Accepted, waiting for a runner.
    Queued,
    /// On a runner.
    Running,
    /// Inferred ending: its orchestrator or VM is gone. A reported ending heals it.
    Lost,
    /// Reported ending: it passed.
    Succeeded,
    /// Reported ending: it failed.
    Failed,
    /// Reported ending: somebody stopped it.
    Cancelled,
    /// Reported ending: it ran out of its time.
    TimedOut,
}

impl StateTable for JobState {
    const SUBJECT: &'static str = "job";
    const TABLE: &'static [StateSpec<Self>] = &[
        spec(
            Self::Queued,
            "queued",
            0,
            false,
            &["pending", "waiting"],
            "accepted, waiting for a runner",
        ),
        spec(
            Self::Running,
            "running",
            1,
            false,
            &["started", "in_progress"],
            "on a runner",
        ),
        spec(
            Self::Lost,
            "lost",
            2,
            true,
            &[],
            "inferred ending: its orchestrator or VM is gone",
        ),
        spec(
            Self::Succeeded,
            "succeeded",
            3,
            true,
            &["success", "passed"],
            "reported ending: it passed",
        ),
        spec(
            Self::Failed,
            "failed",
            3,
            true,
            &["failure"],
            "reported ending: it failed",
        ),
        spec(
            Self::Cancelled,
            "cancelled",
            3,
            true,
            &["canceled"],
            "reported ending: somebody stopped it",
        ),
        spec(
            Self::TimedOut,
            "timed_out",
            3,
            true,
            &["timeout", "timedout", "timed-out"],
            "reported ending: out of time",
        ),
    ];
}

/// The states of a VM. It is live in `prepared` and `running`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum VmState {
    /// Its overlay and seed exist; it has not been started.
    Prepared,
    /// Started.
    Running,
    /// Ended in order.
    Stopped,
    /// Could not start, or crashed.
    Failed,
    /// Its domain and disks are gone.
    Destroyed,
}

impl StateTable for VmState {
    const SUBJECT: &'static str = "VM";
    const TABLE: &'static [StateSpec<Self>] = &[
        spec(
            Self::Prepared,
            "prepared",
            0,
            false,
            &["defined"],
            "overlay and seed exist, not started",
        ),
        spec(Self::Running, "running", 1, false, &["started"], "started"),
        spec(Self::Stopped, "stopped", 2, true, &["shutoff"], "ended in order"),
        spec(
            Self::Failed,
            "failed",
            2,
            true,
            &["failure", "crashed"],
            "could not start, or crashed",
        ),
        spec(
            Self::Destroyed,
            "destroyed",
            3,
            true,
            &["undefined", "deleted"],
            "domain and disks are gone",
        ),
    ];
}

macro_rules! state_words {
    ($($state:ty),*) => {$(
        impl fmt::Display for $state {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
        impl FromStr for $state {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                Self::parse(text)
            }
        }
        impl Serialize for $state {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }
        impl<'de> Deserialize<'de> for $state {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    )*};
}
// Four impls that differ in nothing but the type; the behaviour is the table's.
state_words!(JobState, VmState);

/// A state of either kind of subject, as the history holds it.
///
/// Serialised as its word; the subject (`domain_name` present or not) tells the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// A job's.
    Job(JobState),
    /// A VM's.
    Vm(VmState),
}

impl State {
    /// The serialised word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Job(state) => state.name(),
            Self::Vm(state) => state.name(),
        }
    }

    /// How far along an attempt it is, 0–3.
    pub fn phase(self) -> u8 {
        match self {
            Self::Job(state) => state.phase(),
            Self::Vm(state) => state.phase(),
        }
    }

    /// Whether nothing more is expected of the attempt.
    pub fn is_ended(self) -> bool {
        match self {
            Self::Job(state) => state.is_ended(),
            Self::Vm(state) => state.is_ended(),
        }
    }

    /// The state of this exact word in the machine of a job (`is_vm` false) or a VM.
    pub fn from_name(is_vm: bool, name: &str) -> Option<Self> {
        if is_vm {
            VmState::from_name(name).map(Self::Vm)
        } else {
            JobState::from_name(name).map(Self::Job)
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl From<JobState> for State {
    fn from(state: JobState) -> Self {
        Self::Job(state)
    }
}

impl From<VmState> for State {
    fn from(state: VmState) -> Self {
        Self::Vm(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_and_spelling_parses_to_its_state_and_prints_the_word() {
        fn check<S: StateTable + fmt::Debug>() {
            for line in S::TABLE {
                assert!(line.phase <= 3);
                assert_eq!(S::from_name(line.name), Some(line.state));
                for text in line.spellings.iter().chain([&line.name]) {
                    assert_eq!(S::parse(text).unwrap(), line.state);
                    assert_eq!(S::parse(&text.to_uppercase()).unwrap(), line.state);
                }
            }
        }
        check::<JobState>();
        check::<VmState>();
        assert_eq!("timeout".parse::<JobState>().unwrap().to_string(), "timed_out");
        assert!(
            "done"
                .parse::<JobState>()
                .unwrap_err()
                .to_string()
                .contains("queued, running, lost")
        );
    }
}
