//! What an update has not brought yet is null, and rows know the slots that their values come from.

use persist_core::sql::Dialect;

use crate::migration::{Migration, Step, rebuilt};
use crate::seed::{SQLITE_JOBS, SQLITE_VMS};

pub(crate) fn migration(dialect: Dialect) -> Migration {
    let (up, down) = match dialect {
        Dialect::Postgres => (POSTGRES.to_owned(), POSTGRES_DOWN.to_owned()),
        Dialect::Sqlite => (
            format!(
                "{};\n{}",
                rebuilt("jobs", SQLITE_JOBS_RANKED, &SEED_JOB),
                rebuilt("vms", SQLITE_VMS_RANKED, &SEED_VM)
            ),
            format!(
                "{};\n{}",
                rebuilt("jobs", SQLITE_JOBS, &SEED_JOB.map(without_null)),
                rebuilt("vms", SQLITE_VMS, &SEED_VM.map(without_null))
            ),
        ),
    };
    Migration::new(
        "m20261101_000002_ranks",
        vec![Step::Sql(up)],
        vec![Step::Sql(down)],
    )
}

const POSTGRES: &str = "\
ALTER TABLE jobs ALTER repo_url DROP NOT NULL, ALTER commit_sha DROP NOT NULL, \
ALTER repo_url TYPE text COLLATE \"C\", ALTER commit_sha TYPE text COLLATE \"C\", \
ALTER runs_on TYPE text COLLATE \"C\", ALTER state TYPE text COLLATE \"C\", \
ADD rank bigint, ADD prev_rank bigint, ADD repo_url_rank bigint, ADD commit_sha_rank bigint, \
ADD runs_on_rank bigint, SET (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE vms ALTER backend DROP NOT NULL, \
ALTER domain_name TYPE text COLLATE \"C\", ALTER backend TYPE text COLLATE \"C\", \
ALTER overlay_path TYPE text COLLATE \"C\", ALTER seed_path TYPE text COLLATE \"C\", \
ALTER state TYPE text COLLATE \"C\", \
ADD rank bigint, ADD prev_rank bigint, ADD backend_rank bigint, ADD overlay_path_rank bigint, \
ADD seed_path_rank bigint, SET (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05)";

const POSTGRES_DOWN: &str = "\
UPDATE jobs SET repo_url = coalesce(repo_url, ''), commit_sha = coalesce(commit_sha, '') \
WHERE repo_url IS NULL OR commit_sha IS NULL;
ALTER TABLE jobs DROP rank, DROP prev_rank, DROP repo_url_rank, DROP commit_sha_rank, DROP runs_on_rank, \
ALTER repo_url SET NOT NULL, ALTER commit_sha SET NOT NULL;
UPDATE vms SET backend = '' WHERE backend IS NULL;
ALTER TABLE vms DROP rank, DROP prev_rank, DROP backend_rank, DROP overlay_path_rank, DROP seed_path_rank, \
ALTER backend SET NOT NULL";

/// Jobs with ranks, nothing required of them yet.
pub(crate) const SQLITE_JOBS_RANKED: &str = "\
(request_id BLOB NOT NULL PRIMARY KEY CHECK (length(request_id) = 16), repo_url TEXT, commit_sha TEXT, runs_on TEXT, \
state TEXT, created_at INTEGER, updated_at INTEGER, rank INTEGER, prev_rank INTEGER, repo_url_rank INTEGER, \
commit_sha_rank INTEGER, runs_on_rank INTEGER) STRICT";

/// VMs with ranks, nothing required of them yet.
pub(crate) const SQLITE_VMS_RANKED: &str = "\
(request_id BLOB CHECK (length(request_id) = 16), domain_name TEXT, overlay_path TEXT, seed_path TEXT, backend TEXT, \
state TEXT, created_at INTEGER, updated_at INTEGER, rank INTEGER, prev_rank INTEGER, backend_rank INTEGER, \
overlay_path_rank INTEGER, seed_path_rank INTEGER) STRICT";

const SEED_JOB: [(&str, &str); 7] = [
    ("request_id", "request_id"),
    ("repo_url", "repo_url"),
    ("commit_sha", "commit_sha"),
    ("runs_on", "runs_on"),
    ("state", "state"),
    ("created_at", "created_at"),
    ("updated_at", "updated_at"),
];

const SEED_VM: [(&str, &str); 8] = [
    ("request_id", "request_id"),
    ("domain_name", "domain_name"),
    ("overlay_path", "overlay_path"),
    ("seed_path", "seed_path"),
    ("backend", "backend"),
    ("state", "state"),
    ("created_at", "created_at"),
    ("updated_at", "updated_at"),
];

/// The seed has no nulls in these.
fn without_null((name, value): (&'static str, &'static str)) -> (&'static str, &'static str) {
    let value = match name {
        "repo_url" => "coalesce(repo_url, '')",
        "commit_sha" => "coalesce(commit_sha, '')",
        "backend" => "coalesce(backend, '')",
        _ => value,
    };
    (name, value)
}
