//! The contract's methods, each handing over to the file of its aggregate.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use persist_core::{
    CHUNK, Capabilities, Changes, Claim, Deadlines, Event, EventQuery, Health, Inspect, Job, JobQuery,
    Ledger, Marks, Mode, Outcome, Owners, Page, PersistBackend, Prune, Pruned, Result, Schema, UpdateOutcome,
    Vm, VmKey, VmQuery,
};
use rusqlite::Connection;
use uuid::Uuid;

use crate::changes::Watched;
use crate::config::SqliteConfig;
use crate::error::Failed;
use crate::inspect::Inspector;
use crate::ledger::Refused;
use crate::marks::Marked;
use crate::migrate::Migrator;
use crate::owners::Keeper;
use crate::space::Given;
use crate::store::Store;
use crate::worker::{FLUSH, Times};
use crate::{event, job, prune, records, space, vm};

/// A store in a SQLite file, or in the memory of its one connection.
#[derive(Debug)]
pub struct SqliteBackend {
    store: Arc<Store>,
    deadlines: Deadlines,
    migrator: Migrator,
    marks: Marked,
    keeper: Keeper,
    ledger: Refused,
    inspector: Inspector,
    watched: Watched,
}

impl SqliteBackend {
    /// Opens the file, and makes it with `mode=rwc`. Neither migrates nor looks at the tables.
    ///
    /// # Errors
    /// `Unavailable` for a missing file, unless it may be made; `SchemaMismatch` for another program's file,
    /// which is left as it is; `Corrupt` for what is no database; `ReadOnly` and `InvalidUrl` where rights are
    /// missing; `Busy` for a file that others keep locked.
    ///
    /// ```
    /// use persist_core::{DbUrl, PersistBackend as _};
    /// use persist_sqlite::{SqliteBackend, SqliteConfig};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> persist_core::Result<()> {
    /// let DbUrl::Sqlite(url) = "sqlite::memory:".parse()? else { unreachable!() };
    /// let backend = SqliteBackend::open(SqliteConfig::new(url)).await?;
    /// assert_eq!(backend.name(), "sqlite");
    /// backend.close().await
    /// # }
    /// ```
    pub async fn open(config: SqliteConfig) -> Result<Self> {
        let store = Store::open(&config)
            .await
            .map_err(|error| error.during("connect"))?;
        let store = Arc::new(store);
        let deadlines = config.deadlines;
        let migrator = Migrator {
            store: Arc::clone(&store),
            deadlines,
        };
        let marks = Marked {
            store: Arc::clone(&store),
            deadlines,
        };
        let keeper = Keeper {
            store: Arc::clone(&store),
            deadlines,
        };
        let ledger = Refused {
            store: Arc::clone(&store),
            deadlines,
        };
        let inspector = Inspector {
            store: Arc::clone(&store),
            deadlines,
        };
        let watched = Watched {
            store: Arc::clone(&store),
            deadline: deadlines.read,
        };
        Ok(Self {
            inspector,
            store,
            deadlines,
            migrator,
            marks,
            keeper,
            ledger,
            watched,
        })
    }

    #[cfg(test)]
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }
}

#[async_trait]
impl PersistBackend for SqliteBackend {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn apply(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::with_capacity(claims.len());
        self.store.refuse_closed("apply")?;
        for flush in claims.chunks(FLUSH) {
            // The deadline is that of a chunk; this is some of them, for one commit.
            let chunks = u32::try_from(flush.len().div_ceil(CHUNK)).unwrap_or(u32::MAX);
            let times = Times::within(self.deadlines.write.saturating_mul(chunks));
            let merged = self.store.merge(flush.to_vec(), times).await;
            match merged.map_err(|error| error.during("apply")) {
                Ok(of_flush) => outcomes.extend(of_flush),
                Err(error) if outcomes.is_empty() => return Err(error),
                // Flushes before it are stored.
                Err(error) => return Err(error.outcome_as(UpdateOutcome::Unknown)),
            }
        }
        Ok(outcomes)
    }

    async fn job(&self, id: Uuid) -> Result<Option<Job>> {
        self.store
            .read("job", self.deadlines.read, move |connection| {
                job::get(connection, id)
            })
            .await
    }

    async fn vm(&self, key: &VmKey) -> Result<Option<Vm>> {
        let key = key.clone();
        self.store
            .read("vm", self.deadlines.read, move |connection| {
                vm::get(connection, &key)
            })
            .await
    }

    async fn jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        let query = query.check().map_err(|error| error.during("jobs"));
        self.store
            .read("jobs", self.deadlines.read, move |connection| {
                job::list(connection, &query?)
            })
            .await
    }

    async fn vms(&self, query: &VmQuery) -> Result<Page<Vm>> {
        let query = query.check().map_err(|error| error.during("vms"));
        self.store
            .read("vms", self.deadlines.read, move |connection| {
                vm::list(connection, &query?)
            })
            .await
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<Event>> {
        let query = query.clone();
        self.store
            .read("events", self.deadlines.read, move |connection| {
                event::list(connection, &query)
            })
            .await
    }

    async fn prune(&self, request: &Prune) -> Result<Pruned> {
        self.store.refuse_closed("prune")?;
        let request = request.check().map_err(|error| error.during("prune"))?;
        let (begun, deadline) = (Instant::now(), self.deadlines.write);
        let found = prune::find(&self.store, &request, deadline).await;
        let (ids, next) = found.map_err(|error| error.during("prune"))?;
        let left = deadline.saturating_sub(begun.elapsed());
        if request.dry_run {
            let count = move |connection: &Connection| prune::count(connection, &ids);
            let counted = self.store.read("prune", left, count).await?;
            return Ok(counted.ended_at(next));
        }
        let is_part = request.after.is_some();
        let (pruned, freed) = if ids.is_empty() && self.store.can_write() {
            (Pruned::default(), 0)
        } else {
            let remove = move |connection: &Connection| prune::remove(connection, &request, &ids);
            self.store.write("prune", Times::within(left), remove).await?
        };
        let given = if next.is_some() {
            Given::Pages(freed)
        } else {
            Given::All { is_part }
        };
        if let Err(error) = space::give_back(&self.store, given, begun + deadline).await {
            tracing::warn!(kind = error.kind().name(), %error, "what a prune freed stays in the file for now");
        }
        Ok(pruned.ended_at(next))
    }

    async fn health(&self) -> Result<Health> {
        let mut health = self.store.read("health", self.deadlines.health, health).await?;
        health.durable = self.store.is_durable();
        (health.flushes, health.flushed) = self.store.flushed();
        Ok(health)
    }

    async fn close(&self) -> Result<()> {
        self.store.close().await;
        Ok(())
    }
}

impl Capabilities for SqliteBackend {
    fn schema(&self) -> Option<&dyn Schema> {
        Some(&self.migrator)
    }

    fn changes(&self) -> Option<&dyn Changes> {
        Some(&self.watched)
    }

    fn owners(&self) -> Option<&dyn Owners> {
        Some(&self.keeper)
    }

    fn ledger(&self) -> Option<&dyn Ledger> {
        Some(&self.ledger)
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        Some(&self.inspector)
    }

    fn marks(&self) -> Option<&dyn Marks> {
        Some(&self.marks)
    }
}

fn health(connection: &Connection) -> Result<Health, Failed> {
    let begun = Instant::now();
    let mut health = Health::new("sqlite", Mode::Ready);
    health.instance_id = Some(records::instance_id(connection)?);
    let sql = "SELECT max(name) FROM persist_migrations";
    health.schema_version = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    health.latency_us = u64::try_from(begun.elapsed().as_micros()).ok();
    health.server = Some(format!("SQLite {}", rusqlite::version()));
    Ok(health)
}
