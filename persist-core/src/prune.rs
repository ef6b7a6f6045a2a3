//! Retention: which jobs to forget.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cursor::{self, Cursor, Position};
use crate::error::{Error, Result};
use crate::state::{JobState, StateTable};
use crate::time::{self, Timestamp};

/// Most request ids that one call removes.
pub const LARGEST_PRUNE: u32 = 10_000;

/// Which whole jobs to remove: the job, its VMs, their history. Conditions are joined by "and".
///
/// A job or VM that is live keeps its whole `request_id`, unless `ids` names it. VMs whose job never came
/// count by themselves, where neither `states` nor `keep_per_repo` is given. An update that comes for a
/// pruned job starts it anew: keep longer than the longest replay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Prune {
    /// Only these request ids, also when they are live; empty for any that has ended.
    pub ids: Vec<Uuid>,
    /// Only where job and VMs were last updated before this time.
    #[serde(with = "time::rfc3339::option")]
    pub ended_before: Option<Timestamp>,
    /// Only jobs in these states; empty for any.
    pub states: Vec<JobState>,
    /// Keeps the newest so many jobs (by `created_at`, then id) of each repository; jobs of no known
    /// repository are one group.
    pub keep_per_repo: Option<u32>,
    /// Most request ids to remove in this call: 1 to 10,000, 1,000 unless set. The oldest go first, by `created_at`, then
    /// id; with `keep_per_repo` and without `ids` repository by repository, by their bytes, those of no known one last.
    pub limit: u32,
    /// Only what comes after this place in that order: [`Pruned::next`] of a call with the same conditions. A call that goes
    /// on there looks at nothing twice; one that begins anew passes over all that the calls before it looked at and left.
    pub after: Option<Cursor>,
    /// Counts, removes nothing.
    pub dry_run: bool,
}

impl Default for Prune {
    fn default() -> Self {
        Self {
            ids: Vec::new(),
            ended_before: None,
            states: Vec::new(),
            keep_per_repo: None,
            limit: 1_000,
            after: None,
            dry_run: false,
        }
    }
}

impl Prune {
    /// Only these request ids, also when they are live.
    #[must_use]
    pub fn ids(mut self, ids: impl IntoIterator<Item = Uuid>) -> Self {
        self.ids = ids.into_iter().collect();
        self
    }

    /// Only what was last updated before this time.
    #[must_use]
    pub fn ended_before(mut self, at: Timestamp) -> Self {
        self.ended_before = Some(at);
        self
    }

    /// Only jobs in these states.
    #[must_use]
    pub fn states(mut self, states: impl IntoIterator<Item = JobState>) -> Self {
        self.states = states.into_iter().collect();
        self
    }

    /// Keeps the newest so many jobs of each repository.
    #[must_use]
    pub fn keep_per_repo(mut self, jobs: u32) -> Self {
        self.keep_per_repo = Some(jobs);
        self
    }

    /// At most this many request ids.
    #[must_use]
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// Only what comes after this place.
    #[must_use]
    pub fn after(mut self, after: Option<Cursor>) -> Self {
        self.after = after;
        self
    }

    /// Counts, removes nothing.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Checks and normalises. Every backend calls this first. Ids come out sorted and without doubles.
    ///
    /// # Errors
    /// `InvalidInput` for no condition at all, a live state without ids, a limit outside 1–10,000, more than 10,000 ids, and a
    /// cursor that is damaged or of another order.
    pub fn check(&self) -> Result<Self> {
        let mut request = self.clone();
        request.ids.sort_unstable();
        request.ids.dedup();
        request.ended_before = self
            .ended_before
            .map(|at| time::normalize("ended_before", at))
            .transpose()?;
        let unconditional = self.ids.is_empty()
            && self.ended_before.is_none()
            && self.states.is_empty()
            && self.keep_per_repo.is_none();
        if unconditional {
            return Err(Error::invalid(
                "prune",
                "needs ids, an age, states or a number to keep",
            ));
        }
        if self.ids.is_empty() && self.states.iter().any(|state| !state.is_ended()) {
            return Err(Error::invalid(
                "states",
                "a live job is removed only when its id is named",
            ));
        }
        if !(1..=LARGEST_PRUNE).contains(&self.limit) {
            return Err(Error::invalid(
                "limit",
                format_args!("must be 1 to {LARGEST_PRUNE} request ids"),
            ));
        }
        if request.ids.len() > LARGEST_PRUNE as usize {
            return Err(Error::invalid(
                "ids",
                format_args!("must be at most {LARGEST_PRUNE}"),
            ));
        }
        self.position()?;
        Ok(request)
    }

    /// Whether it goes repository by repository. For backends.
    pub fn is_by_repo(&self) -> bool {
        self.keep_per_repo.is_some() && self.ids.is_empty()
    }

    /// The place to go on from. For backends.
    ///
    /// # Errors
    /// `InvalidInput` for a cursor that is damaged or of another order.
    pub fn position(&self) -> Result<Option<PrunePosition>> {
        match self.after.as_ref().map(Cursor::decode).transpose()? {
            None => Ok(None),
            Some(Position::Prune(position)) if (position.repo != PruneRepo::Any) == self.is_by_repo() => {
                Ok(Some(position))
            }
            Some(_) => Err(cursor::foreign()),
        }
    }
}

/// A place in the order in which a prune goes: after a request id. Places are ordered by their fields.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PrunePosition {
    /// Among which jobs.
    pub repo: PruneRepo,
    /// The `created_at` of the job, or the earliest of VMs whose job never came.
    #[serde(with = "time::rfc3339")]
    pub created_at: Timestamp,
    /// The request id.
    pub request_id: Uuid,
}

/// Whose jobs a prune is among.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PruneRepo {
    /// All, where it goes by age alone.
    #[serde(rename = "a")]
    Any,
    /// Those of one repository.
    #[serde(rename = "r")]
    Known(String),
    /// Those of no known repository.
    #[serde(rename = "u")]
    Unknown,
}

/// What a prune removed, or with `dry_run` would remove.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pruned {
    /// Request ids.
    pub requests: u64,
    /// Rows of jobs.
    pub jobs: u64,
    /// Rows of VMs.
    pub vms: u64,
    /// Slots of the history.
    pub events: u64,
    /// Whether to go on: more match than the limit let go, or half of the call's deadline was over before the search had come
    /// to its end.
    pub more: bool,
    /// Where to go on, for [`Prune::after`], if there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
}

impl Pruned {
    /// For backends.
    pub fn new(requests: u64, jobs: u64, vms: u64, events: u64, more: bool) -> Self {
        Self {
            requests,
            jobs,
            vms,
            events,
            more,
            next: None,
        }
    }

    /// Of a search that ended at this place, if it is to go on. For backends.
    #[must_use]
    pub fn ended_at(mut self, place: Option<PrunePosition>) -> Self {
        self.more = place.is_some();
        self.next = place.map(|place| Cursor::encode(&Position::Prune(place)));
        self
    }
}

impl std::ops::AddAssign for Pruned {
    /// What a later batch removed beside: whether more match, and from where, is for that to say.
    fn add_assign(&mut self, later: Self) {
        self.requests += later.requests;
        self.jobs += later.jobs;
        self.vms += later.vms;
        self.events += later.events;
        self.more = later.more;
        self.next = later.next;
    }
}
