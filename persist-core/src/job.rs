//! Jobs: the current row and the query over it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::attempt::Attempt;
use crate::attributes::Attribute;
use crate::cursor::{self, Cursor, Position};
use crate::error::Result;
use crate::limits;
use crate::merge::Row;
use crate::page::{IdRange, Order, TimeRange};
use crate::repo_url;
use crate::state::{JobState, State};
use crate::time::{self, Timestamp};

/// A job as it stands: the fold of its slots.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Job {
    /// The orchestrator's id of the job.
    pub request_id: Uuid,
    /// State of the highest slot.
    pub state: JobState,
    /// Attempt of the highest slot.
    pub attempt: Attempt,
    /// Repository, without credentials; `None` until an update brings it.
    pub repo_url: Option<String>,
    /// Commit; `None` until an update brings it.
    pub commit_sha: Option<String>,
    /// Runner label.
    pub runs_on: Option<String>,
    /// The earliest `at` of any slot.
    #[serde(with = "time::rfc3339")]
    pub created_at: Timestamp,
    /// The latest `at` of any slot.
    #[serde(with = "time::rfc3339")]
    pub updated_at: Timestamp,
}

impl Job {
    /// A job of one slot, without attributes; set those that are known. For backends.
    pub fn new(request_id: Uuid, state: JobState, attempt: Attempt, at: Timestamp) -> Self {
        Self {
            request_id,
            state,
            attempt,
            repo_url: None,
            commit_sha: None,
            runs_on: None,
            created_at: at,
            updated_at: at,
        }
    }

    /// The job of a folded history, or `None` if the row is a VM's.
    pub fn from_row(request_id: Uuid, row: &Row) -> Option<Self> {
        let State::Job(state) = row.state else { return None };
        let attribute = |attribute| row.attributes.get(attribute).map(str::to_owned);
        Some(Self {
            request_id,
            state,
            attempt: row.rank.attempt(),
            repo_url: attribute(Attribute::RepoUrl),
            commit_sha: attribute(Attribute::CommitSha),
            runs_on: attribute(Attribute::RunsOn),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// Which jobs, in which order, how many. Filters are joined by "and"; an empty one lets everything pass.
///
/// ```
/// use persist_core::{JobQuery, JobState, Order};
/// let query = JobQuery::default().states([JobState::Queued, JobState::Running]).order(Order::OldestFirst).limit(10);
/// assert_eq!(query.check()?.limit, 10);
/// # Ok::<(), persist_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct JobQuery {
    /// Any of these; empty for all.
    pub states: Vec<JobState>,
    /// This repository, to the byte, after the normalisation that stored values had.
    pub repo_url: Option<String>,
    /// Commits that begin so: 1–64 hex digits.
    pub commit_sha: Option<String>,
    /// This runner label, to the byte.
    pub runs_on: Option<String>,
    /// `created_at` in this range.
    pub created: TimeRange,
    /// `request_id` in this range.
    pub ids: IdRange,
    /// The order of the listing.
    pub order: Order,
    /// Continue after this cursor of a query in the same order.
    pub after: Option<Cursor>,
    /// Rows of the page: 1 to 1,000, 50 unless set.
    pub limit: u32,
}

impl Default for JobQuery {
    fn default() -> Self {
        Self {
            states: Vec::new(),
            repo_url: None,
            commit_sha: None,
            runs_on: None,
            created: TimeRange::default(),
            ids: IdRange::default(),
            order: Order::default(),
            after: None,
            limit: limits::PAGE,
        }
    }
}

impl JobQuery {
    /// Any of these states.
    #[must_use]
    pub fn states(mut self, states: impl IntoIterator<Item = JobState>) -> Self {
        self.states = states.into_iter().collect();
        self
    }

    /// This repository.
    #[must_use]
    pub fn repo_url(mut self, repo_url: impl Into<String>) -> Self {
        // Here already, so that no `Debug` of a query shows them.
        self.repo_url = Some(repo_url::strip_credentials(&repo_url.into()));
        self
    }

    /// Commits that begin so.
    #[must_use]
    pub fn commit_sha(mut self, prefix: impl Into<String>) -> Self {
        self.commit_sha = Some(prefix.into());
        self
    }

    /// This runner label.
    #[must_use]
    pub fn runs_on(mut self, runs_on: impl Into<String>) -> Self {
        self.runs_on = Some(runs_on.into());
        self
    }

    /// Created in this range.
    #[must_use]
    pub fn created(mut self, created: TimeRange) -> Self {
        self.created = created;
        self
    }

    /// With ids in this range.
    #[must_use]
    pub fn ids(mut self, ids: IdRange) -> Self {
        self.ids = ids;
        self
    }

    /// In this order.
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// After this cursor.
    #[must_use]
    pub fn after(mut self, after: Option<Cursor>) -> Self {
        self.after = after;
        self
    }

    /// At most this many rows.
    #[must_use]
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// Normalises the filters as stored values are. Every backend calls this first.
    ///
    /// # Errors
    /// `InvalidInput` naming the field.
    pub fn check(&self) -> Result<Self> {
        let query = Self {
            states: self.states.clone(),
            repo_url: repo_url::normalize(self.repo_url.clone())?,
            commit_sha: limits::commit_sha_prefix(self.commit_sha.clone())?,
            runs_on: limits::text("runs_on", self.runs_on.clone(), limits::RUNS_ON_BYTES)?,
            created: self.created.check()?,
            ids: self.ids,
            order: self.order,
            after: self.after.clone(),
            limit: limits::page(self.limit)?,
        };
        query.position()?;
        Ok(query)
    }

    /// Where the page begins: the key of the row before it.
    ///
    /// # Errors
    /// `InvalidInput` for a damaged cursor or one of another listing or order.
    pub fn position(&self) -> Result<Option<(Timestamp, Uuid)>> {
        match self.after.as_ref().map(Cursor::decode).transpose()? {
            None => Ok(None),
            Some(Position::Job(order, at, id)) if order == self.order => Ok(Some((at, id))),
            Some(_) => Err(cursor::foreign()),
        }
    }

    /// The cursor after this row in this query's order.
    pub fn cursor(&self, job: &Job) -> Cursor {
        Cursor::encode(&Position::Job(self.order, job.created_at, job.request_id))
    }

    /// Whether the (checked) filters let this job pass; order, cursor and limit aside.
    pub fn matches(&self, job: &Job) -> bool {
        let same = |filter: &Option<String>, value: &Option<String>| filter.is_none() || filter == value;
        (self.states.is_empty() || self.states.contains(&job.state))
            && same(&self.repo_url, &job.repo_url)
            && same(&self.runs_on, &job.runs_on)
            && self.commit_sha.as_ref().is_none_or(|prefix| {
                job.commit_sha
                    .as_ref()
                    .is_some_and(|sha| sha.starts_with(prefix.as_str()))
            })
            && self.created.contains(job.created_at)
            && self.ids.contains(job.request_id)
    }
}
