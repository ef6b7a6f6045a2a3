//! Who is alive, and what is left alone. The statements are core's.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use persist_core::sql::{self, Dialect, ORPHAN_COLUMNS, OWNER_COLUMNS, OWNERS};
use persist_core::{
    Deadlines, Error, ErrorKind, Heartbeat, Orphan, OrphanKind, OrphanQuery, Owner, Owners, Page, Rank,
    Result, Subject, Timestamp, time,
};
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use crate::error::Failed;
use crate::records;
use crate::row::{Columns, NO_TIME, NOT_OF_TYPE, state_of};
use crate::store::Store;
use crate::worker::Times;

/// The statements, spelled once.
static HEARTBEAT: LazyLock<String> = LazyLock::new(|| sql::heartbeat(Dialect::Sqlite, ""));
static LIST: LazyLock<String> = LazyLock::new(|| sql::owners(Dialect::Sqlite, ""));
static ORPHANS: LazyLock<String> = LazyLock::new(|| sql::orphans(Dialect::Sqlite, ""));

/// The power of a store.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) store: Arc<Store>,
    pub(crate) deadlines: Deadlines,
}

#[async_trait]
impl Owners for Keeper {
    async fn heartbeat(&self, beat: &Heartbeat) -> Result<Owner> {
        self.store.refuse_closed("heartbeat")?;
        let beat = beat.check().map_err(|error| error.during("heartbeat"))?;
        let times = Times::within(self.deadlines.write);
        let write = move |connection: &Connection| {
            heartbeat(connection, &beat).map_err(|failed| lacking(connection, failed))
        };
        self.store.write("heartbeat", times, write).await
    }

    async fn list(&self) -> Result<Vec<Owner>> {
        let read = |connection: &Connection| list(connection).map_err(|failed| lacking(connection, failed));
        self.store.read("owners", self.deadlines.read, read).await
    }

    async fn orphans(&self, query: &OrphanQuery) -> Result<Page<Orphan>> {
        let query = query.check();
        let read = move |connection: &Connection| {
            orphans(connection, &query?).map_err(|failed| lacking(connection, failed))
        };
        self.store.read("orphans", self.deadlines.read, read).await
    }
}

fn heartbeat(connection: &Connection, beat: &Heartbeat) -> Result<Owner, Failed> {
    let mut upsert = connection.prepare_cached(&HEARTBEAT)?;
    let good_for = micros(beat.valid_for);
    // Both were checked to fit.
    let mut rows = upsert.query(params![beat.actor, beat.epoch.cast_signed(), good_for])?;
    match rows.next()? {
        Some(row) => Ok(owner(row, 3)?),
        None => Err(beat.overtaken().into()),
    }
}

fn list(connection: &Connection) -> Result<Vec<Owner>, Failed> {
    let mut select = connection.prepare_cached(&LIST)?;
    let (mut rows, mut owners) = (select.query([])?, Vec::new());
    while let Some(row) = rows.next()? {
        owners.push(owner(row, OWNER_COLUMNS.len())?);
    }
    Ok(owners)
}

/// The owner of a row, whose column at `now` is the time.
fn owner(row: &Row<'_>, now: usize) -> Result<Owner> {
    let unreadable = |column: usize, why: &str| {
        let name = OWNER_COLUMNS.get(column).copied().unwrap_or("now");
        let what = format!("{OWNERS}.{name} of a row is {why}; the file is damaged or was edited");
        Error::new(ErrorKind::Corrupt, what).with("table", OWNERS)
    };
    let number = |column| {
        row.get::<_, i64>(column)
            .map_err(|_| unreadable(column, NOT_OF_TYPE))
    };
    let time = |column: usize| -> Result<Timestamp> {
        time::from_micros(number(column)?).ok_or_else(|| unreadable(column, NO_TIME))
    };
    Ok(Owner::new(
        row.get(0).map_err(|_| unreadable(0, NOT_OF_TYPE))?,
        u64::try_from(number(1)?).map_err(|_| unreadable(1, "negative"))?,
        time(2)?,
        time(3)?,
        time(4)?,
        time(now)?,
    ))
}

fn orphans(connection: &Connection, query: &OrphanQuery) -> Result<Page<Orphan>, Failed> {
    let after = query.position()?.unwrap_or(Subject::Job(Uuid::nil()));
    let [gone, without_job, without_vm] = OrphanKind::ALL.map(|kind| query.wants(&[kind]));
    let mut select = connection.prepare_cached(&ORPHANS)?;
    let mut rows = select.query(params![
        after.request_id().as_bytes(),
        after.domain_name(),
        query.actor,
        micros(query.grace),
        gone,
        without_job,
        without_vm,
        i64::from(query.limit) + 1,
    ])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        // One more than the page, which only tells that there is another.
        if items.len() >= query.limit as usize {
            let next = items.last().map(|orphan| query.cursor(orphan));
            return Ok(Page::new(items, next));
        }
        items.push(orphan(row)?);
    }
    Ok(Page::new(items, None))
}

fn orphan(row: &Row<'_>) -> Result<Orphan> {
    let columns = Columns::new("events", &ORPHAN_COLUMNS, row, 0)?;
    let subject = Subject::new(columns.id(), &columns.get::<String>(1)?);
    let table = if subject.is_vm() { "vms" } else { "jobs" };
    let word: String = columns.get(2)?;
    let state = state_of(table, &subject, word.as_str().into())?;
    let attempt = columns.rank(3).map(Rank::attempt)?;
    let kinds = OrphanKind::of([columns.get(6)?, columns.get(7)?, columns.get(8)?]);
    Ok(Orphan::new(
        subject,
        state,
        attempt,
        kinds,
        columns.get(4)?,
        columns.time(5)?,
    ))
}

/// As the database counts; at most a day, as was checked.
fn micros(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// The table comes with a migration that a store may lack: then that is what is wrong, and no bug.
fn lacking(connection: &Connection, failed: Failed) -> Failed {
    records::lacking(connection, failed, OWNERS, &OWNER_COLUMNS)
}
