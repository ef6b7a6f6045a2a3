//! Room for an update beside its row.
//!
//! A row that finds no room for its new version on its page costs an entry in each index. The jobs of a page are queued
//! together and begin together, so that a fillfactor of 85 was too much. With less than these the planner begins to think a
//! filtered walk over the order cheaper than the index of a state or a backend, as the pages of the table are more.

use persist_core::sql::Dialect;

use crate::migration::{Migration, Step};

pub(crate) fn migration(dialect: Dialect) -> Migration {
    let steps = |jobs: u8, vms: u8| match dialect {
        Dialect::Postgres => vec![Step::Sql(format!(
            "ALTER TABLE jobs SET (fillfactor = {jobs});\nALTER TABLE vms SET (fillfactor = {vms})"
        ))],
        // differs: SQLite writes a row where it was.
        Dialect::Sqlite => Vec::new(),
    };
    Migration::new("m20261127_000005_room", steps(60, 70), steps(85, 85)).optional()
}
