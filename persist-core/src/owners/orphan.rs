//! What nobody seems to see to: orphans, and the question for them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::HEARTBEAT;
use crate::attempt::Attempt;
use crate::cursor::{self, Cursor, Position};
use crate::error::{Error, Result};
use crate::limits;
use crate::state::State;
use crate::subject::Subject;
use crate::time::{self, Timestamp};

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

    /// The kind that a person means by `text`: its word, in any letter case, with `-` or `_`.
    ///
    /// ```
    /// use persist_core::OrphanKind;
    /// assert_eq!(OrphanKind::parse("owner-gone")?, OrphanKind::OwnerGone);
    /// # Ok::<(), persist_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` that lists the known words.
    pub fn parse(text: &str) -> Result<Self> {
        let wanted = text.to_ascii_lowercase().replace('-', "_");
        let found = Self::ALL.into_iter().find(|kind| kind.name() == wanted);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Error::invalid("kind", format_args!("unknown kind of orphan; known are {known}"))
        })
    }

    /// The kinds that apply, each told in its place of [`ALL`](Self::ALL). For backends.
    pub fn of(applies: [bool; 3]) -> Vec<Self> {
        let kinds = Self::ALL.into_iter().zip(applies);
        kinds
            .filter_map(|(kind, applies)| applies.then_some(kind))
            .collect()
    }
}

/// A live job or VM that seems to be left alone: one for each subject, whatever the reasons.
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
            domain_name: orphan.subject.vm_name().map(str::to_owned),
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

/// Which orphans. All filters must hold.
///
/// ```
/// use std::time::Duration;
/// use persist_core::{OrphanKind, OrphanQuery};
/// let left = OrphanQuery::default().kinds([OrphanKind::OwnerGone]).actor("orchestrator-1");
/// let settled = left.grace(Duration::from_secs(60));
/// # assert!(settled.check().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct OrphanQuery {
    /// Only for any of these reasons; empty for any.
    pub kinds: Vec<OrphanKind>,
    /// Only what this actor reported last.
    pub actor: Option<String>,
    /// Only where the current slot was recorded at least this long ago, by the database's clock: VMs and their jobs are
    /// reported one after the other. At most 24 h; none unless set.
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
        query.grace = super::to_micros(self.grace);
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

#[cfg(test)]
mod tests;
