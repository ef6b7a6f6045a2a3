//! Retention: what matches is found by reads; then two statements in one transaction. Rows first, repeating the whole condition,
//! that on a row by itself when it is locked; then the history of those subjects that have no row now, so that a row which a
//! concurrent writer just made keeps its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use persist_core::layer::OncePer;
use persist_core::sql::{self, Bound, Candidate, Dialect, Removal, Search};
use persist_core::{Error, ErrorKind, Horizon, Prune, PrunePosition, Pruned, Result, Retry};
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, PgRow};
use uuid::Uuid;

use crate::bind::add;
use crate::connection::{Pool, Scope};
use crate::error::{Phase, classify};
use crate::ledger;
use crate::session::Session;

/// A run is many batches, and each lacks the same right.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(3_600);

/// What is said of rights that the prunes of a handle lack.
#[derive(Debug)]
pub(crate) struct Lacking {
    to_note: OncePer,
    to_forget: OncePer,
}

impl Default for Lacking {
    fn default() -> Self {
        let [to_note, to_forget] = [(); 2].map(|()| OncePer::new(BETWEEN_WARNINGS));
        Self { to_note, to_forget }
    }
}

/// What a request means to remove, and where to go on. Each page is a read of its own, and none begins when the time of a search
/// is over: going on costs little, and the rest is that of the removal.
pub(crate) async fn find(
    pool: &Arc<Pool>,
    prefix: &str,
    request: &Prune,
    deadline: Duration,
) -> Result<(Vec<Uuid>, Option<PrunePosition>)> {
    let begun = Instant::now();
    let mut search = Search::new(Dialect::Postgres, prefix, request)?;
    while let Some(asked) = search.ask() {
        let left = deadline.saturating_sub(begun.elapsed());
        let read = pool.run("prune", left, Scope::Single, move |session| {
            let asked = asked.clone();
            Box::pin(async move {
                let rows = session.rows(asked.sql, arguments(asked.values)?).await?;
                rows.iter().map(candidate).collect::<Result<Vec<_>>>()
            })
        });
        match read.await {
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

fn arguments(values: Vec<Bound>) -> Result<PgArguments> {
    let mut arguments = PgArguments::default();
    for value in values {
        match value {
            Bound::Ids(ids) => add(&mut arguments, ids)?,
            Bound::Id(id) => add(&mut arguments, id)?,
            Bound::Time(at) => add(&mut arguments, at)?,
            Bound::Number(number) => add(&mut arguments, number)?,
            Bound::Text(text) => add(&mut arguments, text)?,
        }
    }
    Ok(arguments)
}

fn candidate(row: &PgRow) -> Result<Candidate> {
    Ok(Candidate {
        created_at: get(row, 0)?,
        request_id: get(row, 1)?,
        matches: get::<Option<bool>>(row, 2)?.unwrap_or(false),
        repo_url: get(row, 3)?,
    })
}

/// Counts what these ids are.
pub(crate) async fn count(session: &mut Session, prefix: &str, ids: &[Uuid]) -> Result<Pruned> {
    let sql = format!(
        "SELECT (SELECT count(*) FROM {prefix}jobs WHERE request_id = ANY($1)), \
         (SELECT count(*) FROM {prefix}vms WHERE request_id = ANY($1)), \
         (SELECT count(*) FROM {prefix}events WHERE request_id = ANY($1))"
    );
    let rows = session
        .rows(sql, arguments(vec![Bound::Ids(ids.to_vec())])?)
        .await?;
    let row = rows
        .first()
        .ok_or_else(|| Error::new(ErrorKind::Internal, "no answer to a count"))?;
    let found = ids.len() as u64;
    Ok(Pruned::new(
        found,
        number(row, 0)?,
        number(row, 1)?,
        number(row, 2)?,
        false,
    ))
}

/// Removes those of these ids that still match, in the transaction that the session is in.
pub(crate) async fn remove(
    session: &mut Session,
    prefix: &str,
    request: &Prune,
    ids: &[Uuid],
    lacking: &Lacking,
) -> Result<Pruned> {
    let Removal {
        victims,
        job,
        vm,
        values,
        ..
    } = sql::removal(Dialect::Postgres, prefix, request, ids);
    let sql = format!(
        "WITH victims AS MATERIALIZED ({victims}), \
         j AS (DELETE FROM {prefix}jobs j USING victims WHERE j.request_id = victims.request_id AND {job} \
         RETURNING j.request_id), \
         v AS (DELETE FROM {prefix}vms v USING victims WHERE v.request_id = victims.request_id AND {vm} \
         RETURNING v.request_id) \
         SELECT request_id, 1 FROM j UNION ALL SELECT request_id, 2 FROM v"
    );
    let (mut ids, mut jobs, mut vms) = (BTreeSet::new(), 0_u64, 0_u64);
    for row in session.rows(sql, arguments(values)?).await? {
        let id: Uuid = get(&row, 0)?;
        match get::<i32>(&row, 1)? {
            1 => jobs += 1,
            _ => vms += 1,
        }
        ids.insert(id);
    }
    let requests = ids.len() as u64;
    if ids.is_empty() {
        return Ok(Pruned::default());
    }
    // Who may not note what went may prune all the same, as before there was anybody to watch. The latest of all may be a row
    // that a dump brought from another server, of a transaction that this one has not come to, or what a writer filled while this
    // waited for it: only a later snapshot knows. So it is told beside the latest that this one knows.
    let sql = format!(
        "WITH gone AS (DELETE FROM {prefix}events e WHERE e.request_id = ANY($1) \
         AND NOT EXISTS (SELECT FROM {prefix}jobs j WHERE e.domain_name = '' AND j.request_id = e.request_id) \
         AND NOT EXISTS (SELECT FROM {prefix}vms v WHERE v.request_id = e.request_id \
         AND v.domain_name = e.domain_name) RETURNING e.xid, e.seq) \
         SELECT (SELECT count(*) FROM gone), \
         EXISTS (SELECT FROM {prefix}jobs WHERE request_id = ANY($1)) OR EXISTS (SELECT FROM {prefix}vms WHERE request_id = ANY($1)), \
         (SELECT bool_and(has_table_privilege('{prefix}persist_meta', r)) FROM unnest('{{SELECT,INSERT,UPDATE}}'::text[]) r), \
         latest.xid::text, latest.seq \
         FROM (SELECT) AS one LEFT JOIN LATERAL ((SELECT xid, seq FROM gone ORDER BY gone.xid DESC, seq DESC LIMIT 1) \
         UNION ALL (SELECT xid, seq FROM gone WHERE xid < pg_snapshot_xmax(pg_current_snapshot()) \
         ORDER BY gone.xid DESC, seq DESC LIMIT 1)) AS latest ON true"
    );
    let mut of_ids = PgArguments::default();
    let ids: Vec<_> = ids.into_iter().collect();
    add(&mut of_ids, ids.clone())?;
    let gone = session.rows(sql, of_ids).await?;
    let first = gone
        .first()
        .ok_or_else(|| Error::new(ErrorKind::Internal, "no answer to a removal"))?;
    // The first statement saw what was before its own; a VM that came meanwhile keeps its whole job, and so does a job its VMs.
    if request.ids.is_empty() && get::<bool>(first, 1)? {
        let what = "what was to be pruned came to life meanwhile; rolled back";
        return Err(Error::new(ErrorKind::Busy, what).retry_as(Retry::Now));
    }
    let pruned = Pruned::new(requests, jobs, vms, number(first, 0)?, false);
    if !ledger::forget(session, prefix, &ids).await?
        && let Some(held_back) = lacking.to_forget.pass()
    {
        tracing::warn!(
            held_back,
            "no right to delete from refusals: those of pruned jobs stay; grant it"
        );
    }
    let may_note: bool = get(first, 2)?;
    let mut latest = Vec::new();
    for row in &gone {
        if let Some(xid) = get::<Option<&str>>(row, 3)? {
            latest.push((transaction(xid)?, get(row, 4)?));
        }
    }
    if latest.is_empty() {
        return Ok(pruned);
    }
    if may_note {
        raise_horizon(session, prefix, &latest).await?;
    } else if let Some(held_back) = lacking.to_note.pass() {
        tracing::warn!(
            held_back,
            "no right to change persist_meta: who watches is not told what this prune took away; grant it"
        );
    }
    Ok(pruned)
}

/// Notes a prune, last of all: from here until the commit no other prune gets by. Its latest change is the latest of these whose
/// transaction the server has come to: of others nobody was told, so that nobody misses them.
async fn raise_horizon(session: &mut Session, prefix: &str, latest: &[(u64, i64)]) -> Result<()> {
    let lock = format!(
        "INSERT INTO {prefix}persist_meta AS m (key, value) VALUES ('pruned_to', $1) \
         ON CONFLICT (key) DO UPDATE SET value = m.value \
         RETURNING value, pg_snapshot_xmax(pg_current_snapshot())::text"
    );
    let mut none = PgArguments::default();
    add(&mut none, Horizon::default().to_string())?;
    let rows = session.rows(lock, none).await?;
    let stands = rows
        .first()
        .ok_or_else(|| Error::new(ErrorKind::Internal, "no answer to a lock"))?;
    let mut horizon: Horizon = get::<&str>(stands, 0)?.parse()?;
    let next = transaction(get(stands, 1)?)?;
    let Some(last) = latest.iter().filter(|last| last.0 < next).max() else {
        return Ok(());
    };
    horizon.raise(*last);
    let mut raised = PgArguments::default();
    add(&mut raised, horizon.to_string())?;
    let sql = format!("UPDATE {prefix}persist_meta SET value = $1 WHERE key = 'pruned_to'");
    session.rows(sql, raised).await.map(drop)
}

fn get<'r, T>(row: &'r PgRow, column: usize) -> Result<T>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(column)
        .map_err(|error| classify(&error, Phase::Statement))
}

fn transaction(text: &str) -> Result<u64> {
    text.parse().map_err(|_| {
        Error::new(
            ErrorKind::Internal,
            "the server told a transaction that is no number",
        )
    })
}

fn number(row: &PgRow, column: usize) -> Result<u64> {
    get::<i64>(row, column).map(i64::unsigned_abs)
}
