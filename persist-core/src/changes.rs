//! The power to be watched: what changed, in an order in which nothing appears behind a reader.

mod bell;
mod horizon;

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::bell::Bell;
pub use self::horizon::Horizon;
use crate::cursor::{self, Cursor, Position};
use crate::error::{Error, Result};
use crate::event::{Event, Seq};
use crate::limits;

/// The changes of a store: every slot that was claimed or filled, in the order in which that became visible.
///
/// Sequence numbers alone are no such order on Postgres: they are given before the commit, so that one may appear below
/// another that was read already. A walk along [`Changed::next`] misses nothing, whatever writes beside it, and sees each
/// change once. What a prune removes is not told of.
///
/// A change may be seen a little after it was acknowledged: on Postgres once every transaction that is older than its own
/// and writes, in any database of the server, has ended.
///
/// ```
/// # use persist_core::{ChangeQuery, Changes, Error, ErrorKind, PersistBackend, Result};
/// # async fn example(backend: std::sync::Arc<dyn PersistBackend>) -> Result<()> {
/// let none = || Error::new(ErrorKind::Unsupported, "this store can't be watched");
/// let changes = backend.changes().ok_or_else(none)?;
/// let mut query = ChangeQuery::default().after(Some(changes.now().await?.cursor()));
/// loop {
///     let changed = changes.since(&query).await?;
///     for change in &changed.changes {
///         println!("{} is {}", change.event.subject, change.event.state.name());
///     }
///     query = query.after(Some(changed.next.cursor()));
///     if !changed.more {
///         break;
///     }
/// }
/// # Ok(()) }
/// ```
#[async_trait]
pub trait Changes: Debug + Send + Sync {
    /// The place from which a walk sees all that is acknowledged from now on.
    ///
    /// It sees nothing that was there before, but on Postgres what was committed while an older transaction was still at
    /// work: that may be seen once more.
    async fn now(&self) -> Result<ChangePosition>;

    /// The changes after a place; each slot as it holds now. A slot that changed again moved to the end.
    ///
    /// # Errors
    /// `InvalidInput` as [`ChangeQuery::check`] says; `Lagged` where slots after the place were pruned since the walk was
    /// there, so that what it would have seen is gone, and where the place is beyond all that the store has given, as after an
    /// older backup was restored: begin anew with a listing and [`now`](Self::now), or from the first slot, which never
    /// lags. `Unsupported` where the store, as it is now, has no such order.
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
    /// Most changes of the answer: 1 to 1,000, 1,000 unless set.
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

    /// At most this many changes.
    #[must_use]
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// Checks limit and cursor. Every backend calls this, with its own `instance_id`.
    ///
    /// # Errors
    /// `InvalidInput` as [`position`](Self::position), and for a place of another store.
    pub fn check(&self, instance_id: Uuid) -> Result<Option<ChangePosition>> {
        let position = self.position()?;
        if position.is_none_or(|position| position.store == instance_id) {
            return Ok(position);
        }
        Err(Error::invalid(
            "after",
            "this place among the changes belongs to another database",
        ))
    }

    /// The place, not yet held against a store: for backends that ask for identity and changes at once.
    ///
    /// # Errors
    /// `InvalidInput` for a limit outside 1–1,000, a damaged cursor, and one of a listing.
    pub fn position(&self) -> Result<Option<ChangePosition>> {
        limits::page(self.limit)?;
        match self.after.as_ref().map(Cursor::decode).transpose()? {
            None => Ok(None),
            Some(Position::Change(position)) => Ok(Some(position)),
            Some(_) => Err(cursor::foreign()),
        }
    }
}

/// A place among the changes of one store: after a change. Places of one store are ordered by their fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChangePosition {
    /// The store's `instance_id`.
    pub store: Uuid,
    /// The transaction, where a store has such an order (Postgres); else 0, and what was acknowledged is seen at once.
    pub transaction: u64,
    /// The number of the change.
    pub seq: Seq,
    /// How many prunes there had been when the walk was here: what went before that is not missed.
    pub prunes: u64,
}

impl ChangePosition {
    /// The text of this place, to go on there later.
    pub fn cursor(self) -> Cursor {
        Cursor::encode(&Position::Change(self))
    }

    /// Transaction and number: the order of the changes themselves.
    pub fn key(self) -> (u64, Seq) {
        (self.transaction, self.seq)
    }
}

/// A slot that was claimed or filled, with all that it holds now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Change {
    /// The slot.
    pub event: Event,
    /// After this change.
    pub position: ChangePosition,
}

impl Change {
    /// For backends.
    pub fn new(event: Event, position: ChangePosition) -> Self {
        Self { event, position }
    }

    /// From where a walk goes on after this change.
    pub fn cursor(&self) -> Cursor {
        self.position.cursor()
    }

    /// As it is printed: the columns of the slot, and the cursor.
    pub fn line(&self) -> impl Serialize + '_ {
        #[derive(Serialize)]
        struct Line<'a> {
            #[serde(flatten)]
            event: &'a Event,
            cursor: Cursor,
        }
        Line {
            event: &self.event,
            cursor: self.cursor(),
        }
    }
}

/// Some changes, and where to go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Changed {
    /// In their order.
    pub changes: Vec<Change>,
    /// After the last of them; where the walk stood, if there was none.
    pub next: ChangePosition,
    /// Whether more were to be had at once.
    pub more: bool,
}

impl Changed {
    /// The answer to who stood at `from`. For backends.
    pub fn new(changes: Vec<Change>, from: ChangePosition, more: bool) -> Self {
        let next = changes.last().map_or(from, |change| change.position);
        Self { changes, next, more }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    pub(super) const STORE: Uuid = Uuid::from_u128(7);

    pub(super) fn place(transaction: u64, seq: i64, prunes: u64) -> ChangePosition {
        ChangePosition {
            store: STORE,
            transaction,
            seq: Seq::new(seq),
            prunes,
        }
    }

    #[test]
    fn a_query_is_held_against_its_store() {
        let query = ChangeQuery::default().after(Some(place(1, 2, 3).cursor()));
        assert_eq!(query.check(STORE).unwrap(), Some(place(1, 2, 3)));
        let seq = Cursor::encode(&Position::EventSeq(STORE, 1));
        for (query, store) in [
            (query.clone(), Uuid::from_u128(8)),
            (query.clone().limit(0), STORE),
            (query.clone().limit(1_001), STORE),
            (query.clone().after(Some(seq)), STORE),
            (query.after(Some(Cursor::from_text("damaged"))), STORE),
        ] {
            assert_eq!(query.check(store).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }
}
