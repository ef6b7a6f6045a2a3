//! What the file holds: its tables, and the statements on them.

use persist_core::{Entry, Error, ErrorKind, OutboxStatus, Result, Retry, Timestamp, time};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};
use uuid::Uuid;

use crate::connection::{Holds, check_owner};
use crate::error::Failed;

/// Raised when a file can't be read any more by the programs before it.
const FORMAT: i64 = 1;
/// What an entry takes beside its line, in bytes: its other columns, and its share of the pages.
pub(super) const OVERHEAD: u64 = 64;

const TABLES: &str = "\
    CREATE TABLE meta (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, claim TEXT NOT NULL, created_at INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0, last_error TEXT) STRICT;
    CREATE TABLE dead (seq INTEGER PRIMARY KEY, claim TEXT NOT NULL, created_at INTEGER NOT NULL,
        attempts INTEGER NOT NULL, last_error TEXT) STRICT;";

pub(super) const WAITING: &str = "SELECT seq, claim, created_at, attempts, last_error FROM outbox \
     WHERE seq > :after ORDER BY seq LIMIT :limit";
pub(super) const DEAD: &str = "SELECT seq, claim, created_at, attempts, last_error FROM dead \
     WHERE seq > :after ORDER BY seq LIMIT :limit";

/// What a transaction has changed of the counts.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// Entries that don't wait any more.
    pub(super) left: u64,
    /// Those of them that were put aside.
    pub(super) died: u64,
    pub(super) discarded: u64,
    pub(super) freed: u64,
    /// Since when the oldest waits; where that may have changed.
    pub(super) oldest: Option<Option<Timestamp>>,
    pub(super) bound_to: Option<Uuid>,
}

/// Makes the tables in a new file, and checks those of an old one.
///
/// # Errors
/// `SchemaMismatch` for another program's file, and for one that a newer persist wrote.
pub(super) fn prepare(connection: &Connection) -> Result<OutboxStatus, Failed> {
    check_owner(connection, Holds::Outbox)?;
    if !is_made(connection)? {
        connection.pragma_update(None, "application_id", Holds::Outbox.application_id())?;
        connection.execute_batch(TABLES)?;
        set_meta(connection, "format", &FORMAT.to_string())?;
    }
    examine(connection)
}

/// Checks the file and counts what it holds. A new file holds nothing.
///
/// # Errors
/// As [`prepare`].
pub(super) fn examine(connection: &Connection) -> Result<OutboxStatus, Failed> {
    let mut status = OutboxStatus::default();
    if !is_made(connection)? {
        return Ok(status);
    }
    let format = meta(connection, "format")?.and_then(|text| text.parse::<i64>().ok());
    match format {
        Some(1..=FORMAT) => {}
        Some(newer) => {
            let what = format!(
                "a newer persist wrote this spool, in format {newer}, and this one reads up to {FORMAT}; \
                 use that one, or a newer"
            );
            return Err(Error::new(ErrorKind::SchemaMismatch, what).into());
        }
        None => return Err(damaged().into()),
    }
    let counted = "SELECT count(*), coalesce(sum(length(CAST(claim AS BLOB))), 0) FROM";
    for (table, count) in [("outbox", &mut status.waiting), ("dead", &mut status.dead)] {
        let (entries, bytes) = connection.query_row(&format!("{counted} {table}"), [], |row| {
            Ok((
                row.get::<_, i64>(0)?.unsigned_abs(),
                row.get::<_, i64>(1)?.unsigned_abs(),
            ))
        })?;
        *count = entries;
        status.bytes += bytes + entries * OVERHEAD;
    }
    status.oldest = oldest(connection)?;
    status.bound_to = bound_to(connection)?;
    Ok(status)
}

fn is_made(connection: &Connection) -> Result<bool, Failed> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'meta')";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

fn damaged() -> Error {
    let what = "the spool holds what persist did not write; it was left as it is: keep a copy";
    Error::new(ErrorKind::Corrupt, what)
}

fn meta(connection: &Connection, key: &str) -> Result<Option<String>, Failed> {
    let mut select = connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    Ok(select.query_row([key], |row| row.get(0)).optional()?)
}

fn set_meta(connection: &Connection, key: &str, value: &str) -> Result<(), Failed> {
    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    connection.prepare_cached(sql)?.execute([key, value])?;
    Ok(())
}

fn bound_to(connection: &Connection) -> Result<Option<Uuid>, Failed> {
    let Some(text) = meta(connection, "instance_id")? else {
        return Ok(None);
    };
    Ok(Some(text.parse().map_err(|_| damaged())?))
}

fn oldest(connection: &Connection) -> Result<Option<Timestamp>, Failed> {
    let sql = "SELECT created_at FROM outbox ORDER BY seq LIMIT 1";
    let mut select = connection.prepare_cached(sql)?;
    let micros = select.query_row([], |row| row.get(0)).optional()?;
    Ok(micros
        .map(|micros| time::from_micros(micros).ok_or_else(damaged))
        .transpose()?)
}

pub(super) fn add(connection: &Connection, lines: &[String], at: Timestamp) -> Result<(), Failed> {
    let mut insert = connection.prepare_cached("INSERT INTO outbox (claim, created_at) VALUES (?1, ?2)")?;
    for line in lines {
        insert.execute((line, at.timestamp_micros()))?;
    }
    Ok(())
}

pub(super) fn entries(
    connection: &Connection,
    select: &str,
    after: u64,
    limit: u32,
) -> Result<Vec<Entry>, Failed> {
    if !is_made(connection)? {
        return Ok(Vec::new());
    }
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let mut select = connection.prepare_cached(select)?;
    let rows = select.query_and_then(named_params! { ":after": after, ":limit": limit }, entry)?;
    rows.collect()
}

fn entry(row: &Row<'_>) -> Result<Entry, Failed> {
    let created_at = time::from_micros(row.get("created_at")?).ok_or_else(damaged)?;
    let mut entry = Entry::new(
        row.get::<_, i64>("seq")?.unsigned_abs(),
        row.get("claim")?,
        created_at,
    );
    entry.attempts = row.get("attempts")?;
    entry.last_error = row.get("last_error")?;
    Ok(entry)
}

pub(super) fn remove(connection: &Connection, entries: &[u64]) -> Result<Change, Failed> {
    let sql = "DELETE FROM outbox WHERE seq = ?1 RETURNING length(CAST(claim AS BLOB))";
    let mut delete = connection.prepare_cached(sql)?;
    let mut change = Change::default();
    for entry in entries {
        let bytes: Option<i64> = delete
            .query_row([entry.cast_signed()], |row| row.get(0))
            .optional()?;
        if let Some(bytes) = bytes {
            change.left += 1;
            change.freed += bytes.unsigned_abs() + OVERHEAD;
        }
    }
    change.oldest = Some(oldest(connection)?);
    Ok(change)
}

pub(super) fn note(connection: &Connection, entries: &[u64], error: &str) -> Result<(), Failed> {
    let sql = "UPDATE outbox SET attempts = min(attempts + 1, 4294967295), last_error = ?2 WHERE seq = ?1";
    let mut update = connection.prepare_cached(sql)?;
    for entry in entries {
        update.execute((entry.cast_signed(), error))?;
    }
    Ok(())
}

pub(super) fn bury(connection: &Connection, entry: u64, error: &str) -> Result<Change, Failed> {
    let sql = "INSERT INTO dead (seq, claim, created_at, attempts, last_error) \
               SELECT seq, claim, created_at, min(attempts + 1, 4294967295), ?2 FROM outbox WHERE seq = ?1";
    let died = connection
        .prepare_cached(sql)?
        .execute((entry.cast_signed(), error))? as u64;
    let sql = "DELETE FROM outbox WHERE seq = ?1";
    connection.prepare_cached(sql)?.execute([entry.cast_signed()])?;
    Ok(Change {
        left: died,
        died,
        oldest: Some(oldest(connection)?),
        ..Change::default()
    })
}

pub(super) fn discard_dead(connection: &Connection) -> Result<(u64, Change), Failed> {
    let sql = "SELECT coalesce(sum(length(CAST(claim AS BLOB))), 0) FROM dead";
    let bytes: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    let discarded = connection.execute("DELETE FROM dead", [])? as u64;
    let change = Change {
        discarded,
        freed: bytes.unsigned_abs() + discarded * OVERHEAD,
        ..Change::default()
    };
    Ok((discarded, change))
}

/// Binds it to a store, unless something waits for another one.
///
/// # Errors
/// `Unavailable` then.
pub(super) fn bind(connection: &Connection, store: Uuid) -> Result<Change, Failed> {
    let before = bound_to(connection)?;
    if let Some(before) = before.filter(|before| *before != store) {
        let waits: bool =
            connection.query_row("SELECT EXISTS (SELECT 1 FROM outbox)", [], |row| row.get(0))?;
        if waits {
            let what = format!(
                "another database answers, store {store}: what waits in the spool belongs to store {before} and \
                 stays there; lead the URL back to that one, or see persist spool --help"
            );
            return Err(Error::new(ErrorKind::Unavailable, what)
                .retry_as(Retry::Later)
                .with("bound_to", before)
                .with("instance_id", store)
                .into());
        }
    }
    set_meta(connection, "instance_id", &store.to_string())?;
    Ok(Change {
        bound_to: Some(store),
        ..Change::default()
    })
}
