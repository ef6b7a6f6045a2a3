//! A checked update: the only thing that a backend accepts, so no backend validates again.

use std::sync::Arc;

use crate::attempt::{Attempt, Rank};
use crate::attributes::{Attribute, Attributes};
use crate::state::State;
use crate::subject::Subject;
use crate::time::Timestamp;

/// A normalised, stamped and validated update, on its way to claim the slot (subject, rank).
///
/// Made by `check` of [`JobUpdate`](crate::JobUpdate), [`VmUpdate`](crate::VmUpdate) or
/// [`Update`](crate::Update), and by nothing else.
///
/// Cheap to clone: what it says is shared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim(pub(crate) Arc<Said>);

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Said {
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
        &self.0.subject
    }

    /// The slot on the subject's time line.
    pub fn rank(&self) -> Rank {
        self.0.rank
    }

    /// The attempt of the slot.
    pub fn attempt(&self) -> Attempt {
        self.0.rank.attempt()
    }

    /// The state that it claims.
    pub fn state(&self) -> State {
        self.0.state
    }

    /// When it was so, in microseconds.
    pub fn at(&self) -> Timestamp {
        self.0.at
    }

    /// Who reports.
    pub fn actor(&self) -> Option<&str> {
        self.0.actor.as_deref()
    }

    /// Why.
    pub fn reason(&self) -> Option<&str> {
        self.0.reason.as_deref()
    }

    /// One attribute.
    pub fn attribute(&self, attribute: Attribute) -> Option<&str> {
        self.0.attributes.get(attribute)
    }

    /// All attributes.
    pub fn attributes(&self) -> &Attributes {
        &self.0.attributes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FixedClock, JobState, JobUpdate, time};
    use uuid::Uuid;

    #[test]
    fn a_claim_says_what_its_update_said() {
        let (id, at) = (Uuid::from_u128(7), time::from_micros(5).unwrap());
        let update = JobUpdate::new(id, JobState::Lost).attempt(3).runs_on("small");
        let claim = update.actor("me").reason("why").check(&FixedClock(at)).unwrap();
        assert_eq!(claim.subject(), &Subject::Job(id));
        assert_eq!((claim.rank().get(), claim.attempt().get()), (14, 3));
        assert_eq!((claim.state(), claim.at()), (JobState::Lost.into(), at));
        assert_eq!((claim.actor(), claim.reason()), (Some("me"), Some("why")));
        assert_eq!(claim.attribute(Attribute::RunsOn), Some("small"));
        assert_eq!(claim.attributes().get(Attribute::RunsOn), Some("small"));
        let bare = JobUpdate::new(id, JobState::Lost).check(&FixedClock(at)).unwrap();
        assert_eq!((bare.actor(), bare.reason()), (None, None));
        assert_eq!(bare.attribute(Attribute::RunsOn), None);
    }
}
