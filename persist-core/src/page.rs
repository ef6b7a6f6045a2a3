//! Pages and the ranges that queries take.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::time::{self, Timestamp};

/// Some rows, and where the next ones begin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Page<T> {
    /// At most the query's limit.
    pub items: Vec<T>,
    /// The cursor for the next page; `None` when nothing follows.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// A page.
    pub fn new(items: Vec<T>, next: Option<Cursor>) -> Self {
        Self { items, next }
    }

    /// The page of rows that were read one beyond `limit`, so that it is known whether more follow.
    pub fn from_overread(mut items: Vec<T>, limit: u32, cursor: impl FnOnce(&T) -> Cursor) -> Self {
        let limit = limit as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(cursor) } else { None };
        Self { items, next }
    }
}

/// The order of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// By (`created_at`, key), the latest first.
    #[default]
    NewestFirst,
    /// By (`created_at`, key), the earliest first.
    OldestFirst,
    /// By key: stable while anything is written.
    ById,
}

/// A half-open range of times: from, inclusive, until, exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TimeRange {
    /// The earliest time of the range.
    #[serde(with = "time::rfc3339::option", default)]
    pub from: Option<Timestamp>,
    /// The first time after the range.
    #[serde(with = "time::rfc3339::option", default)]
    pub until: Option<Timestamp>,
}

impl TimeRange {
    /// A range; `None` leaves a side open.
    pub fn new(from: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        Self { from, until }
    }

    /// Whether `at` lies in it.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= at) && self.until.is_none_or(|until| at < until)
    }

    pub(crate) fn check(self) -> Result<Self> {
        // Cut as stored times are: rows hold microseconds, and a bound between two of them means the lower.
        let cut = |at: Option<Timestamp>| at.map(|at| time::normalize("created", at)).transpose();
        let range = Self {
            from: cut(self.from)?,
            until: cut(self.until)?,
        };
        match (range.from, range.until) {
            (Some(from), Some(until)) if until < from => {
                Err(Error::invalid("created", "the range ends before it begins"))
            }
            _ => Ok(range),
        }
    }
}

/// A closed range of ids in byte order: both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IdRange {
    /// The lowest id of the range.
    pub from: Option<Uuid>,
    /// The highest id of the range.
    pub to: Option<Uuid>,
}

impl IdRange {
    /// A range; `None` leaves a side open.
    pub fn new(from: Option<Uuid>, to: Option<Uuid>) -> Self {
        Self { from, to }
    }

    /// All ids that begin with these hex digits; hyphens are skipped, so a beginning of the usual form does.
    ///
    /// # Errors
    /// `InvalidInput` for no digit, more than 32, or another character.
    pub fn of_prefix(prefix: &str) -> Result<Self> {
        let digits: String = prefix.chars().filter(|c| *c != '-').collect();
        if digits.is_empty() || digits.len() > 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::invalid(
                "request_id",
                "must be a UUID or its first 1 to 32 hex digits",
            ));
        }
        let bound = |fill: char| {
            let full: String = digits.chars().chain(std::iter::repeat(fill)).take(32).collect();
            Uuid::try_parse(&full).expect("32 hex digits")
        };
        Ok(Self {
            from: Some(bound('0')),
            to: Some(bound('f')),
        })
    }

    /// Whether `id` lies in it.
    pub fn contains(&self, id: Uuid) -> bool {
        self.from.is_none_or(|from| from <= id) && self.to.is_none_or(|to| id <= to)
    }
}
