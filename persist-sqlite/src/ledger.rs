//! What was refused. The statements are core's.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use persist_core::sql::{self, Dialect, REFUSAL_COLUMNS, REFUSALS};
use persist_core::{
    CHUNK, Deadlines, Ledger, Page, Refusal, RefusalPosition, RefusalQuery, Result, Subject, Tried, jsonl,
};
use rusqlite::{Connection, Row, params};

use crate::error::Failed;
use crate::records;
use crate::row::{Columns, damaged};
use crate::store::Store;
use crate::worker::Times;

/// The statements, spelled once.
static KEEP: LazyLock<String> = LazyLock::new(|| sql::keep(Dialect::Sqlite, ""));
static ALL: LazyLock<String> = LazyLock::new(|| sql::refusals(Dialect::Sqlite, "", false));
static OF_ONE: LazyLock<String> = LazyLock::new(|| sql::refusals(Dialect::Sqlite, "", true));
static FORGET: LazyLock<String> = LazyLock::new(|| sql::forget_refusals(Dialect::Sqlite, ""));

/// The refusals of a store.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) store: Arc<Store>,
    pub(crate) deadlines: Deadlines,
}

#[async_trait]
impl Ledger for Refused {
    async fn keep(&self, tried: &[Tried]) -> Result<()> {
        self.store.refuse_closed("keep")?;
        let tried = Tried::merged(tried);
        for (number, some) in tried.chunks(CHUNK).enumerate() {
            let some = some.to_vec();
            let times = Times::within(self.deadlines.write);
            let write = move |connection: &Connection| {
                keep(connection, &some).map_err(|failed| lacking(connection, failed))
            };
            let kept = self.store.write("keep", times, write).await;
            kept.map_err(|error| error.of_chunk(number))?;
        }
        Ok(())
    }

    async fn refusals(&self, query: &RefusalQuery) -> Result<Page<Refusal>> {
        let (query, after) = (query.clone(), query.check());
        let read = move |connection: &Connection| {
            page(connection, &query, after?).map_err(|failed| lacking(connection, failed))
        };
        self.store.read("refusals", self.deadlines.read, read).await
    }
}

fn keep(connection: &Connection, tried: &[Tried]) -> Result<(), Failed> {
    let mut upsert = connection.prepare_cached(&KEEP)?;
    for one in tried {
        let (subject, rank, state) = one.key();
        upsert.execute(params![
            subject.request_id().as_bytes(),
            subject.domain_name(),
            rank,
            state,
            one.standing.name(),
            jsonl::claim_line(&one.claim),
            one.tries,
        ])?;
    }
    Ok(())
}

fn page(
    connection: &Connection,
    query: &RefusalQuery,
    after: Option<RefusalPosition>,
) -> Result<Page<Refusal>, Failed> {
    // Without a place to begin: later than any.
    let (at, subject, rank, state) = after.map_or_else(
        || (i64::MAX, None, i64::MAX, ""),
        |(at, subject, rank, state)| (at.timestamp_micros(), Some(subject), rank.get(), state.name()),
    );
    let (id, name) = subject.as_ref().map(Subject::key).unwrap_or_default();
    let sql = if query.request_id.is_some() { &OF_ONE } else { &ALL };
    let mut select = connection.prepare_cached(sql)?;
    let bound = params![at, id.as_bytes(), name, rank, state, i64::from(query.limit) + 1];
    for (number, value) in (1..).zip(bound) {
        select.raw_bind_parameter(number, value)?;
    }
    if let Some(of_one) = query.request_id {
        select.raw_bind_parameter(7, of_one.as_bytes())?;
    }
    let (mut rows, mut found) = (select.raw_query(), Vec::new());
    while let Some(row) = rows.next()? {
        // One more than the page, which only tells that there is another.
        if found.len() >= query.limit as usize {
            let next = found.last().map(|refusal| query.cursor(refusal));
            return Ok(Page::new(found, next));
        }
        found.push(refusal(row)?);
    }
    Ok(Page::new(found, None))
}

fn refusal(row: &Row<'_>) -> Result<Refusal> {
    let columns = Columns::new(REFUSALS, &REFUSAL_COLUMNS, row, 0)?;
    let subject = Subject::new(columns.id(), &columns.get::<String>(1)?);
    let (standing, tried): (String, String) = (columns.get(4)?, columns.get(5)?);
    let (claim, standing) = Refusal::read(&subject, &tried, &standing)?;
    let tries: i64 = columns.get(6)?;
    let tries = u64::try_from(tries).map_err(|_| damaged(REFUSALS, "tries", columns.id(), "negative"))?;
    let (first_at, last_at) = (columns.time(7)?, columns.time(8)?);
    Ok(Refusal::new(claim, standing, tries, first_at, last_at))
}

/// Forgets those of ids, in the transaction that the connection is in; of a store that has the table.
pub(crate) fn forget(connection: &Connection, ids: &[Vec<u8>]) -> Result<(), Failed> {
    if !records::missing_of(connection, REFUSALS, &REFUSAL_COLUMNS)?.is_empty() {
        return Ok(());
    }
    let mut delete = connection.prepare_cached(&FORGET)?;
    for id in ids {
        delete.execute([id])?;
    }
    Ok(())
}

/// The table comes with a migration that a store may lack: then that is what is wrong, and no bug.
fn lacking(connection: &Connection, failed: Failed) -> Failed {
    records::lacking(connection, failed, REFUSALS, &REFUSAL_COLUMNS)
}
