//! What a database says of its own schema, and what that means for this program.

use persist_core::{Error, ErrorKind, MigrationStatus, Result, SchemaStatus, Timestamp};

use crate::VERSION;
use crate::migration::Migration;

/// One applied migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// When its transaction began, by the database's clock.
    pub applied_at: Timestamp,
}

/// The content of `persist_migrations`, and of `persist_meta` as far as it is about versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// By name, which is by age.
    pub applied: Vec<Record>,
    /// Whether the first migration found the seed's tables.
    pub adopted: bool,
    /// The lowest [`VERSION`] that can read this schema; `None` where nothing is said.
    pub min_reader: Option<u32>,
    /// The lowest [`VERSION`] that can write this schema; `None` where nothing is said.
    pub min_writer: Option<u32>,
}

impl Records {
    /// Whether this migration is applied.
    pub fn has(&self, name: &str) -> bool {
        self.applied.iter().any(|record| record.name == name)
    }

    /// Known migrations that are not applied, in their order.
    pub fn pending<'k>(&self, known: &'k [Migration]) -> impl Iterator<Item = &'k Migration> {
        known.iter().filter(|migration| !self.has(migration.name))
    }

    /// Applied migrations that only a newer program knows.
    pub fn newer<'r>(&'r self, known: &[Migration]) -> impl Iterator<Item = &'r Record> {
        self.applied
            .iter()
            .filter(|record| !known.iter().any(|migration| migration.name == record.name))
    }

    /// Whether this program can read and write the schema as it stands, be it without a migration that is optional.
    ///
    /// # Errors
    /// `SchemaMismatch` that names the command to run, or the version that is needed.
    pub fn check(&self, known: &[Migration]) -> Result<()> {
        self.check_writer(known)?;
        let needed = self.pending(known).filter(|migration| !migration.optional);
        let pending: Vec<_> = needed.map(|migration| migration.name).collect();
        if pending.is_empty() {
            return Ok(());
        }
        let what = format!("the schema lacks {}; run persist migrate up", pending.join(", "));
        Err(Error::new(ErrorKind::SchemaMismatch, what))
    }

    /// Whether a newer schema still lets this program work.
    ///
    /// # Errors
    /// `SchemaMismatch` that says which version is needed.
    pub fn check_writer(&self, known: &[Migration]) -> Result<()> {
        if self.newer(known).next().is_none() {
            return Ok(());
        }
        let needed = self.min_reader.max(self.min_writer).unwrap_or(u32::MAX);
        if needed <= VERSION {
            return Ok(());
        }
        let what = format!(
            "the schema needs a program of schema version {needed} or later, this one has {VERSION}; upgrade it"
        );
        Err(Error::new(ErrorKind::SchemaMismatch, what).with("needed", needed))
    }

    /// Whether the newest `steps` can be reverted (`None` for all), and to how many migrations.
    ///
    /// # Errors
    /// `SchemaMismatch` where a migration is applied that only a newer program can revert.
    pub fn goal_of_down(&self, known: &[Migration], steps: Option<u32>) -> Result<usize> {
        if let Some(newer) = self.newer(known).next() {
            let what = format!(
                "the schema has {}, which only a newer program can revert",
                newer.name
            );
            return Err(Error::new(ErrorKind::SchemaMismatch, what));
        }
        let steps = steps.map_or(usize::MAX, |steps| steps as usize);
        Ok(self.applied.len().saturating_sub(steps))
    }

    /// The migration that the next step down reverts, until `goal` are left.
    pub fn next_down<'k>(&self, known: &'k [Migration], goal: usize) -> Option<&'k Migration> {
        let newest = known.iter().rev().find(|migration| self.has(migration.name));
        newest.filter(|_| self.applied.len() > goal)
    }

    /// All of it for people: known migrations in their order, then those of a newer program.
    pub fn status(&self, known: &[Migration]) -> SchemaStatus {
        let of_known = known.iter().map(|migration| {
            let applied = self.applied.iter().find(|record| record.name == migration.name);
            MigrationStatus::new(migration.name, applied.map(|record| record.applied_at), true)
        });
        let newer = self.newer(known);
        let newer =
            newer.map(|record| MigrationStatus::new(record.name.clone(), Some(record.applied_at), false));
        SchemaStatus::new(of_known.chain(newer).collect(), self.min_reader, self.min_writer)
    }
}

/// The error for reverting a migration of a store with history without a yes.
pub fn unconfirmed(name: &str) -> Error {
    Error::invalid(
        "confirmed",
        format!("what {name} has added would be lost, with the rows in it; say yes to that"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list;
    use persist_core::sql::Dialect;
    use persist_core::time;

    fn records(names: &[&str], min: Option<u32>) -> Records {
        let at = time::from_micros(0).unwrap();
        let applied = names
            .iter()
            .map(|name| Record {
                name: (*name).to_owned(),
                applied_at: at,
            })
            .collect();
        Records {
            applied,
            adopted: false,
            min_reader: min,
            min_writer: min,
        }
    }

    #[test]
    fn what_the_records_say_decides() {
        let known = list(Dialect::Sqlite);
        let names: Vec<_> = known.iter().map(|migration| migration.name).collect();
        records(&names, Some(4)).check(&known).unwrap();
        records(&names[..4], Some(4)).check(&known).unwrap();
        let error = records(&names[..2], None).check(&known).unwrap_err();
        let lacks = "lacks m20261101_000003_history, m20261101_000004_endings;";
        assert!(error.to_string().contains(lacks), "{error}");
        let with_newer = [&names[..], &["m9"]].concat();
        records(&with_newer, Some(VERSION)).check(&known).unwrap();
        let error = records(&with_newer, Some(9)).check(&known).unwrap_err();
        assert_eq!(
            (error.kind(), error.context("needed")),
            (ErrorKind::SchemaMismatch, Some("9"))
        );
        records(&with_newer, None).check(&known).unwrap_err();
        records(&with_newer, Some(VERSION))
            .goal_of_down(&known, None)
            .unwrap_err();
        let all = records(&names, Some(4));
        assert_eq!(all.goal_of_down(&known, Some(1)).unwrap(), names.len() - 1);
        assert_eq!(all.goal_of_down(&known, Some(9)).unwrap(), 0);
        assert_eq!(all.next_down(&known, 3).unwrap().name, names[names.len() - 1]);
        assert!(all.next_down(&known, names.len()).is_none());
    }
}
