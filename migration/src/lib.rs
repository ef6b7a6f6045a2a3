//! The migrations of persist: one [`list`], the same names in the same order for Postgres and for SQLite.
//!
//! A [`Migration`] is data: what it runs on the way up and on the way down. The loop that runs it under a lock
//! belongs to each backend; what the loop decides by is shared in [`records`], and how a row of the seed's tables
//! becomes history in [`adopt`]. `cargo run -p persist-migration` prints the SQL of either database.
//!
//! The list is append-only: one change a migration, none edited once it has landed.
//!
//! ```
//! use persist_core::sql::Dialect;
//! let names = |dialect| persist_migration::list(dialect).into_iter().map(|m| m.name).collect::<Vec<_>>();
//! assert_eq!(names(Dialect::Postgres), names(Dialect::Sqlite));
//! ```

pub mod adopt;
mod changes;
pub mod drift;
mod endings;
pub mod expected;
mod history;
pub mod known;
mod ledger;
mod migration;
mod owners;
mod ranks;
pub mod records;
mod room;
mod seed;
pub mod shape;

pub use history::SQLITE_UUID;
pub use migration::{Migration, Step, rebuilt};

use persist_core::sql::Dialect;

/// The version that `min_reader` and `min_writer` of a database are compared with: how many migrations are known.
pub const VERSION: u32 = 8;

/// The migrations for this database, in their order.
pub fn list(dialect: Dialect) -> Vec<Migration> {
    vec![
        seed::migration(dialect),
        ranks::migration(dialect),
        history::migration(dialect),
        endings::migration(dialect),
        room::migration(dialect),
        changes::migration(dialect),
        owners::migration(dialect),
        ledger::migration(dialect),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_counts_the_list_and_names_ascend() {
        for dialect in [Dialect::Postgres, Dialect::Sqlite] {
            let list = list(dialect);
            assert_eq!(list.len(), VERSION as usize);
            assert!(
                list.is_sorted_by(|a, b| a.name < b.name),
                "records are ordered by name"
            );
        }
    }

    // Migrations are never edited once landed: a difference here is a new migration that was put into an old one.
    #[test]
    fn the_sql_of_every_migration_is_as_it_landed() {
        for (name, dialect) in [("postgres", Dialect::Postgres), ("sqlite", Dialect::Sqlite)] {
            let text: Vec<_> = list(dialect)
                .iter()
                .flat_map(|m| {
                    [
                        m.name.to_owned(),
                        m.statements(false).join(";\n"),
                        m.reverse_statements().join(";\n"),
                    ]
                })
                .collect();
            insta::assert_snapshot!(name, text.join("\n\n"));
        }
    }
}
