//! Errors of rows that this program can't read: they name table, column and row, never more of a value than
//! helps to find it.

use persist_core::{Cursor, Error, ErrorKind, Page, Rank, Result};
use sqlx::postgres::PgRow;
use sqlx::{Decode, Postgres, Row as _, Type};
use uuid::Uuid;

const LONGEST_SHOWN: usize = 32;

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

/// The rank that a column holds.
pub(crate) fn rank(table: &'static str, id: Uuid, rank: i64) -> Result<Rank> {
    Rank::from_i64(rank).ok_or_else(|| {
        let what = format!("{table}.rank of {id} is {rank}, which no slot can have");
        Error::new(ErrorKind::SchemaMismatch, what)
            .with("table", table)
            .with("request_id", id)
    })
}

/// A row whose columns are of other types.
pub(crate) fn undecodable(table: &'static str) -> Error {
    let what =
        format!("table {table} has columns of other types than this program; run persist migrate status");
    Error::new(ErrorKind::SchemaMismatch, what).with("table", table)
}

/// The value of a column.
pub(crate) fn value<'r, T: Decode<'r, Postgres> + Type<Postgres>>(
    table: &'static str,
    row: &'r PgRow,
    column: usize,
) -> Result<T> {
    row.try_get(column).map_err(|_| undecodable(table))
}

/// The page of a statement that reads one row beyond `limit`. That row only tells whether more follow: it is
/// another page's to read, and to fail on.
pub(crate) fn page<T>(
    rows: Vec<PgRow>,
    limit: u32,
    decode: impl Fn(PgRow) -> Result<T>,
    cursor: impl FnOnce(&T) -> Cursor,
) -> Result<Page<T>> {
    let limit = limit as usize;
    let more = rows.len() > limit;
    let items = rows
        .into_iter()
        .take(limit)
        .map(decode)
        .collect::<Result<Vec<_>>>()?;
    let next = if more { items.last().map(cursor) } else { None };
    Ok(Page::new(items, next))
}
