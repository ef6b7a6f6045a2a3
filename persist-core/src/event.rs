//! The history: one event for each claimed slot.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::attempt::{Attempt, Rank};
use crate::attributes::{Attribute, Attributes};
use crate::cursor::{self, Cursor, Position};
use crate::error::{Error, Result};
use crate::limits;
use crate::merge::Slot;
use crate::state::State;
use crate::subject::Subject;
use crate::time::{self, Timestamp};

/// The store's number of a slot's latest change: never reused, with gaps, meaningless in another store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(i64);

impl Seq {
    /// A sequence number that the store gave.
    pub fn new(seq: i64) -> Self {
        Self(seq)
    }

    /// The number.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A claimed slot with all that it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Columns", try_from = "Columns")]
#[non_exhaustive]
pub struct Event {
    /// The number of its latest change; a fill gives it a new one.
    pub seq: Seq,
    /// The job or VM.
    pub subject: Subject,
    /// The slot; gives the attempt.
    pub rank: Rank,
    /// The state that stands in the slot.
    pub state: State,
    /// When it was so, by the reporter's clock.
    pub at: Timestamp,
    /// When the slot was claimed, by the database's clock.
    pub recorded_at: Timestamp,
    /// Who reported.
    pub actor: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// What the slot brought.
    pub attributes: Attributes,
}

impl Event {
    /// The event of a slot. For backends.
    pub fn new(seq: Seq, recorded_at: Timestamp, subject: Subject, slot: Slot) -> Self {
        let Slot {
            rank,
            state,
            at,
            actor,
            reason,
            attributes,
        } = slot;
        Self {
            seq,
            subject,
            rank,
            state,
            at,
            recorded_at,
            actor,
            reason,
            attributes,
        }
    }

    /// The attempt of the slot.
    pub fn attempt(&self) -> Attempt {
        self.rank.attempt()
    }

    /// The slot that it tells of, for folding.
    pub fn slot(&self) -> Slot {
        Slot {
            rank: self.rank,
            state: self.state,
            at: self.at,
            actor: self.actor.clone(),
            reason: self.reason.clone(),
            attributes: self.attributes.clone(),
        }
    }
}

/// The serialised form: the names of the columns.
#[derive(Serialize, Deserialize)]
struct Columns {
    seq: Seq,
    request_id: Uuid,
    domain_name: Option<String>,
    state: String,
    attempt: Attempt,
    #[serde(with = "time::rfc3339")]
    at: Timestamp,
    #[serde(with = "time::rfc3339")]
    recorded_at: Timestamp,
    actor: Option<String>,
    reason: Option<String>,
    repo_url: Option<String>,
    commit_sha: Option<String>,
    runs_on: Option<String>,
    backend: Option<String>,
    overlay_path: Option<String>,
    seed_path: Option<String>,
}

impl From<Event> for Columns {
    fn from(mut event: Event) -> Self {
        let mut take = |attribute| event.attributes.take(attribute);
        Self {
            repo_url: take(Attribute::RepoUrl),
            commit_sha: take(Attribute::CommitSha),
            runs_on: take(Attribute::RunsOn),
            backend: take(Attribute::Backend),
            overlay_path: take(Attribute::OverlayPath),
            seed_path: take(Attribute::SeedPath),
            seq: event.seq,
            request_id: event.subject.request_id(),
            domain_name: event.subject.vm_name().map(str::to_owned),
            state: event.state.name().to_owned(),
            attempt: event.rank.attempt(),
            at: event.at,
            recorded_at: event.recorded_at,
            actor: event.actor,
            reason: event.reason,
        }
    }
}

impl TryFrom<Columns> for Event {
    type Error = Error;

    fn try_from(columns: Columns) -> Result<Self> {
        let subject = Subject::new(
            columns.request_id,
            columns.domain_name.as_deref().unwrap_or_default(),
        );
        let state = State::from_name(subject.is_vm(), &columns.state)
            .ok_or_else(|| Error::invalid("state", "is not a state of this kind of subject"))?;
        let mut attributes = Attributes::default();
        attributes.set(Attribute::RepoUrl, columns.repo_url);
        attributes.set(Attribute::CommitSha, columns.commit_sha);
        attributes.set(Attribute::RunsOn, columns.runs_on);
        attributes.set(Attribute::Backend, columns.backend);
        attributes.set(Attribute::OverlayPath, columns.overlay_path);
        attributes.set(Attribute::SeedPath, columns.seed_path);
        Ok(Self {
            seq: columns.seq,
            subject,
            rank: Rank::new(columns.attempt, state.phase()),
            state,
            at: columns.at,
            recorded_at: columns.recorded_at,
            actor: columns.actor,
            reason: columns.reason,
            attributes,
        })
    }
}

/// The order of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventOrder {
    /// By (`request_id`, `domain_name`, rank): stable, and what `export` reads.
    #[default]
    ByKey,
    /// By sequence number. On Postgres numbers become visible out of order: a walk up to the end may miss a
    /// slot that was being written; it is for pages, not for tailing.
    BySeq,
}

/// Which part of the history, in which order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct EventQuery {
    /// Only this job and its VMs.
    pub request_id: Option<Uuid>,
    /// The order.
    pub order: EventOrder,
    /// Continue after this cursor of a query in the same order.
    pub after: Option<Cursor>,
    /// Rows of the page: 1 to 1,000, 50 unless set.
    pub limit: u32,
}

impl Default for EventQuery {
    fn default() -> Self {
        Self {
            request_id: None,
            order: EventOrder::default(),
            after: None,
            limit: limits::PAGE,
        }
    }
}

impl EventQuery {
    /// Only this job and its VMs.
    #[must_use]
    pub fn request_id(mut self, request_id: Uuid) -> Self {
        self.request_id = Some(request_id);
        self
    }

    /// In this order.
    #[must_use]
    pub fn order(mut self, order: EventOrder) -> Self {
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

    /// Checks limit and cursor. Every backend calls this first, with its own `instance_id`.
    ///
    /// # Errors
    /// `InvalidInput` for a limit outside 1–1,000, a damaged cursor, one of another listing or order, and a
    /// [`EventOrder::BySeq`] cursor of another store.
    pub fn check(&self, instance_id: Uuid) -> Result<EventPosition> {
        limits::page(self.limit)?;
        let position = self.after.as_ref().map(Cursor::decode).transpose()?;
        match (self.order, position) {
            (EventOrder::ByKey, None) => Ok(EventPosition::Key(None)),
            (EventOrder::BySeq, None) => Ok(EventPosition::Seq(None)),
            (EventOrder::ByKey, Some(Position::EventKey(id, name, rank))) => {
                let rank = Rank::from_i64(rank).ok_or_else(cursor::foreign)?;
                Ok(EventPosition::Key(Some((Subject::new(id, &name), rank))))
            }
            (EventOrder::BySeq, Some(Position::EventSeq(of, seq))) if of == instance_id => {
                Ok(EventPosition::Seq(Some(Seq(seq))))
            }
            (EventOrder::BySeq, Some(Position::EventSeq(..))) => Err(Error::invalid(
                "after",
                "this cursor by sequence belongs to another database",
            )),
            (EventOrder::ByKey | EventOrder::BySeq, Some(_)) => Err(cursor::foreign()),
        }
    }

    /// The cursor after this event in this query's order.
    pub fn cursor(&self, event: &Event, instance_id: Uuid) -> Cursor {
        Cursor::encode(&match self.order {
            EventOrder::ByKey => {
                let (id, name) = event.subject.key();
                Position::EventKey(id, name.to_owned(), event.rank.get())
            }
            EventOrder::BySeq => Position::EventSeq(instance_id, event.seq.get()),
        })
    }
}

/// Where a page of the history begins: after this slot, or at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventPosition {
    /// In [`EventOrder::ByKey`].
    Key(Option<(Subject, Rank)>),
    /// In [`EventOrder::BySeq`].
    Seq(Option<Seq>),
}
