//! Retention: what matches is found by reads; then, in one transaction that held the lock from its beginning, those of it that
//! still match go.

use std::time::{Duration, Instant};

use persist_core::sql::{self, Asked, Bound, Candidate, Dialect, EVENTS, JOBS, Search, VMS};
use persist_core::{Error, ErrorKind, Prune, PrunePosition, Pruned, Result as CoreResult, time};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, Statement, params_from_iter};
use uuid::Uuid;

use crate::error::Failed;
use crate::row::{NO_TIME, NOT_OF_TYPE, damaged};
use crate::space;
use crate::store::Store;
use crate::{ledger, records};

/// What a request means to remove, and where to go on. Each page is a read of its own, and none begins when the time of a search
/// is over: going on costs little, and the rest is that of the removal.
pub(crate) async fn find(
    store: &Store,
    request: &Prune,
    deadline: Duration,
) -> CoreResult<(Vec<Uuid>, Option<PrunePosition>)> {
    let begun = Instant::now();
    let mut search = Search::new(Dialect::Sqlite, "", request)?;
    while let Some(asked) = search.ask() {
        let left = deadline.saturating_sub(begun.elapsed());
        let read = move |connection: &Connection| {
            let mut select = connection.prepare_cached(&asked.sql)?;
            let mut rows = select.query(params_from_iter(asked.values.into_iter().map(bound)))?;
            let mut candidates = Vec::new();
            while let Some(row) = rows.next()? {
                candidates.push(candidate(row)?);
            }
            Ok(candidates)
        };
        match store.read("prune", left, read).await {
            Ok(page) => search.answer(page),
            // What was found until here is not thrown away for it.
            Err(error) if error.kind() == ErrorKind::Timeout && search.has_moved() => break,
            Err(error) => return Err(error),
        }
        if begun.elapsed() > sql::time_of_search(deadline) && search.has_moved() {
            break;
        }
    }
    Ok(search.found())
}

fn bound(value: Bound) -> Value {
    match value {
        Bound::Ids(ids) => {
            let ids: Vec<_> = ids.iter().map(|id| format!("\"{}\"", id.simple())).collect();
            Value::Text(format!("[{}]", ids.join(",")))
        }
        Bound::Id(id) => Value::Blob(id.as_bytes().to_vec()),
        Bound::Time(at) => Value::Integer(at.timestamp_micros()),
        Bound::Number(number) => Value::Integer(number),
        Bound::Text(text) => Value::Text(text),
    }
}

fn candidate(row: &Row<'_>) -> Result<Candidate, Failed> {
    let id: Option<Vec<u8>> = row.get(1)?;
    let id = id.map(|id| Uuid::from_slice(&id)).transpose();
    let id = id.map_err(|_| unreadable("request_id", Uuid::nil(), NOT_OF_TYPE))?;
    let at: Option<i64> = row.get(0)?;
    let created_at = at
        .map(|at| {
            let damaged = || unreadable("created_at", id.unwrap_or_default(), NO_TIME);
            time::from_micros(at).ok_or_else(damaged)
        })
        .transpose()?;
    Ok(Candidate {
        created_at,
        request_id: id,
        matches: row.get::<_, Option<bool>>(2)?.unwrap_or(false),
        repo_url: row.get(3)?,
    })
}

fn unreadable(column: &str, id: Uuid, why: &str) -> Error {
    damaged(JOBS.name, column, id, why)
}

/// Removes those of these ids that still match, in the transaction that the connection is in, and tells how many pages that
/// freed.
pub(crate) fn remove(
    connection: &Connection,
    request: &Prune,
    ids: &[Uuid],
) -> Result<(Pruned, u32), Failed> {
    let free = space::free_pages(connection)?;
    let Asked { sql, values } = sql::still_matching(Dialect::Sqlite, "", request, ids);
    let mut select = connection.prepare_cached(&sql)?;
    let victims = select
        .query_map(params_from_iter(values.into_iter().map(bound)), |row| row.get(0))?
        .collect::<Result<Vec<Vec<u8>>, _>>()?;
    let mut last = None;
    let mut latest =
        connection.prepare_cached(&format!("SELECT max(seq) FROM {EVENTS} WHERE request_id = ?1"))?;
    for id in &victims {
        last = last.max(latest.query_row([id], |row| row.get::<_, Option<i64>>(0))?);
    }
    let pruned = of_tables(connection, &victims, "DELETE FROM", |statement, id| {
        statement.execute([id]).map(|rows| rows as u64)
    })?;
    ledger::forget(connection, &victims)?;
    if let Some(last) = last {
        records::raise_horizon(connection, last)?;
    }
    Ok((pruned, space::free_pages(connection)?.saturating_sub(free)))
}

/// Counts what these ids are, in one snapshot.
pub(crate) fn count(connection: &Connection, ids: &[Uuid]) -> Result<Pruned, Failed> {
    let snapshot = connection.unchecked_transaction()?;
    let ids: Vec<_> = ids.iter().map(|id| id.as_bytes().to_vec()).collect();
    of_tables(&snapshot, &ids, "SELECT count(*) FROM", |statement, id| {
        statement.query_row([id], |row| row.get::<_, i64>(0).map(i64::unsigned_abs))
    })
}

fn of_tables(
    connection: &Connection,
    ids: &[Vec<u8>],
    verb: &str,
    rows: impl Fn(&mut Statement<'_>, &[u8]) -> rusqlite::Result<u64>,
) -> Result<Pruned, Failed> {
    let mut pruned = Pruned::new(ids.len() as u64, 0, 0, 0, false);
    for (table, sum) in [
        (JOBS.name, &mut pruned.jobs),
        (VMS.name, &mut pruned.vms),
        (EVENTS, &mut pruned.events),
    ] {
        let mut statement = connection.prepare_cached(&format!("{verb} {table} WHERE request_id = ?1"))?;
        for id in ids {
            *sum += rows(&mut statement, id)?;
        }
    }
    Ok(pruned)
}
