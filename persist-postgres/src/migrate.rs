//! The schema: our own loop over the one list of migrations.
//!
//! Each migration is one transaction that first takes a lock by polling, reads the records again, applies,
//! records and commits. Killed at any point, the next start finishes; several starting at once, one works
//! and the others find it done.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use persist_core::sql::Dialect;
use persist_core::{
    Deadlines, Down, Error, ErrorKind, PlannedMigration, Result, Schema, SchemaStatus, UpdateOutcome, end_of,
};
use persist_migration::records::{Records, unconfirmed};
use persist_migration::{Migration, Step};
use sqlx::Row as _;
use sqlx::postgres::PgArguments;
use tokio::time::Instant;

use crate::connection::{Pool, Scope};
use crate::error::Phase;
use crate::records;
use crate::session::Session;
use crate::{adopt, lock, seed};

/// Beyond waiting for the lock: adopting millions of rows takes its time, a frozen server must not take for ever.
const LONGEST: Duration = Duration::from_secs(3_600);
const LONGEST_PAUSE: u64 = 250;

/// Which way the schema is taken.
#[derive(Clone, Copy)]
enum Way {
    Up,
    Down,
}

impl Way {
    fn operation(self) -> &'static str {
        match self {
            Self::Up => "migrate up",
            Self::Down => "migrate down",
        }
    }
}

/// What one transaction came to.
enum Turn {
    /// It applied or reverted this.
    Done(&'static str),
    /// Nothing is left to do.
    Nothing,
}

/// The [`Schema`] of a Postgres store.
#[derive(Debug, Clone)]
pub(crate) struct Migrator {
    pub(crate) pool: Arc<Pool>,
    pub(crate) schema: Option<Arc<str>>,
    pub(crate) prefix: Arc<str>,
    pub(crate) deadlines: Deadlines,
}

impl Migrator {
    async fn records(&self) -> Result<Records> {
        let prefix = Arc::clone(&self.prefix);
        let read = self
            .pool
            .run("migrate", self.deadlines.read, Scope::Single, move |session| {
                let prefix = Arc::clone(&prefix);
                Box::pin(async move { records::read(session, &prefix).await })
            });
        read.await
    }

    async fn finds_seed(&self) -> Result<bool> {
        let schema = self.schema.clone();
        let read = self.pool.run(
            "migrate plan",
            self.deadlines.read,
            Scope::Single,
            move |session| {
                let schema = schema.clone();
                Box::pin(async move { seed::seed_tables_in(session, schema.as_deref()).await })
            },
        );
        read.await
    }

    /// Takes turns until nothing is left, waiting for the lock no longer than set.
    async fn turns<W>(&self, way: Way, work: W) -> Result<Vec<String>>
    where
        W: for<'s> Fn(&'s mut Session) -> crate::connection::Work<'s, Turn> + Clone + Send + Sync + 'static,
    {
        let operation = way.operation();
        let mut done = Vec::new();
        let mut end = end_of(self.deadlines.migration);
        loop {
            let work = work.clone();
            let schema = self.schema.clone();
            let ask = self.deadlines.read;
            let turn = self
                .pool
                .run(operation, LONGEST, Scope::Transaction, move |session| {
                    let (work, schema) = (work.clone(), schema.clone());
                    Box::pin(async move {
                        session.phase = Phase::Migrate;
                        let turn = take_turn(session, schema.as_deref(), ask, &work).await;
                        session.phase = Phase::Statement;
                        turn
                    })
                });
            let waiting_for = match turn.await {
                Ok(Turn::Nothing) => return Ok(done),
                Ok(Turn::Done(name)) => {
                    tracing::info!(migration = name, operation, "schema changed");
                    done.push(name.to_owned());
                    end = end_of(self.deadlines.migration);
                    continue;
                }
                // Somebody else's turn, or a table in use by others: give way, and try again.
                Err(error) if error.kind() == ErrorKind::Busy => error,
                Err(error)
                    if error.kind() == ErrorKind::Auth && error.context("sqlstate") == Some("42501") =>
                {
                    let missing = self.missing_right(way).await?;
                    return Err(missing.during(operation).caused_by(error));
                }
                Err(error) => return Err(error),
            };
            let pause = Duration::from_millis(rand::random_range(LONGEST_PAUSE / 5..=LONGEST_PAUSE));
            if Instant::now() + pause > end {
                return Err(waiting_for.during(operation));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// What is said where the server refused for want of a right.
    async fn missing_right(&self, way: Way) -> Result<Error> {
        if matches!(way, Way::Down) {
            let what = "the role may not change the schema; its owner must run persist migrate down";
            return Ok(Error::new(ErrorKind::Auth, what));
        }
        if !self.records().await?.applied.is_empty() {
            let what = "the schema is older than this program, and the role may not change it; its owner must run \
                        persist migrate up";
            return Ok(Error::new(ErrorKind::SchemaMismatch, what));
        }
        let schema = self.schema.as_deref().unwrap_or("public");
        let what = format!(
            "the role may not create the tables; an owner must run GRANT USAGE, CREATE ON SCHEMA {schema} TO it \
             (or, where the schema is missing, GRANT CREATE ON DATABASE)"
        );
        Ok(Error::new(ErrorKind::Auth, what))
    }
}

/// Locks and works. `Busy` says who holds the lock.
async fn take_turn<W>(session: &mut Session, schema: Option<&str>, ask: Duration, work: &W) -> Result<Turn>
where
    W: for<'s> Fn(&'s mut Session) -> crate::connection::Work<'s, Turn>,
{
    let asked = async {
        // The role's own timeouts must not end a migration half-way, nor a lock be waited for under load.
        session
            .script(
                "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; \
                 SET LOCAL lock_timeout = '2s'",
            )
            .await?;
        let held = lock::take(session, schema).await?;
        if let (None, Some(schema)) = (&held, schema) {
            lock::enter_schema(session, schema).await?;
        }
        Ok(held)
    };
    // Only work under the lock may take long.
    let asked = tokio::time::timeout(ask, asked).await;
    let what = "no answer while asking for the lock of migrations";
    let late = || Error::new(ErrorKind::Timeout, what).outcome_as(UpdateOutcome::NotApplied);
    match asked.unwrap_or_else(|_| Err(late()))? {
        // An error, because nothing was done: a COMMIT could be waited for, and of a server that froze for long.
        Some(by) => Err(Error::new(
            ErrorKind::Busy,
            format!("a migration is in progress {by}"),
        )),
        None => work(session).await,
    }
}

#[async_trait]
impl Schema for Migrator {
    async fn status(&self) -> Result<SchemaStatus> {
        Ok(self.records().await?.status(&known()))
    }

    async fn check(&self) -> Result<()> {
        let records = self.records().await?;
        records.check(&known()).map_err(|error| error.during("check"))
    }

    async fn up(&self) -> Result<Vec<String>> {
        let records = self.records().await?;
        let known = known();
        records
            .check_writer(&known)
            .map_err(|error| error.during("migrate up"))?;
        // Without anything to do no lock is taken and no right is needed.
        if records.pending(&known).next().is_none() {
            return Ok(Vec::new());
        }
        self.turns(Way::Up, |session| Box::pin(up_one(session))).await
    }

    async fn down(&self, request: Down) -> Result<Vec<String>> {
        let records = self.records().await?;
        let known = known();
        let goal = records
            .goal_of_down(&known, request.steps)
            .map_err(|error| error.during("migrate down"))?;
        let confirmed = request.confirmed;
        self.turns(Way::Down, move |session| {
            Box::pin(down_one(session, goal, confirmed))
        })
        .await
    }

    async fn plan(&self) -> Result<Vec<PlannedMigration>> {
        let records = self.records().await?;
        let known = known();
        let adopts = if records.applied.is_empty() {
            self.finds_seed().await?
        } else {
            false
        };
        let planned = records.pending(&known).map(|migration| {
            PlannedMigration::new(migration.name, migration.statements(adopts || records.adopted))
        });
        Ok(planned.collect())
    }
}

/// Applies the first pending migration, in the locked transaction.
async fn up_one(session: &mut Session) -> Result<Turn> {
    let known = known();
    let mut records = records::read(session, "").await?;
    records.check_writer(&known)?;
    let Some(migration) = records.pending(&known).next() else {
        return Ok(Turn::Nothing);
    };
    // Asked before anything is tried: a role of an application is not to be seen trying.
    let sql = "SELECT has_schema_privilege(current_schema(), 'CREATE')";
    let rows = session.rows(sql, PgArguments::default()).await?;
    if !rows
        .first()
        .is_some_and(|row| row.try_get::<bool, _>(0).unwrap_or_default())
    {
        let error = Error::new(ErrorKind::Auth, "the role may not create anything in the schema");
        return Err(error.with("sqlstate", "42501"));
    }
    if records.applied.is_empty() {
        records.adopted = seed::seed_tables(session).await?;
        if records.adopted {
            // Before anything is altered, not when the rows' turn comes.
            seed::refuse_strangers(session).await?;
            adopt::check(session).await?;
        }
    }
    run(session, &migration.up, records.adopted)
        .await
        .map_err(|error| in_the_way(error, migration.name))?;
    let first = records.applied.is_empty();
    records::note(session, migration.name, first, first && records.adopted).await?;
    Ok(Turn::Done(migration.name))
}

/// Under the lock nobody of ours makes the same: what is there is another's, and waiting does not help.
fn in_the_way(error: Error, name: &str) -> Error {
    if !matches!(error.context("sqlstate"), Some("42P07" | "42710")) {
        return error;
    }
    let what = format!(
        "a table or an index of a name that migration {name} needs is there already, and not of its making; rename it, or keep \
         the store in a schema of its own (persist_schema=)"
    );
    Error::new(ErrorKind::SchemaMismatch, what).caused_by(error)
}

/// Reverts the newest migration, until `goal` are left.
async fn down_one(session: &mut Session, goal: usize, confirmed: bool) -> Result<Turn> {
    let known = known();
    let records = records::read(session, "").await?;
    let Some(migration) = records.next_down(&known, goal) else {
        return Ok(Turn::Nothing);
    };
    if !confirmed && records::has_history(session).await? {
        return Err(unconfirmed(migration.name));
    }
    run(session, &migration.down, records.adopted).await?;
    records::erase(session, migration.name, records.applied.len() == 1).await?;
    Ok(Turn::Done(migration.name))
}

fn known() -> Vec<Migration> {
    persist_migration::list(Dialect::Postgres)
}

async fn run(session: &mut Session, steps: &[Step], adopted: bool) -> Result<()> {
    for step in steps {
        match step {
            Step::Sql(sql) => session.script(sql).await?,
            Step::Own(sql) if !adopted => session.script(sql).await?,
            Step::Own(_) => {}
            Step::Adopt => {
                let rows = adopt::rows(session).await?;
                tracing::debug!(rows, "rows became history");
            }
        }
    }
    Ok(())
}
