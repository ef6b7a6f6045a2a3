//! A checked update: the only thing that a backend accepts, so no backend validates again.

use crate::attempt::{Attempt, Rank};
use crate::attributes::{Attribute, Attributes};
use crate::state::State;
use crate::subject::Subject;
use crate::time::Timestamp;

/// A normalised, stamped and validated update, on its way to claim the slot (subject, rank).
///
/// Made by `check` of [`JobUpdate`](crate::JobUpdate), [`VmUpdate`](crate::VmUpdate) or
/// [`Update`](crate::Update), and by nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    pub(crate) subject: Subject,
    pub(crate) rank: Rank,
    pub(crate) state: State,
    pub(crate) at: Timestamp,
    pub(crate) actor: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) attributes: Attributes,
}

impl Claim {
    /// The job or VM.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The slot on the subject's time line.
    pub fn rank(&self) -> Rank {
        self.rank
    }

    /// The attempt of the slot.
    pub fn attempt(&self) -> Attempt {
        self.rank.attempt()
    }

    /// The state that it claims.
    pub fn state(&self) -> State {
        self.state
    }

    /// When it was so, in microseconds.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// Who reports.
    pub fn actor(&self) -> Option<&str> {
        self.actor.as_deref()
    }

    /// Why.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// One attribute.
    pub fn attribute(&self, attribute: Attribute) -> Option<&str> {
        self.attributes.get(attribute)
    }

    /// All attributes.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }
}
