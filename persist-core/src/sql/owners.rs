//! Statements about who is alive, and what is left alone. Each has one text, and the prefix is its only part that is not ours:
//! a schema whose name was checked, with its dot, or nothing.

use super::{Dialect, EVENTS, JOBS, VMS, state_list};
use crate::state::JobState;

/// Who beats.
pub const OWNERS: &str = "persist_owners";

/// The columns of that table, in the order in which statements give them back.
pub const OWNER_COLUMNS: [&str; 5] = ["actor", "epoch", "started_at", "beat_at", "valid_until"];

/// What the statement of orphans gives back, in this order. The last three are [`OrphanKind::ALL`](crate::OrphanKind::ALL).
pub const ORPHAN_COLUMNS: [&str; 9] = [
    "request_id",
    "domain_name",
    "state",
    "rank",
    "actor",
    "recorded_at",
    "owner_gone",
    "vm_without_job",
    "job_without_vm",
];

/// A beat: one row, or none where a higher epoch beats. A clock that was set back takes the start back with it: else whatever is
/// recorded until it gets there again would be of before the start, and nobody's. (What an earlier run left in the time that it went
/// back is then taken for this one's: nobody is declared lost for that.) Parameters: actor, epoch, how long it is good for, in microseconds.
pub fn heartbeat(dialect: Dialect, prefix: &str) -> String {
    let (now, after) = match dialect {
        // Not the statement's time: a beat that waited for another one's row is no older than that.
        Dialect::Postgres => ("clock_timestamp()", "now + $3::bigint * interval '1 microsecond'"),
        Dialect::Sqlite => (SQLITE_NOW, "now + ?3"),
    };
    let [actor, epoch] = [parameter(dialect, 1), parameter(dialect, 2)];
    let columns = OWNER_COLUMNS.join(", ");
    // `true`: else SQLite takes ON for that of a join.
    format!(
        "INSERT INTO {prefix}{OWNERS} AS o ({columns}) SELECT {actor}, {epoch}, now, now, {after} \
         FROM (SELECT {now} AS now) AS c WHERE true \
         ON CONFLICT (actor) DO UPDATE SET epoch = excluded.epoch, started_at = CASE WHEN excluded.epoch > o.epoch \
         OR excluded.started_at < o.started_at THEN excluded.started_at ELSE o.started_at END, beat_at = excluded.beat_at, valid_until = excluded.valid_until \
         WHERE excluded.epoch >= o.epoch RETURNING {columns}"
    )
}

/// All who ever beat, and the time, by their names. No parameters.
pub fn owners(dialect: Dialect, prefix: &str) -> String {
    let (columns, now) = (OWNER_COLUMNS.join(", "), now(dialect));
    format!("SELECT {columns}, {now} FROM {prefix}{OWNERS} ORDER BY actor")
}

/// A page of orphans. Parameters: `request_id` and `domain_name` that it begins after, an actor or null, the grace in
/// microseconds, whether each of [`OrphanKind::ALL`](crate::OrphanKind::ALL) is asked for, and the most rows.
///
/// It goes through live rows, by their index, and looks at the one slot of each that is the current one; it never goes through
/// the history.
pub fn orphans(dialect: Dialect, prefix: &str) -> String {
    let p = |number| parameter(dialect, number);
    let (ago, text) = match dialect {
        Dialect::Postgres => ("$4::bigint * interval '1 microsecond'", "::text"),
        Dialect::Sqlite => ("?4", ""),
    };
    let columns = ORPHAN_COLUMNS.join(", ");
    let wanted: Vec<_> = (5..)
        .zip(&ORPHAN_COLUMNS[6..])
        .map(|(number, kind)| format!("{} AND {kind}", p(number)))
        .collect();
    format!(
        "SELECT {columns} FROM ({} UNION ALL {}) AS x WHERE ({}) AND ({actor}{text} IS NULL OR actor = {actor}) \
         AND recorded_at <= {} - {ago} ORDER BY request_id, domain_name LIMIT {}",
        jobs_alone(dialect, prefix),
        vms_alone(dialect, prefix),
        wanted.join(" OR "),
        now(dialect),
        p(8),
        actor = p(3),
    )
}

fn jobs_alone(dialect: Dialect, prefix: &str) -> String {
    let running = state_list::<JobState>(|state| state == JobState::Running);
    let vms = VMS.name;
    // No row at all adds up to null.
    let without_vm = format!(
        "r.state IN ({running}) AND coalesce((SELECT sum(CASE WHEN v.ending IS NULL THEN 1 ELSE 0 END) = 0 \
         FROM {prefix}{vms} v WHERE v.request_id = r.request_id), false)"
    );
    let after = format!("{} > {}", key(dialect, "r.request_id"), parameter(dialect, 1));
    arm(dialect, prefix, JOBS.name, "''", ["false", &without_vm], &after)
}

fn vms_alone(dialect: Dialect, prefix: &str) -> String {
    let jobs = JOBS.name;
    let without_job = format!(
        "NOT coalesce((SELECT j.ending IS NULL FROM {prefix}{jobs} j WHERE j.request_id = r.request_id), false)"
    );
    let after = format!(
        "({}, {}) > ({}, {})",
        key(dialect, "r.request_id"),
        key(dialect, "r.domain_name"),
        parameter(dialect, 1),
        parameter(dialect, 2)
    );
    arm(
        dialect,
        prefix,
        VMS.name,
        "r.domain_name",
        [&without_job, "false"],
        &after,
    )
}

/// The live rows of a table after a key, with their current slots and whether they are left alone.
fn arm(
    dialect: Dialect,
    prefix: &str,
    table: &str,
    name: &str,
    [without_job, without_vm]: [&str; 2],
    after: &str,
) -> String {
    // differs: SQLite is told from which side to join; without statistics it would take any. Postgres has them.
    let join = match dialect {
        Dialect::Postgres => "JOIN",
        Dialect::Sqlite => "CROSS JOIN",
    };
    format!(
        "SELECT {} AS request_id, e.domain_name, r.state, r.rank, e.actor, e.recorded_at, \
         coalesce(o.valid_until <= {} OR e.recorded_at < o.started_at, false) AS owner_gone, \
         {without_job} AS vm_without_job, {without_vm} AS job_without_vm \
         FROM {prefix}{table} r {join} {prefix}{EVENTS} e \
         ON e.request_id = r.request_id AND e.domain_name = {name} AND e.rank = r.rank \
         LEFT JOIN {prefix}{OWNERS} o ON o.actor = e.actor WHERE r.ending IS NULL AND {after}",
        key(dialect, "r.request_id"),
        now(dialect)
    )
}

/// The database's clock in microseconds, as SQLite has it: milliseconds, counted in floating point. The same all along a
/// statement.
pub const SQLITE_NOW: &str = "CAST(round(unixepoch('subsec') * 1000) AS INTEGER) * 1000";

fn now(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => "statement_timestamp()",
        Dialect::Sqlite => SQLITE_NOW,
    }
}

/// differs: SQLite would go along the key of all rows to spare itself sorting the live ones. With a sign before it a column is
/// no key.
fn key(dialect: Dialect, column: &str) -> String {
    match dialect {
        Dialect::Postgres => column.to_owned(),
        Dialect::Sqlite => format!("+{column}"),
    }
}

pub(super) fn parameter(dialect: Dialect, number: usize) -> String {
    match dialect {
        Dialect::Postgres => format!("${number}"),
        Dialect::Sqlite => format!("?{number}"),
    }
}
