//! Retention, in one transaction that held the lock from its beginning: what matches is read, and goes.

use persist_core::sql::{EVENTS, JOBS, VMS, state_list};
use persist_core::{JobState, Prune, Pruned};
use rusqlite::{Connection, Statement};

use crate::error::Failed;
use crate::{ledger, records};

/// The conditions of a checked request beyond its ids: of a job's own row, and of one VM's.
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
        job.push("j.updated_at < ?2".into());
        vm.push("v.updated_at < ?2".into());
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

/// The ids to remove, the oldest first.
fn victims_sql(request: &Prune) -> String {
    let Conditions { job, vm } = conditions(request);
    let (named_job, named_vm) = if request.ids.is_empty() {
        ("", "")
    } else {
        // differs: SQLite has no arrays.
        (
            "j.request_id IN (SELECT unhex(value) FROM json_each(?1)) AND ",
            "v.request_id IN (SELECT unhex(value) FROM json_each(?1)) AND ",
        )
    };
    let mut sql = format!(
        "SELECT j.request_id, j.created_at FROM jobs j WHERE {named_job}{job} AND NOT EXISTS \
         (SELECT 1 FROM vms v WHERE v.request_id = j.request_id AND NOT ({vm}))"
    );
    if request.keep_per_repo.is_some() {
        sql = format!(
            "{sql} AND j.request_id NOT IN (SELECT k.request_id FROM (SELECT request_id, row_number() OVER \
             (PARTITION BY repo_url ORDER BY created_at DESC, request_id DESC) AS n FROM jobs) k WHERE k.n <= ?4)"
        );
    } else if request.states.is_empty() {
        sql = format!(
            "{sql} UNION ALL SELECT v.request_id, min(v.created_at) FROM vms v \
             WHERE {named_vm}NOT EXISTS (SELECT 1 FROM jobs j WHERE j.request_id = v.request_id) \
             GROUP BY v.request_id HAVING min({vm})"
        );
    }
    format!("SELECT request_id FROM ({sql}) ORDER BY created_at, request_id LIMIT ?3")
}

/// One id more than the limit, to know whether anything is left.
fn victims(connection: &Connection, request: &Prune) -> Result<Vec<Vec<u8>>, Failed> {
    let ids: Vec<_> = request
        .ids
        .iter()
        .map(|id| format!("\"{}\"", id.simple()))
        .collect();
    let mut select = connection.prepare(&victims_sql(request))?;
    select.raw_bind_parameter(1, format!("[{}]", ids.join(",")))?;
    select.raw_bind_parameter(2, request.ended_before.map(|at| at.timestamp_micros()))?;
    select.raw_bind_parameter(3, i64::from(request.limit) + 1)?;
    if let Some(keep) = request.keep_per_repo {
        select.raw_bind_parameter(4, keep)?;
    }
    let (mut rows, mut found) = (select.raw_query(), Vec::new());
    while let Some(row) = rows.next()? {
        found.push(row.get(0)?);
    }
    Ok(found)
}

/// Removes, in the transaction that the connection is in.
pub(crate) fn remove(connection: &Connection, request: &Prune) -> Result<Pruned, Failed> {
    let victims = victims(connection, request)?;
    let mut last = None;
    let mut latest =
        connection.prepare_cached(&format!("SELECT max(seq) FROM {EVENTS} WHERE request_id = ?1"))?;
    for id in victims.iter().take(request.limit as usize) {
        last = last.max(latest.query_row([id], |row| row.get::<_, Option<i64>>(0))?);
    }
    let gone: Vec<_> = victims.iter().take(request.limit as usize).cloned().collect();
    let pruned = of_tables(connection, request, victims, "DELETE FROM", |statement, id| {
        statement.execute([id]).map(|rows| rows as u64)
    })?;
    ledger::forget(connection, &gone)?;
    if let Some(last) = last {
        records::raise_horizon(connection, last)?;
    }
    Ok(pruned)
}

/// Counts what would be removed, in one snapshot.
pub(crate) fn count(connection: &Connection, request: &Prune) -> Result<Pruned, Failed> {
    let snapshot = connection.unchecked_transaction()?;
    let victims = victims(&snapshot, request)?;
    of_tables(
        &snapshot,
        request,
        victims,
        "SELECT count(*) FROM",
        |statement, id| statement.query_row([id], |row| row.get::<_, i64>(0).map(i64::unsigned_abs)),
    )
}

fn of_tables(
    connection: &Connection,
    request: &Prune,
    mut victims: Vec<Vec<u8>>,
    verb: &str,
    rows: impl Fn(&mut Statement<'_>, &[u8]) -> rusqlite::Result<u64>,
) -> Result<Pruned, Failed> {
    let limit = request.limit as usize;
    let mut pruned = Pruned::new(0, 0, 0, 0, victims.len() > limit);
    victims.truncate(limit);
    pruned.requests = victims.len() as u64;
    for (table, sum) in [
        (JOBS.name, &mut pruned.jobs),
        (VMS.name, &mut pruned.vms),
        (EVENTS, &mut pruned.events),
    ] {
        let mut statement = connection.prepare_cached(&format!("{verb} {table} WHERE request_id = ?1"))?;
        for id in &victims {
            *sum += rows(&mut statement, id)?;
        }
    }
    Ok(pruned)
}
