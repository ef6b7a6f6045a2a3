//! What was refused: states that were tried of slots that held others.

use persist_core::sql::Dialect;

use crate::migration::{Migration, Step};

pub(crate) fn migration(dialect: Dialect) -> Migration {
    let table = match dialect {
        Dialect::Postgres => {
            "CREATE TABLE refusals (request_id uuid NOT NULL, domain_name text COLLATE \"C\" NOT NULL, \
             rank bigint NOT NULL, tried text COLLATE \"C\" NOT NULL, standing text COLLATE \"C\" NOT NULL, \
             line text COLLATE \"C\" NOT NULL, tries bigint NOT NULL, first_at timestamptz NOT NULL, \
             last_at timestamptz NOT NULL, PRIMARY KEY (request_id, domain_name, rank, tried))"
                .to_owned()
        }
        Dialect::Sqlite => "CREATE TABLE refusals (request_id BLOB NOT NULL, domain_name TEXT NOT NULL, \
             rank INTEGER NOT NULL, tried TEXT NOT NULL, standing TEXT NOT NULL, line TEXT NOT NULL, \
             tries INTEGER NOT NULL, first_at INTEGER NOT NULL, last_at INTEGER NOT NULL, \
             PRIMARY KEY (request_id, domain_name, rank, tried)) STRICT, WITHOUT ROWID"
            .to_owned(),
    };
    let index = "CREATE INDEX refusals_last ON refusals (last_at, request_id, domain_name, rank, tried)";
    Migration::new(
        "m20261128_000008_ledger",
        vec![Step::Sql(table), Step::Sql(index.to_owned())],
        vec![Step::Sql("DROP TABLE refusals".to_owned())],
    )
    .optional()
}
