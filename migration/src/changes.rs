//! The order in which changes are read by those who watch.

use persist_core::sql::Dialect;

use crate::migration::{Migration, Step};

pub(crate) fn migration(dialect: Dialect) -> Migration {
    let (up, down) = match dialect {
        // Sequence numbers become visible out of order; those of one transaction do so together.
        Dialect::Postgres => (
            vec![Step::Sql(
                "CREATE INDEX events_xid ON events (xid, seq)".to_owned(),
            )],
            vec![Step::Sql("DROP INDEX events_xid".to_owned())],
        ),
        // differs: with one writer at a time the sequence is that order.
        Dialect::Sqlite => (Vec::new(), Vec::new()),
    };
    Migration::new("m20261127_000006_changes", up, down).optional()
}
