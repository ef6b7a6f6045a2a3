//! What is watched, and from where on.

use persist_core::{Cursor, Event, State};
use uuid::Uuid;

/// From where on changes are watched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WatchFrom {
    /// Only what comes from now on.
    #[default]
    Now,
    /// From the first slot that there is.
    Start,
    /// After this place, which a [`Change`](crate::Change) of the same store told.
    After(Cursor),
}

/// Which changes, from where on. By default all that come from now on.
///
/// ```
/// use persist::{JobState, WatchFrom, WatchQuery};
/// # let id = uuid::Uuid::from_u128(7);
/// let query = WatchQuery::default().from(WatchFrom::Start).job(id).states([JobState::Failed, JobState::Lost]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WatchQuery {
    /// From where on.
    pub from: WatchFrom,
    /// Only of this job and its VMs.
    pub request_id: Option<Uuid>,
    /// Only slots of these states, of jobs or of VMs; empty for any.
    pub states: Vec<State>,
}

impl WatchQuery {
    /// From there on.
    #[must_use]
    pub fn from(mut self, from: WatchFrom) -> Self {
        self.from = from;
        self
    }

    /// Only of this job and its VMs.
    #[must_use]
    pub fn job(mut self, request_id: Uuid) -> Self {
        self.request_id = Some(request_id);
        self
    }

    /// Only slots of these states; a state of jobs leaves out VMs, and the other way round.
    #[must_use]
    pub fn states(mut self, states: impl IntoIterator<Item = impl Into<State>>) -> Self {
        self.states = states.into_iter().map(Into::into).collect();
        self
    }

    /// Whether a slot is wanted.
    pub fn matches(&self, event: &Event) -> bool {
        self.request_id.is_none_or(|id| id == event.subject.request_id())
            && (self.states.is_empty() || self.states.contains(&event.state))
    }
}
