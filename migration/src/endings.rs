//! The generated column `ending`, and the indexes of the listings.
//!
//! No key and no predicate mentions `state`: an update of it must stay on its page (HOT), and `ending` changes
//! only once, at the end.

use persist_core::sql::Dialect;
use persist_core::{JobState, StateTable as _, VmState};

use crate::migration::{Migration, Step, one_of};

pub(crate) fn migration(dialect: Dialect) -> Migration {
    let up = [
        ending(
            dialect,
            "jobs",
            &one_of::<JobState>(dialect, "state", JobState::is_ended),
        ),
        ending(
            dialect,
            "vms",
            &one_of::<VmState>(dialect, "state", VmState::is_ended),
        ),
        indexes("jobs", "request_id", "repo_url"),
        indexes("vms", "request_id, domain_name", "backend"),
    ]
    .join(";\n");
    Migration::new(
        "m20261101_000004_endings",
        vec![Step::Sql(up)],
        vec![Step::Sql(DOWN.to_owned())],
    )
}

fn ending(dialect: Dialect, table: &str, is_ended: &str) -> String {
    let (kind, kept) = match dialect {
        Dialect::Postgres => ("text COLLATE \"C\"", "STORED"),
        // differs: SQLite adds a stored column to no table that is there; its indexes store it anyway.
        Dialect::Sqlite => ("TEXT", "VIRTUAL"),
    };
    format!(
        "ALTER TABLE {table} ADD ending {kind} GENERATED ALWAYS AS (CASE WHEN {is_ended} THEN state END) {kept}"
    )
}

fn indexes(table: &str, key: &str, filter: &str) -> String {
    format!(
        "CREATE INDEX {table}_live ON {table} (created_at, {key}) WHERE ending IS NULL;\n\
         CREATE INDEX {table}_ended ON {table} (ending, created_at, {key}) WHERE ending IS NOT NULL;\n\
         CREATE INDEX {table}_created ON {table} (created_at, {key});\n\
         CREATE INDEX {table}_{filter} ON {table} ({filter}, created_at, {key})"
    )
}

// Indexes first: SQLite drops no column that one of them names.
const DOWN: &str = "\
DROP INDEX jobs_live;
DROP INDEX jobs_ended;
DROP INDEX jobs_created;
DROP INDEX jobs_repo_url;
DROP INDEX vms_live;
DROP INDEX vms_ended;
DROP INDEX vms_created;
DROP INDEX vms_backend;
ALTER TABLE jobs DROP COLUMN ending;
ALTER TABLE vms DROP COLUMN ending";
