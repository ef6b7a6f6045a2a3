//! The schema: our own loop over the one list of migrations.
//!
//! Each migration is one transaction that holds the lock from its beginning, reads the records again, applies,
//! records and commits. Killed at any point, the next start finishes; several starting at once, one works and
//! the others find it done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use persist_core::sql::Dialect;
use persist_core::{Deadlines, Down, Error, ErrorKind, PlannedMigration, Result, Schema, SchemaStatus};
use persist_migration::records::{Records, unconfirmed};
use persist_migration::{Migration, Step, list};
use rusqlite::Connection;

use crate::connection::{Holds, check_owner};
use crate::error::Failed;
use crate::session::end_of;
use crate::store::Store;
use crate::worker::Times;
use crate::{adopt, records};

/// Beyond waiting for the lock: making millions of rows anew takes its time.
const LONGEST: Duration = Duration::from_secs(3_600);
/// The writer waits so long at a time, so that updates get a turn between.
const LOCK: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(50);

/// What one transaction came to.
enum Turn {
    /// It applied or reverted this.
    Done(&'static str),
    /// Nothing is left to do.
    Nothing,
}

/// The [`Schema`] of a SQLite store.
#[derive(Debug)]
pub(crate) struct Migrator {
    pub(crate) store: Arc<Store>,
    pub(crate) deadlines: Deadlines,
}

impl Migrator {
    async fn records(&self, operation: &'static str) -> Result<Records> {
        self.store
            .read(operation, self.deadlines.read, records::read)
            .await
    }

    /// Takes turns until nothing is left, waiting for the lock no longer than set.
    async fn turns(
        &self,
        operation: &'static str,
        work: impl Fn(&Connection) -> Result<Turn, Failed> + Clone + Send + 'static,
    ) -> Result<Vec<String>> {
        let mut done = Vec::new();
        let mut end = end_of(self.deadlines.migration);
        loop {
            let now = Instant::now();
            let times = Times {
                lock: end.min(now + LOCK),
                end: now + LONGEST,
            };
            match self.store.write(operation, times, work.clone()).await {
                Ok(Turn::Nothing) => return Ok(done),
                Ok(Turn::Done(name)) => {
                    tracing::info!(migration = name, operation, "schema changed");
                    done.push(name.to_owned());
                    end = end_of(self.deadlines.migration);
                }
                Err(error) if error.kind() == ErrorKind::Busy && Instant::now() + PAUSE < end => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn known() -> Vec<Migration> {
    list(Dialect::Sqlite)
}

#[async_trait]
impl Schema for Migrator {
    async fn status(&self) -> Result<SchemaStatus> {
        Ok(self.records("migrate status").await?.status(&known()))
    }

    async fn check(&self) -> Result<()> {
        let records = self.records("check").await?;
        records.check(&known()).map_err(|error| error.during("check"))
    }

    async fn up(&self) -> Result<Vec<String>> {
        let records = self.records("migrate up").await?;
        let known = known();
        records
            .check_writer(&known)
            .map_err(|error| error.during("migrate up"))?;
        // Without anything to do no lock is taken and no right is needed.
        if records.pending(&known).next().is_none() {
            return Ok(Vec::new());
        }
        self.turns("migrate up", up_one).await
    }

    async fn down(&self, request: Down) -> Result<Vec<String>> {
        let records = self.records("migrate down").await?;
        let goal = records
            .goal_of_down(&known(), request.steps)
            .map_err(|error| error.during("migrate down"))?;
        self.turns("migrate down", move |connection| {
            down_one(connection, goal, request.confirmed)
        })
        .await
    }

    async fn plan(&self) -> Result<Vec<PlannedMigration>> {
        let records = self.records("migrate plan").await?;
        let known = known();
        let planned = records
            .pending(&known)
            .map(|migration| PlannedMigration::new(migration.name, migration.statements(false)));
        Ok(planned.collect())
    }
}

/// Applies the first pending migration.
fn up_one(connection: &Connection) -> Result<Turn, Failed> {
    let known = known();
    let records = records::read(connection)?;
    records.check_writer(&known)?;
    let Some(migration) = records.pending(&known).next() else {
        return Ok(Turn::Nothing);
    };
    if records.applied.is_empty() {
        // Somebody else may have made it theirs since it was opened.
        check_owner(connection, Holds::Store)?;
        connection.pragma_update(None, "application_id", Holds::Store.application_id())?;
    }
    run(connection, &migration.up)?;
    records::note(connection, migration.name)?;
    Ok(Turn::Done(migration.name))
}

/// Reverts the newest migration, until `goal` are left.
fn down_one(connection: &Connection, goal: usize, confirmed: bool) -> Result<Turn, Failed> {
    let known = known();
    let records = records::read(connection)?;
    let Some(migration) = records.next_down(&known, goal) else {
        return Ok(Turn::Nothing);
    };
    if !confirmed && records::has_history(connection)? {
        return Err(unconfirmed(migration.name).into());
    }
    run(connection, &migration.down)?;
    records::erase(connection, migration.name, records.applied.len() == 1)?;
    Ok(Turn::Done(migration.name))
}

/// The tables that a step drops; a test holds that none of the list is spelled so that it is missed.
fn dropped(sql: &str) -> impl Iterator<Item = &str> {
    let lines = sql.lines().map(str::trim);
    lines.filter_map(|line| {
        line.strip_prefix("DROP TABLE ")
            .map(|table| table.trim_end_matches(';'))
    })
}

/// The bundled SQLite honours foreign keys: `DROP TABLE` deletes all rows first, and with them what of others refers to them.
fn refuse_referred(connection: &Connection, sql: &str) -> Result<(), Failed> {
    for table in dropped(sql) {
        let from = records::referring(connection, table)?;
        let Some(from) = from.iter().find(|from| !from.eq_ignore_ascii_case(table)) else {
            continue;
        };
        let what = format!(
            "a foreign key of table {from} points at {table}, which is to be made anew or dropped, and rows of {from} might go \
             with it; nothing was changed: make {from} anew without it, migrate, and add it again"
        );
        return Err(Error::new(ErrorKind::SchemaMismatch, what).into());
    }
    Ok(())
}

/// Runs the steps of a migration.
pub(crate) fn run(connection: &Connection, steps: &[Step]) -> Result<(), Failed> {
    for step in steps {
        match step {
            // Files are only ever our own.
            Step::Sql(sql) | Step::Own(sql) => {
                refuse_referred(connection, sql)?;
                connection.execute_batch(sql)?;
            }
            Step::Adopt => {
                let rows = adopt::rows(connection)?;
                tracing::debug!(rows, "rows became history");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_that_a_migration_drops_is_seen() {
        let mut seen = 0;
        for migration in known() {
            for sql in [migration.statements(false), migration.reverse_statements()].concat() {
                let tables: Vec<_> = dropped(&sql).collect();
                let is_name = |table: &&str| {
                    table
                        .chars()
                        .all(|letter| letter.is_ascii_lowercase() || letter == '_')
                };
                assert!(tables.iter().all(is_name), "{tables:?}");
                assert_eq!(
                    tables.len(),
                    sql.to_uppercase().matches("DROP TABLE").count(),
                    "{sql}"
                );
                seen += tables.len();
            }
        }
        assert!(seen > 6, "{seen}");
    }
}
