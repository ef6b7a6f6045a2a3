//! The power to know who is alive: heartbeats of orchestrators, and what those that are gone left behind.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::attempt::Attempt;
use crate::cursor::{self, Cursor, Position};
use crate::error::{Error, Result};
use crate::limits;
use crate::page::Page;
use crate::state::State;
use crate::subject::Subject;
use crate::time::{self, Timestamp};

/// Who is alive, by the database's clock alone: the clocks of those that beat decide nothing.
///
/// An orchestrator beats under the name that it stamps on its updates as `actor`, with a number of its start, the epoch.
/// The owner of a live job or VM is the actor of its current slot, if that ever beat. It is gone when its last beat is
/// older than it said that it may become, or when it has started anew since the slot was recorded.
#[async_trait]
pub trait Owners: Debug + Send + Sync {
    /// Says that an orchestrator is alive, and returns what is known of it. The first beat of a higher epoch is a start anew.
    ///
    /// # Errors
    /// `InvalidInput` as [`Heartbeat::check`] says, and for an epoch below the one that beats: another instance has taken
    /// over the name, and this one must not go on.
    async fn heartbeat(&self, beat: &Heartbeat) -> Result<Owner>;

    /// All that ever beat, by name. There are as many as orchestrators.
    async fn list(&self) -> Result<Vec<Owner>>;

    /// A page of what is live and nobody seems to see to, by (`request_id`, `domain_name`). Reads live rows only.
    ///
    /// # Errors
    /// `InvalidInput` as [`OrphanQuery::check`] says.
    async fn orphans(&self, query: &OrphanQuery) -> Result<Page<Orphan>>;
}

/// Shortest and longest time that may pass between beats.
pub const HEARTBEAT: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(24 * 3_600);

/// That an orchestrator is alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Heartbeat {
    /// The name that it stamps on its updates: 1 to 128 bytes.
    pub actor: String,
    /// Number of its start, higher with each: 0 to 2^63−1. Microseconds since 1970 at the start will do.
    pub epoch: u64,
    /// After how long without another beat it counts as gone: 100 ms to 24 h.
    pub valid_for: Duration,
}

impl Heartbeat {
    /// A beat that is good for a minute.
    pub fn new(actor: impl Into<String>, epoch: u64) -> Self {
        Self {
            actor: actor.into(),
            epoch,
            valid_for: Duration::from_secs(60),
        }
    }

    /// Counts as gone after this long without another.
    #[must_use]
    pub fn valid_for(mut self, time: Duration) -> Self {
        self.valid_for = time;
        self
    }

    /// Checks and normalises. Every backend calls this first.
    ///
    /// # Errors
    /// `InvalidInput` that names the field and its limit.
    pub fn check(&self) -> Result<Self> {
        let actor = limits::text("actor", Some(self.actor.clone()), limits::ACTOR_BYTES)?
            .ok_or_else(|| Error::invalid("actor", "must not be empty"))?;
        if i64::try_from(self.epoch).is_err() {
            return Err(Error::invalid("epoch", "must be below 2^63"));
        }
        if !HEARTBEAT.contains(&self.valid_for) {
            return Err(Error::invalid("valid_for", "must be 100 ms to 24 h"));
        }
        Ok(Self {
            actor,
            epoch: self.epoch,
            valid_for: self.valid_for,
        })
    }
}

/// An orchestrator that has beaten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Owner {
    /// Its name.
    pub actor: String,
    /// Number of its latest start.
    pub epoch: u64,
    /// When the first beat of that epoch came, by the database's clock.
    #[serde(with = "time::rfc3339")]
    pub started_at: Timestamp,
    /// When the last one came, by the database's clock.
    #[serde(with = "time::rfc3339")]
    pub beat_at: Timestamp,
    /// Until when it counts as alive.
    #[serde(with = "time::rfc3339")]
    pub valid_until: Timestamp,
    /// Whether it is alive.
    pub alive: bool,
}

impl Owner {
    /// Of what a store holds, seen at this time of its clock. For backends.
    pub fn new(
        actor: String,
        epoch: u64,
        started_at: Timestamp,
        beat_at: Timestamp,
        valid_until: Timestamp,
        now: Timestamp,
    ) -> Self {
        Self {
            actor,
            epoch,
            started_at,
            beat_at,
            valid_until,
            alive: now < valid_until,
        }
    }

    /// Whether it sees to what was recorded at this time.
    pub fn sees_to(&self, recorded_at: Timestamp) -> bool {
        self.alive && self.started_at <= recorded_at
    }
}

/// Why something live seems to be left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OrphanKind {
    /// Its owner stopped beating, or has started anew since.
    OwnerGone,
    /// A live VM whose job has ended, or never came.
    VmWithoutJob,
    /// A running job without a live VM. Only of jobs that ever had one.
    JobWithoutVm,
}

impl OrphanKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::OwnerGone, Self::VmWithoutJob, Self::JobWithoutVm];

    /// The stable snake-case word.
    pub fn name(self) -> &'static str {
        match self {
            Self::OwnerGone => "owner_gone",
            Self::VmWithoutJob => "vm_without_job",
            Self::JobWithoutVm => "job_without_vm",
        }
    }
}

/// A live job or VM that seems to be left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Columns", try_from = "Columns")]
#[non_exhaustive]
pub struct Orphan {
    /// The job or VM.
    pub subject: Subject,
    /// Its current state, which is live.
    pub state: State,
    /// Its current attempt.
    pub attempt: Attempt,
    /// Why, the first of [`OrphanKind::ALL`] before the others.
    pub kinds: Vec<OrphanKind>,
    /// Who reported the current slot.
    pub actor: Option<String>,
    /// When the current slot was claimed, by the database's clock.
    pub recorded_at: Timestamp,
}

impl Orphan {
    /// For backends.
    pub fn new(
        subject: Subject,
        state: State,
        attempt: Attempt,
        kinds: Vec<OrphanKind>,
        actor: Option<String>,
        recorded_at: Timestamp,
    ) -> Self {
        Self {
            subject,
            state,
            attempt,
            kinds,
            actor,
            recorded_at,
        }
    }
}

/// The serialised form: the names of the columns.
#[derive(Serialize, Deserialize)]
struct Columns {
    request_id: Uuid,
    domain_name: Option<String>,
    state: String,
    attempt: Attempt,
    kinds: Vec<OrphanKind>,
    actor: Option<String>,
    #[serde(with = "time::rfc3339")]
    recorded_at: Timestamp,
}

impl From<Orphan> for Columns {
    fn from(orphan: Orphan) -> Self {
        Self {
            request_id: orphan.subject.request_id(),
            domain_name: Some(orphan.subject.domain_name().to_owned()).filter(|name| !name.is_empty()),
            state: orphan.state.name().to_owned(),
            attempt: orphan.attempt,
            kinds: orphan.kinds,
            actor: orphan.actor,
            recorded_at: orphan.recorded_at,
        }
    }
}

impl TryFrom<Columns> for Orphan {
    type Error = Error;

    fn try_from(columns: Columns) -> Result<Self> {
        let subject = Subject::new(
            columns.request_id,
            columns.domain_name.as_deref().unwrap_or_default(),
        );
        let state = State::from_name(subject.is_vm(), &columns.state)
            .ok_or_else(|| Error::invalid("state", "is not a state of this kind of subject"))?;
        Ok(Self::new(
            subject,
            state,
            columns.attempt,
            columns.kinds,
            columns.actor,
            columns.recorded_at,
        ))
    }
}

/// Which orphans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct OrphanQuery {
    /// Only for any of these reasons; empty for any.
    pub kinds: Vec<OrphanKind>,
    /// Only what this actor reported last.
    pub actor: Option<String>,
    /// Only where the current slot was recorded at least this long ago, by the database's clock: VMs and their jobs are
    /// reported one after the other. None unless set.
    pub grace: Duration,
    /// Continue after this cursor.
    pub after: Option<Cursor>,
    /// Rows of the page: 1 to 1,000, 50 unless set.
    pub limit: u32,
}

impl Default for OrphanQuery {
    fn default() -> Self {
        Self {
            kinds: Vec::new(),
            actor: None,
            grace: Duration::ZERO,
            after: None,
            limit: limits::PAGE,
        }
    }
}

impl OrphanQuery {
    /// Only for any of these reasons.
    #[must_use]
    pub fn kinds(mut self, kinds: impl IntoIterator<Item = OrphanKind>) -> Self {
        self.kinds = kinds.into_iter().collect();
        self
    }

    /// Only what this actor reported last.
    #[must_use]
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// Only where the current slot was recorded at least this long ago.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
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

    /// Checks and normalises. Every backend calls this first.
    ///
    /// # Errors
    /// `InvalidInput` for a limit outside 1–1,000, an actor that is too long, a grace above 24 h, a damaged cursor, and one
    /// of another listing.
    pub fn check(&self) -> Result<Self> {
        limits::page(self.limit)?;
        self.position()?;
        if self.grace > *HEARTBEAT.end() {
            return Err(Error::invalid("grace", "must be at most 24 h"));
        }
        let mut query = self.clone();
        query.actor = limits::text("actor", query.actor, limits::ACTOR_BYTES)?;
        query.kinds.sort_unstable();
        query.kinds.dedup();
        Ok(query)
    }

    /// The subject that the page begins after.
    ///
    /// # Errors
    /// `InvalidInput` for a cursor that does not belong here.
    pub fn position(&self) -> Result<Option<Subject>> {
        match self.after.as_ref().map(Cursor::decode).transpose()? {
            None => Ok(None),
            Some(Position::Orphan(id, name)) => Ok(Some(Subject::new(id, &name))),
            Some(_) => Err(cursor::foreign()),
        }
    }

    /// The cursor after this orphan.
    pub fn cursor(&self, orphan: &Orphan) -> Cursor {
        let (id, name): (Uuid, &str) = orphan.subject.key();
        Cursor::encode(&Position::Orphan(id, name.to_owned()))
    }

    /// Whether an orphan for these reasons is asked for.
    pub fn wants(&self, kinds: &[OrphanKind]) -> bool {
        !kinds.is_empty() && (self.kinds.is_empty() || kinds.iter().any(|kind| self.kinds.contains(kind)))
    }
}
