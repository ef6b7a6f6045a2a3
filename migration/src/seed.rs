//! The two tables that an orchestrator of before already has.

use persist_core::sql::Dialect;

use crate::migration::{Migration, Step};

pub(crate) fn migration(dialect: Dialect) -> Migration {
    let tables = match dialect {
        Dialect::Postgres => POSTGRES.to_owned(),
        Dialect::Sqlite => format!("CREATE TABLE jobs {SQLITE_JOBS};\nCREATE TABLE vms {SQLITE_VMS}"),
    };
    let drop = "DROP TABLE jobs;\nDROP TABLE vms".to_owned();
    Migration::new(
        "m20261101_000001_seed",
        vec![Step::Own(tables)],
        vec![Step::Own(drop)],
    )
}

const POSTGRES: &str = "\
CREATE TABLE jobs (request_id uuid PRIMARY KEY, repo_url text NOT NULL, commit_sha text NOT NULL, runs_on text, \
state text, created_at timestamptz, updated_at timestamptz);
CREATE TABLE vms (request_id uuid, domain_name text, overlay_path text, seed_path text, backend text NOT NULL, \
state text, created_at timestamptz, updated_at timestamptz)";

/// The jobs of the seed.
pub(crate) const SQLITE_JOBS: &str = "\
(request_id BLOB NOT NULL PRIMARY KEY CHECK (length(request_id) = 16), repo_url TEXT NOT NULL, \
commit_sha TEXT NOT NULL, runs_on TEXT, state TEXT, created_at INTEGER, updated_at INTEGER) STRICT";

/// The VMs of the seed.
pub(crate) const SQLITE_VMS: &str = "\
(request_id BLOB CHECK (length(request_id) = 16), domain_name TEXT, overlay_path TEXT, seed_path TEXT, \
backend TEXT NOT NULL, state TEXT, created_at INTEGER, updated_at INTEGER) STRICT";
