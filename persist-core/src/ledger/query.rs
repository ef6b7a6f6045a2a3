//! The question for refusals.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Refusal;
use crate::attempt::Rank;
use crate::cursor::{self, Cursor, Position};
use crate::error::Result;
use crate::limits;
use crate::state::State;
use crate::subject::Subject;
use crate::time::Timestamp;

/// Which refusals, those that were tried last first; of one time by their key, backwards.
///
/// A walk sees every one that was there throughout and was not tried again meanwhile exactly once.
///
/// ```
/// use persist_core::RefusalQuery;
/// let of_one = RefusalQuery::default().request_id(uuid::Uuid::from_u128(7)).limit(10);
/// # assert!(of_one.check().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct RefusalQuery {
    /// Only of this job and its VMs.
    pub request_id: Option<Uuid>,
    /// Continue after this cursor.
    pub after: Option<Cursor>,
    /// Rows of the page: 1 to 1,000, 50 unless set.
    pub limit: u32,
}

impl Default for RefusalQuery {
    fn default() -> Self {
        Self {
            request_id: None,
            after: None,
            limit: limits::PAGE,
        }
    }
}

/// Where a page begins: behind the refusal that was last tried at this time, of this subject, rank and state.
pub type RefusalPosition = (Timestamp, Subject, Rank, State);

impl RefusalQuery {
    /// Only of this job and its VMs.
    #[must_use]
    pub fn request_id(mut self, request_id: Uuid) -> Self {
        self.request_id = Some(request_id);
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

    /// Checks limit and cursor, and returns where the page begins. Every backend calls this first.
    ///
    /// # Errors
    /// `InvalidInput` for a limit outside 1–1,000, a damaged cursor, and one of another listing.
    pub fn check(&self) -> Result<Option<RefusalPosition>> {
        limits::page(self.limit)?;
        match self.after.as_ref().map(Cursor::decode).transpose()? {
            None => Ok(None),
            Some(Position::Refusal(at, id, name, rank, state)) => {
                let subject = Subject::new(id, &name);
                let rank = Rank::from_i64(rank).ok_or_else(cursor::foreign)?;
                let state = State::from_name(subject.is_vm(), &state).ok_or_else(cursor::foreign)?;
                Ok(Some((at, subject, rank, state)))
            }
            Some(_) => Err(cursor::foreign()),
        }
    }

    /// The cursor after this refusal.
    pub fn cursor(&self, refusal: &Refusal) -> Cursor {
        let (subject, rank, state) = refusal.key();
        let (id, name) = subject.key();
        let (name, state) = (name.to_owned(), state.to_owned());
        Cursor::encode(&Position::Refusal(refusal.last_at, id, name, rank, state))
    }
}
