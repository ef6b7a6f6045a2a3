//! Rows as the driver hands them over. Errors name table, column and row, never more of a value than helps to
//! find it.

use persist_core::{Cursor, Error, ErrorKind, Page, Rank, Result, State, Subject, Timestamp, time};
use rusqlite::Row;
use rusqlite::types::{FromSql, ValueRef};
use uuid::Uuid;

use crate::bind::Select;
use crate::error::Failed;

/// Why a value can't be ours.
pub(crate) const NO_TIME: &str = "outside of the years 1970 to 9999";
pub(crate) const NO_RANK: &str = "no rank of any slot";
pub(crate) const NOT_OF_TYPE: &str = "not of its type";
const LONGEST_SHOWN: usize = 32;

/// A row of a table, with the names of the columns that were selected.
pub(crate) struct Columns<'r> {
    table: &'static str,
    names: &'static [&'static str],
    row: &'r Row<'r>,
    id: Uuid,
}

impl<'r> Columns<'r> {
    /// The row, whose column at `id` is the request id.
    pub(crate) fn new(
        table: &'static str,
        names: &'static [&'static str],
        row: &'r Row<'r>,
        id: usize,
    ) -> Result<Self> {
        let bytes = row.get_ref(id).ok().and_then(|value| value.as_blob().ok());
        let id = bytes
            .and_then(|bytes| Uuid::from_slice(bytes).ok())
            .ok_or_else(|| {
                let what =
                    format!("{table}.request_id of a row is not 16 bytes; the file is damaged or was edited");
                Error::new(ErrorKind::Corrupt, what).with("table", table)
            })?;
        Ok(Self {
            table,
            names,
            row,
            id,
        })
    }

    /// The request id.
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    /// The value of a column.
    pub(crate) fn get<T: FromSql>(&self, column: usize) -> Result<T> {
        self.row
            .get(column)
            .map_err(|_| self.unreadable(column, NOT_OF_TYPE))
    }

    /// The time that a column holds.
    pub(crate) fn time(&self, column: usize) -> Result<Timestamp> {
        time::from_micros(self.get(column)?).ok_or_else(|| self.unreadable(column, NO_TIME))
    }

    /// The rank that a column holds.
    pub(crate) fn rank(&self, column: usize) -> Result<Rank> {
        Rank::from_i64(self.get(column)?).ok_or_else(|| self.unreadable(column, NO_RANK))
    }

    /// What a column's word means to `known`.
    pub(crate) fn state<S>(&self, column: usize, known: impl FnOnce(&str) -> Option<S>) -> Result<S> {
        let word: String = self.get(column)?;
        known(&word).ok_or_else(|| unknown(self.table, "state", self.id, &word))
    }

    fn unreadable(&self, column: usize, why: &str) -> Error {
        let name = self.names.get(column).copied().unwrap_or("?");
        damaged(self.table, name, self.id, why)
    }
}

/// A value that we never write.
pub(crate) fn damaged(table: &'static str, column: &str, id: Uuid, why: &str) -> Error {
    let what = format!("{table}.{column} of {id} is {why}; the file is damaged or was edited");
    Error::new(ErrorKind::Corrupt, what)
        .with("table", table)
        .with("request_id", id)
}

/// The state that a word of a subject's table means.
pub(crate) fn state_of(table: &'static str, subject: &Subject, word: ValueRef<'_>) -> Result<State> {
    let word = word.as_str().unwrap_or_default();
    State::from_name(subject.is_vm(), word).ok_or_else(|| unknown(table, "state", subject.request_id(), word))
}

/// The page of a statement that reads one row beyond `limit`. That row only tells whether more follow: it is
/// another page's to read, and to fail on.
pub(crate) fn page<T>(
    select: &mut Select<'_>,
    limit: u32,
    decode: impl Fn(&Row<'_>) -> Result<T>,
    cursor: impl FnOnce(&T) -> Cursor,
) -> Result<Page<T>, Failed> {
    let (mut rows, mut items) = (select.rows()?, Vec::new());
    while let Some(row) = rows.next()? {
        if items.len() >= limit as usize {
            let next = items.last().map(cursor);
            return Ok(Page::new(items, next));
        }
        items.push(decode(row)?);
    }
    Ok(Page::new(items, None))
}

/// A word that this program's state table does not have: written by a newer one, or by hand.
pub(crate) fn unknown(table: &'static str, column: &'static str, id: Uuid, value: &str) -> Error {
    let mut shown: String = value
        .chars()
        .take(LONGEST_SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if value.chars().nth(LONGEST_SHOWN).is_some() {
        shown.push('…');
    }
    let what =
        format!("{table}.{column} of {id} is \"{shown}\", which this program does not know; upgrade it");
    Error::new(ErrorKind::SchemaMismatch, what)
        .with("table", table)
        .with("request_id", id)
}
