//! Who beats: the orchestrators that see to what is live.

use persist_core::sql::Dialect;

use crate::migration::{Migration, Step};

pub(crate) fn migration(dialect: Dialect) -> Migration {
    let table = match dialect {
        // A beat rewrites its row: with room on the page it costs no entry in the index.
        Dialect::Postgres => {
            "CREATE TABLE persist_owners (actor text COLLATE \"C\" PRIMARY KEY, epoch bigint NOT NULL, \
             started_at timestamptz NOT NULL, beat_at timestamptz NOT NULL, valid_until timestamptz NOT NULL) \
             WITH (fillfactor = 50)"
        }
        Dialect::Sqlite => {
            "CREATE TABLE persist_owners (actor TEXT NOT NULL PRIMARY KEY, epoch INTEGER NOT NULL, \
             started_at INTEGER NOT NULL, beat_at INTEGER NOT NULL, valid_until INTEGER NOT NULL) \
             STRICT, WITHOUT ROWID"
        }
    };
    Migration::new(
        "m20261127_000007_owners",
        vec![Step::Sql(table.to_owned())],
        vec![Step::Sql("DROP TABLE persist_owners".to_owned())],
    )
    .optional()
}
