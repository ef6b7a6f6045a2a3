//! Retention: two statements in one transaction. Rows first, repeating the condition on what is locked; then
//! the history of those subjects that have no row now, so that a row which a concurrent writer just made
//! keeps its own.

use std::collections::BTreeSet;

use persist_core::sql::state_list;
use persist_core::{Error, ErrorKind, Horizon, JobState, Prune, Pruned, Result};
use sqlx::Arguments as _;
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, PgRow};
use uuid::Uuid;

use crate::bind::add;
use crate::error::{Phase, classify};
use crate::ledger;
use crate::session::Session;

/// The conditions of a checked request beyond its ids, which change under nobody's hands: of a job's own row, and of
/// one VM's.
struct Conditions {
    job: String,
    vm: String,
}

fn conditions(request: &Prune) -> Conditions {
    let (mut job, mut vm) = (vec!["true".to_owned()], vec!["true".to_owned()]);
    if request.ids.is_empty() {
        // Without a name the living are safe.
        job.push("j.ending IS NOT NULL".into());
        vm.push("v.ending IS NOT NULL".into());
    }
    if request.ended_before.is_some() {
        job.push("j.updated_at < $2".into());
        vm.push("v.updated_at < $2".into());
    }
    if !request.states.is_empty() {
        let wanted = state_list::<JobState>(|state| request.states.contains(&state));
        job.push(format!("j.state IN ({wanted})"));
    }
    Conditions {
        job: job.join(" AND "),
        vm: vm.join(" AND "),
    }
}

/// The ids that match, the oldest first, one more than the limit to know whether any are left; and those to
/// remove.
fn victims(prefix: &str, request: &Prune) -> String {
    let Conditions { job, vm } = conditions(request);
    // Once for each table, and nowhere else: beside a join by id the planner would go through all ids for each.
    let (named_job, named_vm) = if request.ids.is_empty() {
        ("", "")
    } else {
        ("j.request_id = ANY($1) AND ", "v.request_id = ANY($1) AND ")
    };
    let mut sql = format!(
        "SELECT j.request_id, j.created_at FROM {prefix}jobs j WHERE {named_job}{job} AND NOT EXISTS \
         (SELECT FROM {prefix}vms v WHERE v.request_id = j.request_id AND NOT ({vm}))"
    );
    if request.keep_per_repo.is_some() {
        sql = format!(
            "{sql} AND j.request_id NOT IN (SELECT k.request_id FROM (SELECT request_id, row_number() OVER \
             (PARTITION BY repo_url ORDER BY created_at DESC, request_id DESC) AS n FROM {prefix}jobs) k \
             WHERE k.n <= $4)"
        );
    } else if request.states.is_empty() {
        sql = format!(
            "{sql} UNION ALL SELECT v.request_id, min(v.created_at) FROM {prefix}vms v \
             WHERE {named_vm}NOT EXISTS (SELECT FROM {prefix}jobs j WHERE j.request_id = v.request_id) \
             GROUP BY v.request_id HAVING bool_and({vm})"
        );
    }
    format!(
        "WITH matching AS MATERIALIZED (SELECT request_id, created_at FROM ({sql}) AS c(request_id, created_at) \
         ORDER BY created_at, request_id LIMIT $3::bigint + 1), victims AS MATERIALIZED \
         (SELECT request_id FROM matching ORDER BY created_at, request_id LIMIT $3::bigint)"
    )
}

fn arguments(request: &Prune) -> Result<PgArguments> {
    let mut arguments = PgArguments::default();
    let encoded = (|| {
        arguments.add(request.ids.clone())?;
        arguments.add(request.ended_before)?;
        arguments.add(i64::from(request.limit))?;
        arguments.add(request.keep_per_repo.map(i64::from))
    })();
    encoded
        .map(|()| arguments)
        .map_err(|_| Error::new(ErrorKind::InvalidInput, "too many ids to be sent"))
}

/// Removes, in the transaction that the session is in, or counts.
pub(crate) async fn prune(session: &mut Session, prefix: &str, request: &Prune) -> Result<Pruned> {
    let victims = victims(prefix, request);
    if request.dry_run {
        let sql = format!(
            "{victims} SELECT (SELECT count(*) FROM matching), (SELECT count(*) FROM victims), \
             (SELECT count(*) FROM {prefix}jobs WHERE request_id IN (TABLE victims)), \
             (SELECT count(*) FROM {prefix}vms WHERE request_id IN (TABLE victims)), \
             (SELECT count(*) FROM {prefix}events WHERE request_id IN (TABLE victims))"
        );
        let rows = session.rows(sql, arguments(request)?).await?;
        let row = rows
            .first()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "no answer to a count"))?;
        return Ok(Pruned::new(
            count(row, 1)?,
            count(row, 2)?,
            count(row, 3)?,
            count(row, 4)?,
            count(row, 0)? > u64::from(request.limit),
        ));
    }
    let Conditions { job, vm } = conditions(request);
    let sql = format!(
        "{victims}, \
         j AS (DELETE FROM {prefix}jobs j USING victims WHERE j.request_id = victims.request_id AND {job} \
         RETURNING j.request_id), \
         v AS (DELETE FROM {prefix}vms v USING victims WHERE v.request_id = victims.request_id AND {vm} \
         RETURNING v.request_id) \
         SELECT request_id, 0 FROM matching UNION ALL SELECT request_id, 1 FROM j UNION ALL SELECT request_id, 2 FROM v"
    );
    let (mut ids, mut matching, mut jobs, mut vms) = (BTreeSet::new(), 0_u32, 0_u64, 0_u64);
    for row in session.rows(sql, arguments(request)?).await? {
        let id: Uuid = get(&row, 0)?;
        match get::<i32>(&row, 1)? {
            0 => {
                matching += 1;
                continue;
            }
            1 => jobs += 1,
            _ => vms += 1,
        }
        ids.insert(id);
    }
    let more = matching > request.limit;
    let requests = ids.len() as u64;
    if ids.is_empty() {
        return Ok(Pruned::new(0, 0, 0, 0, more));
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
    let pruned = Pruned::new(requests, jobs, vms, count(first, 0)?, more);
    ledger::forget(session, prefix, &ids).await?;
    let may_note: bool = get(first, 1)?;
    let mut latest = Vec::new();
    for row in &gone {
        if let Some(xid) = get::<Option<&str>>(row, 2)? {
            latest.push((transaction(xid)?, get(row, 3)?));
        }
    }
    if latest.is_empty() {
        return Ok(pruned);
    }
    if may_note {
        raise_horizon(session, prefix, &latest).await?;
    } else {
        tracing::warn!(
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

fn count(row: &PgRow, column: usize) -> Result<u64> {
    get::<i64>(row, column).map(i64::unsigned_abs)
}
