//! The changes, by transaction: all that are older than the oldest which still runs have ended, so that nothing appears
//! among them any more.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use persist_core::sql::{EVENT_COLUMNS, EVENTS};
use persist_core::{
    Bell, Change, ChangePosition, ChangeQuery, Changed, Changes, Error, ErrorKind, Horizon, Result, Seq,
};
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, PgRow};
use uuid::Uuid;

use crate::bind::add;
use crate::connection::{Pool, Scope};
use crate::error::{Phase, classify};
use crate::session::Session;
use crate::{event, row};

/// Where in a row of the answer the event begins.
const EVENT: usize = 3;

/// The [`Changes`] of a Postgres store.
#[derive(Debug)]
pub(crate) struct Watched {
    pool: Arc<Pool>,
    deadline: Duration,
    /// Rung after each flush of this handle.
    pub(crate) bell: Arc<Bell>,
    able: Arc<str>,
    now: Arc<str>,
    since: Arc<str>,
    /// Set once it is known that the store can be watched.
    is_able: OnceLock<()>,
}

impl Watched {
    /// `prefix` is the schema with its dot, or nothing.
    pub(crate) fn new(pool: &Arc<Pool>, prefix: &str, deadline: Duration) -> Self {
        Self {
            pool: Arc::clone(pool),
            deadline,
            bell: Arc::default(),
            able: able_sql(prefix).into(),
            now: format!(
                "SELECT pg_snapshot_xmin(pg_current_snapshot())::text, {}, {}",
                meta(prefix, "pruned_to"),
                meta(prefix, "instance_id")
            )
            .into(),
            since: since_sql(prefix).into(),
            is_able: OnceLock::new(),
        }
    }

    /// # Errors
    /// `Unsupported` and `SchemaMismatch` for a store that can't be watched.
    async fn able(&self, operation: &'static str) -> Result<()> {
        // After close that is all there is to say.
        self.pool
            .refuse_closed()
            .map_err(|error| error.during(operation))?;
        if self.is_able.get().is_some() {
            return Ok(());
        }
        let sql = Arc::clone(&self.able);
        let asked = self
            .pool
            .run(operation, self.deadline, Scope::Single, move |session| {
                let sql = Arc::clone(&sql);
                Box::pin(async move { able(session, sql).await })
            });
        asked.await?;
        self.is_able.get_or_init(|| ());
        Ok(())
    }
}

#[async_trait]
impl Changes for Watched {
    async fn now(&self) -> Result<ChangePosition> {
        self.able("now").await?;
        let sql = Arc::clone(&self.now);
        let asked = self
            .pool
            .run("now", self.deadline, Scope::Single, move |session| {
                let sql = Arc::clone(&sql);
                Box::pin(async move { now(session, sql).await })
            });
        asked.await
    }

    async fn since(&self, query: &ChangeQuery) -> Result<Changed> {
        self.able("changes").await?;
        query.position().map_err(|error| error.during("changes"))?;
        let (sql, query) = (Arc::clone(&self.since), query.clone());
        let read = self
            .pool
            .run("changes", self.deadline, Scope::Single, move |session| {
                let (sql, query) = (Arc::clone(&sql), query.clone());
                Box::pin(async move { since(session, sql, &query).await })
            });
        read.await
    }

    /// Of what this handle has committed; of others nothing is known.
    async fn hint(&self) {
        self.bell.rung().await;
    }
}

/// The statement that reads changes, on the tables of the search path: for `EXPLAIN`. Its parameters are the transaction as a
/// text, the number, and the most rows.
pub fn watching_statement() -> String {
    since_sql("")
}

/// The identity is read each time: another store may take the place of this one under an open handle.
fn meta(prefix: &str, key: &str) -> String {
    format!("(SELECT value FROM {prefix}persist_meta WHERE key = '{key}')")
}

/// Whether the nodes of Citus each count transactions of their own, and whether there is an index that gives the order, by
/// whatever name: without it each look would sort the whole history. An index whose making failed is there and of no use.
fn able_sql(prefix: &str) -> String {
    format!(
        "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus'), \
         EXISTS (SELECT FROM pg_index WHERE indrelid = to_regclass('{prefix}{EVENTS}') AND indisvalid AND indisready \
         AND indpred IS NULL AND pg_get_indexdef(indexrelid, 1, true) = 'xid' \
         AND pg_get_indexdef(indexrelid, 2, true) = 'seq')"
    )
}

/// One row with what was pruned and whose store it is, and one for each change that is there, in one snapshot: the one whose
/// oldest transaction is asked for.
fn since_sql(prefix: &str) -> String {
    format!(
        "SELECT pg_snapshot_xmax(pg_current_snapshot())::text, {}, {}{} UNION ALL \
         (SELECT xid::text, NULL, NULL, {} FROM {prefix}{EVENTS} \
         WHERE xid < pg_snapshot_xmin(pg_current_snapshot()) AND (xid, seq) > ($1::text::xid8, $2::bigint) \
         ORDER BY {EVENTS}.xid, seq LIMIT $3::bigint)",
        meta(prefix, "pruned_to"),
        meta(prefix, "instance_id"),
        ", NULL".repeat(EVENT_COLUMNS.len()),
        EVENT_COLUMNS.join(", ")
    )
}

async fn able(session: &mut Session, sql: Arc<str>) -> Result<()> {
    let rows = session.rows(sql, PgArguments::default()).await?;
    let row = rows.first().ok_or_else(silent)?;
    if get::<bool>(row, 0)? {
        let what = "Citus has no order of changes over its nodes: this store can't be watched";
        return Err(Error::new(ErrorKind::Unsupported, what));
    }
    if !get::<bool>(row, 1)? {
        let what = "events has no valid index by (xid, seq), without which each look at the changes would read all of the \
                    history; run persist migrate up, or bring back the index events_xid";
        return Err(Error::new(ErrorKind::SchemaMismatch, what));
    }
    Ok(())
}

/// Before the oldest transaction that still runs: whatever commits from now on is of that or of a later one.
async fn now(session: &mut Session, sql: Arc<str>) -> Result<ChangePosition> {
    let rows = session.rows(sql, PgArguments::default()).await?;
    let row = rows.first().ok_or_else(silent)?;
    Ok(ChangePosition {
        store: store(row, 2)?,
        transaction: transaction(row, 0)?.saturating_sub(1),
        seq: Seq::new(i64::MAX),
        prunes: horizon(row, 1)?.prunes,
    })
}

async fn since(session: &mut Session, sql: Arc<str>, query: &ChangeQuery) -> Result<Changed> {
    let (after, limit) = (query.position()?, query.limit);
    let mut arguments = PgArguments::default();
    let (transaction_after, seq) = after.map_or((0, i64::MIN), |at| (at.transaction, at.seq.get()));
    add(&mut arguments, transaction_after.to_string())?;
    add(&mut arguments, seq)?;
    add(&mut arguments, i64::from(limit) + 1)?;
    let rows = session.rows(sql, arguments).await?;
    let (mut about, mut found) = (None, Vec::with_capacity(rows.len()));
    for row in &rows {
        let transaction = transaction(row, 0)?;
        // Without a number it is the row about the store.
        match row::value::<Option<i64>>(EVENTS, row, EVENT)? {
            None => about = Some((row, (transaction, i64::MAX))),
            Some(seq) => found.push(((transaction, seq), row)),
        }
    }
    let (about, end) = about.ok_or_else(silent)?;
    let store = store(about, 2)?;
    let from = horizon(about, 1)?.begin(store, query.check(store)?, end)?;
    // A union promises no order.
    found.sort_unstable_by_key(|(place, _)| *place);
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let changes = found.into_iter().map(|((transaction, _), row)| {
        let event = event::at(row, EVENT)?;
        let position = ChangePosition {
            transaction,
            seq: event.seq,
            ..from
        };
        Ok(Change::new(event, position))
    });
    Ok(Changed::new(changes.collect::<Result<_>>()?, from, more))
}

fn transaction(row: &PgRow, column: usize) -> Result<u64> {
    get::<&str>(row, column)?.parse().map_err(|_| silent())
}

fn store(row: &PgRow, column: usize) -> Result<Uuid> {
    let id = get::<Option<&str>>(row, column)?.and_then(|text| text.parse().ok());
    id.ok_or_else(|| {
        Error::new(
            ErrorKind::SchemaMismatch,
            "the store has no identity; run persist migrate up",
        )
    })
}

fn horizon(row: &PgRow, column: usize) -> Result<Horizon> {
    get::<Option<&str>>(row, column)?.map_or_else(|| Ok(Horizon::default()), str::parse)
}

fn get<'r, T>(row: &'r PgRow, column: usize) -> Result<T>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(column)
        .map_err(|error| classify(&error, Phase::Statement))
}

fn silent() -> Error {
    Error::new(ErrorKind::Internal, "the server did not tell of its transactions")
}
