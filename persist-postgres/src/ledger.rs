//! What was refused. The statements are core's.

use std::sync::Arc;

use async_trait::async_trait;
use persist_core::sql::{self, Dialect, REFUSALS};
use persist_core::{
    CHUNK, Deadlines, Error, Ledger, Page, Refusal, RefusalPosition, RefusalQuery, Result, Subject,
    Timestamp, Tried, jsonl, time,
};
use sqlx::postgres::{PgArguments, PgRow};
use uuid::Uuid;

use crate::bind::add;
use crate::connection::Pool;
use crate::row::{self, value};
use crate::session::Session;

/// The migration that brings the table.
const MIGRATION: &str = "m20261128_000008_ledger";

/// The refusals of a store.
#[derive(Debug)]
pub(crate) struct Refused {
    pool: Arc<Pool>,
    deadlines: Deadlines,
    keep: Arc<str>,
    all: Arc<str>,
    of_one: Arc<str>,
}

impl Refused {
    /// `prefix` is the schema with its dot, or nothing.
    pub(crate) fn new(pool: &Arc<Pool>, deadlines: Deadlines, prefix: &str) -> Self {
        Self {
            pool: Arc::clone(pool),
            deadlines,
            keep: sql::keep(Dialect::Postgres, prefix).into(),
            all: sql::refusals(Dialect::Postgres, prefix, false).into(),
            of_one: sql::refusals(Dialect::Postgres, prefix, true).into(),
        }
    }
}

#[async_trait]
impl Ledger for Refused {
    async fn keep(&self, tried: &[Tried]) -> Result<()> {
        const OPERATION: &str = "keep";
        self.pool
            .refuse_closed()
            .map_err(|error| error.during(OPERATION))?;
        for (number, chunk) in Tried::merged(tried).chunks(CHUNK).enumerate() {
            let arguments = of_many(chunk)?;
            let kept = self
                .pool
                .rows(OPERATION, self.deadlines.write, &self.keep, arguments);
            kept.await
                .map_err(|error| error.during(OPERATION).of_chunk(number))?;
        }
        Ok(())
    }

    async fn refusals(&self, query: &RefusalQuery) -> Result<Page<Refusal>> {
        const OPERATION: &str = "refusals";
        self.pool
            .refuse_closed()
            .map_err(|error| error.during(OPERATION))?;
        let told = async {
            let arguments = place(query, query.check()?)?;
            let sql = match query.request_id {
                Some(_) => &self.of_one,
                None => &self.all,
            };
            let rows = self.pool.rows(OPERATION, self.deadlines.read, sql, arguments);
            row::page(
                rows.await?,
                query.limit,
                |row| refusal(&row),
                |refusal| query.cursor(refusal),
            )
        };
        told.await.map_err(|error: Error| error.during(OPERATION))
    }
}

/// Columns as arrays. Their keys are different and in order, as the statement needs them.
fn of_many(tried: &[Tried]) -> Result<PgArguments> {
    let keys = || tried.iter().map(Tried::key);
    let mut arguments = PgArguments::default();
    add(
        &mut arguments,
        keys().map(|key| key.0.request_id()).collect::<Vec<_>>(),
    )?;
    add(
        &mut arguments,
        keys().map(|key| key.0.domain_name()).collect::<Vec<_>>(),
    )?;
    add(&mut arguments, keys().map(|key| key.1).collect::<Vec<_>>())?;
    add(&mut arguments, keys().map(|key| key.2).collect::<Vec<_>>())?;
    let standing = tried.iter().map(|one| one.standing.name());
    add(&mut arguments, standing.collect::<Vec<_>>())?;
    let lines = tried.iter().map(|one| jsonl::claim_line(&one.claim));
    add(&mut arguments, lines.collect::<Vec<_>>())?;
    let tries = tried.iter().map(|one| i64::from(one.tries));
    add(&mut arguments, tries.collect::<Vec<_>>())?;
    Ok(arguments)
}

fn place(query: &RefusalQuery, after: Option<RefusalPosition>) -> Result<PgArguments> {
    // Without a place to begin: later than any.
    let (at, subject, rank, state) = after.map_or_else(
        || (time::latest(), Subject::Job(Uuid::max()), i64::MAX, ""),
        |(at, subject, rank, state)| (at, subject, rank.get(), state.name()),
    );
    let (id, name) = subject.key();
    let mut arguments = PgArguments::default();
    add(&mut arguments, at)?;
    add(&mut arguments, id)?;
    add(&mut arguments, name)?;
    add(&mut arguments, rank)?;
    add(&mut arguments, state)?;
    add(&mut arguments, i64::from(query.limit) + 1)?;
    if let Some(of_one) = query.request_id {
        add(&mut arguments, of_one)?;
    }
    Ok(arguments)
}

fn refusal(row: &PgRow) -> Result<Refusal> {
    let (id, name): (Uuid, &str) = (value(REFUSALS, row, 0)?, value(REFUSALS, row, 1)?);
    let subject = Subject::new(id, name);
    let (claim, standing) = Refusal::read(&subject, value(REFUSALS, row, 5)?, value(REFUSALS, row, 4)?)?;
    let tries: i64 = value(REFUSALS, row, 6)?;
    let (first_at, last_at): (Timestamp, Timestamp) = (value(REFUSALS, row, 7)?, value(REFUSALS, row, 8)?);
    Ok(Refusal::new(
        claim,
        standing,
        tries.unsigned_abs(),
        first_at,
        last_at,
    ))
}

/// Forgets those of ids, in the transaction that the session is in; whether it may. A store that has not got the table
/// has none; who may not forget them may prune all the same.
pub(crate) async fn forget(session: &mut Session, prefix: &str, ids: &[Uuid]) -> Result<bool> {
    // A stranger's table of this name is none of ours.
    let sql = format!(
        "SELECT count(*) > 0, (SELECT coalesce(bool_and(has_table_privilege(to_regclass('{prefix}{REFUSALS}'), r)), false) \
         FROM unnest('{{SELECT,DELETE}}'::text[]) r) FROM {prefix}persist_migrations WHERE name = $1"
    );
    let mut of_name = PgArguments::default();
    add(&mut of_name, MIGRATION)?;
    let rows = session.rows(sql, of_name).await?;
    let Some(row) = rows.first() else { return Ok(true) };
    let (is_there, may_forget): (bool, bool) = (value(REFUSALS, row, 0)?, value(REFUSALS, row, 1)?);
    if !is_there || !may_forget {
        return Ok(!is_there);
    }
    let mut of_ids = PgArguments::default();
    add(&mut of_ids, ids.to_vec())?;
    let sql = sql::forget_refusals(Dialect::Postgres, prefix);
    session.rows(sql, of_ids).await.map(|_| true)
}
