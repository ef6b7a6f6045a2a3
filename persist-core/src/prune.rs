//! Retention: which jobs to forget.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

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
    /// Most request ids to remove in this call, the oldest first: 1 to 10,000, 1,000 unless set.
    pub limit: u32,
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

    /// Counts, removes nothing.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Checks and normalises. Every backend calls this first. Ids come out sorted and without doubles.
    ///
    /// # Errors
    /// `InvalidInput` for no condition at all, a live state without ids, a limit outside 1–10,000, or more
    /// than 10,000 ids.
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
        Ok(request)
    }
}

/// What a prune removed, or with `dry_run` would remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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
    /// Whether more match than the limit let go.
    pub more: bool,
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
        }
    }
}

impl std::ops::AddAssign for Pruned {
    /// What a later batch removed beside: whether more match is for that to say.
    fn add_assign(&mut self, later: Self) {
        self.requests += later.requests;
        self.jobs += later.jobs;
        self.vms += later.vms;
        self.events += later.events;
        self.more = later.more;
    }
}
