//! The power to be watched: what changed, in an order in which nothing appears behind a reader.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cursor::{self, Cursor, Position};
use crate::error::{Error, Result};
use crate::event::{Event, Seq};
use crate::limits;

/// The changes of a store: every slot that was claimed or filled, in the order in which that became visible.
///
/// Sequence numbers alone are no such order on Postgres: they are given before the commit, so that one may appear below
/// another that was read already. A walk along [`Changed::next`] misses nothing, whatever writes beside it. What a prune
/// removes is not told of.
#[async_trait]
pub trait Changes: Debug + Send + Sync {
    /// The place from which a walk sees what comes from now on, and nothing that was there before.
    async fn now(&self) -> Result<Cursor>;

    /// The changes after a place; each slot as it holds now. A slot that changed again moved to the end.
    ///
    /// # Errors
    /// `InvalidInput` as [`ChangeQuery::check`] says; `Lagged` where slots after the place were pruned, so that what the walk
    /// would have seen is gone: begin anew with a listing and [`now`](Self::now).
    async fn since(&self, query: &ChangeQuery) -> Result<Changed>;

    /// Ends when this process may have changed something since the last call of it, or never: a hint, beside which one
    /// polls. Cancel-safe.
    async fn hint(&self);
}

/// From where on, and how many.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ChangeQuery {
    /// After this place; from the first slot that there is if `None`.
    pub after: Option<Cursor>,
    /// Most events of the answer: 1 to 1,000, 1,000 unless set.
    pub limit: u32,
}

impl Default for ChangeQuery {
    fn default() -> Self {
        Self {
            after: None,
            limit: limits::LARGEST_PAGE,
        }
    }
}

impl ChangeQuery {
    /// After this place.
    #[must_use]
    pub fn after(mut self, after: Option<Cursor>) -> Self {
        self.after = after;
        self
    }

    /// At most this many events.
    #[must_use]
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// Checks limit and cursor. Every backend calls this first, with its own `instance_id`.
    ///
    /// # Errors
    /// `InvalidInput` for a limit outside 1–1,000, a damaged cursor, one of a listing, and one of another store.
    pub fn check(&self, instance_id: Uuid) -> Result<Option<ChangePosition>> {
        limits::page(self.limit)?;
        match self.after.as_ref().map(Cursor::decode).transpose()? {
            None => Ok(None),
            Some(Position::Change(of, position)) if of == instance_id => Ok(Some(position)),
            Some(Position::Change(..)) => Err(Error::invalid(
                "after",
                "this place among the changes belongs to another database",
            )),
            Some(_) => Err(cursor::foreign()),
        }
    }
}

/// A place among the changes of one store: after this slot's change. Its order is that of the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChangePosition {
    /// The transaction, where a store has such an order (Postgres); else 0.
    pub transaction: u64,
    /// The number of the change.
    pub seq: Seq,
}

impl ChangePosition {
    /// The cursor of this place in the store with this identity.
    pub fn cursor(self, instance_id: Uuid) -> Cursor {
        Cursor::encode(&Position::Change(instance_id, self))
    }
}

/// Some changes, and where to go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Changed {
    /// The slots, each with all that it holds now.
    pub events: Vec<Event>,
    /// After the last of them; where the walk stood, if there was none.
    pub next: Cursor,
    /// Whether more were to be had at once.
    pub more: bool,
}

impl Changed {
    /// For backends.
    pub fn new(events: Vec<Event>, next: Cursor, more: bool) -> Self {
        Self { events, next, more }
    }
}
