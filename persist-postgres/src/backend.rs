//! The contract's methods, each handing over to the file of its aggregate.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use async_trait::async_trait;
use persist_core::{
    CHUNK, Capabilities, Changes, Claim, Deadlines, Error, ErrorKind, Event, EventOrder, EventQuery, Health,
    Inspect, Job, JobQuery, Ledger, Marks, Mode, Outcome, Owners, Page, PersistBackend, Prune, Pruned,
    Result, Schema, SystemClock, UpdateOutcome, Vm, VmKey, VmQuery,
};
use sqlx::Row as _;
use sqlx::postgres::PgArguments;
use uuid::Uuid;

use crate::changes::Watched;
use crate::config::PostgresConfig;
use crate::connection::{Pool, Scope};
use crate::error::{Phase, classify};
use crate::inspect::Inspector;
use crate::ledger::Refused;
use crate::marks::Marked;
use crate::merge;
use crate::migrate::Migrator;
use crate::owners::Keeper;
use crate::points::Points;
use crate::prune::Lacking;
use crate::session::Session;
use crate::statements::Statements;
use crate::{event, job, prune, vm};

/// A store in a Postgres database, 14 or later.
#[derive(Debug)]
pub struct PostgresBackend {
    pool: Arc<Pool>,
    schema: Option<Arc<str>>,
    prefix: Arc<str>,
    statements: Arc<Statements>,
    jobs: Arc<Points<Uuid, Job>>,
    vms: Arc<Points<VmKey, Vm>>,
    deadlines: Deadlines,
    instance_id: OnceLock<Uuid>,
    migrator: Migrator,
    marks: Marked,
    keeper: Keeper,
    ledger: Refused,
    inspector: Inspector,
    watched: Watched,
    lacking: Arc<Lacking>,
}

impl PostgresBackend {
    /// Connects. Neither migrates nor looks at the schema.
    ///
    /// # Errors
    /// `InvalidUrl`, also for a certificate or key that can't be read and where `persist_pooler` is missing; `Auth`,
    /// also for a server that TLS does not trust; `Unavailable`, `Timeout`; `ReadOnly` for a standby; `Unsupported` for
    /// a server that is too old or is set to another isolation level.
    pub async fn connect(config: PostgresConfig) -> Result<Self> {
        let pool = Pool::new(&config).map_err(|error| error.during("connect"))?;
        pool.probe(config.deadlines.connect)
            .await
            .map_err(|error| error.during("connect"))?;
        let schema: Option<Arc<str>> = config.url.schema.as_deref().map(Arc::from);
        // The name is of a-z, 0-9 and _: it needs no escape, only quotes, should it be a key word.
        let prefix = schema
            .as_ref()
            .map_or_else(String::new, |schema| format!("\"{schema}\"."));
        let prefix: Arc<str> = prefix.into();
        let migrator = Migrator {
            pool: Arc::clone(&pool),
            schema: schema.clone(),
            prefix: Arc::clone(&prefix),
            deadlines: config.deadlines,
        };
        let inspector = Inspector {
            pool: Arc::clone(&pool),
            schema: schema.clone(),
            prefix: Arc::clone(&prefix),
            deadlines: config.deadlines,
            clock: Arc::new(SystemClock),
        };
        let statements = Arc::new(Statements::new(schema.as_deref(), &prefix));
        let marks = Marked {
            pool: Arc::clone(&pool),
            prefix: Arc::clone(&prefix),
            deadlines: config.deadlines,
        };
        Ok(Self {
            migrator,
            marks,
            keeper: Keeper::new(&pool, config.deadlines, &prefix),
            ledger: Refused::new(&pool, config.deadlines, &prefix),
            inspector,
            jobs: Points::over(&pool, &statements, config.deadlines.read, job::by_key),
            vms: Points::over(&pool, &statements, config.deadlines.read, vm::by_key),
            watched: Watched::new(&pool, &prefix, config.deadlines.read),
            statements,
            pool,
            schema,
            prefix,
            deadlines: config.deadlines,
            instance_id: OnceLock::new(),
            lacking: Arc::default(),
        })
    }

    /// The tables as the database describes them now, in the words of [`persist_migration::expected`]: a test holds that
    /// catalogue against it.
    ///
    /// # Errors
    /// Those of a read.
    pub async fn shape(&self) -> Result<persist_migration::shape::Shape> {
        self.inspector.shape().await
    }

    /// Comes first in every call that checks its input: after close that is all there is to say.
    fn refuse_closed(&self, operation: &'static str) -> Result<()> {
        self.pool.refuse_closed().map_err(|error| error.during(operation))
    }

    /// The store's identity, asked for once.
    async fn instance_id(&self) -> Result<Uuid> {
        if let Some(id) = self.instance_id.get() {
            return Ok(*id);
        }
        let prefix = Arc::clone(&self.prefix);
        let id = self
            .pool
            .run("events", self.deadlines.read, Scope::Single, move |session| {
                let sql = format!("SELECT value FROM {prefix}persist_meta WHERE key = 'instance_id'");
                Box::pin(async move {
                    let rows = session.rows(sql, PgArguments::default()).await?;
                    rows.first()
                        .and_then(|row| text(row, 0))
                        .and_then(|text| text.parse().ok())
                        .ok_or_else(no_identity)
                })
            })
            .await?;
        Ok(*self.instance_id.get_or_init(|| id))
    }
}

#[async_trait]
impl PersistBackend for PostgresBackend {
    fn name(&self) -> &'static str {
        "postgres"
    }

    async fn apply(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        self.refuse_closed("apply")?;
        let mut outcomes = Vec::with_capacity(claims.len());
        for chunk in claims.chunks(CHUNK) {
            let (statements, chunk) = (Arc::clone(&self.statements), Arc::<[Claim]>::from(chunk));
            let bell = Arc::clone(&self.watched.bell);
            let merged = self
                .pool
                .run("apply", self.deadlines.write, Scope::Flush, move |session| {
                    let (statements, chunk) = (Arc::clone(&statements), Arc::clone(&chunk));
                    let bell = Arc::clone(&bell);
                    Box::pin(async move {
                        let merged = merge::chunk(session, &statements, &chunk).await;
                        // Here, as each statement has committed, and who called may be gone. Also after an error: some may stand.
                        bell.ring();
                        merged
                    })
                });
            match merged.await {
                Ok(of_chunk) => outcomes.extend(of_chunk),
                Err(error) if outcomes.is_empty() => return Err(error),
                // Chunks before it are stored.
                Err(error) => return Err(error.outcome_as(UpdateOutcome::Unknown)),
            }
        }
        Ok(outcomes)
    }

    async fn job(&self, id: Uuid) -> Result<Option<Job>> {
        self.refuse_closed("job")?;
        self.jobs.get(id).await.map_err(|error| error.during("job"))
    }

    async fn vm(&self, key: &VmKey) -> Result<Option<Vm>> {
        self.refuse_closed("vm")?;
        self.vms
            .get(key.clone())
            .await
            .map_err(|error| error.during("vm"))
    }

    async fn jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        self.refuse_closed("jobs")?;
        let (schema, query) = (
            self.schema.clone(),
            query.check().map_err(|error| error.during("jobs"))?,
        );
        let read = self
            .pool
            .run("jobs", self.deadlines.read, Scope::Single, move |session| {
                let (schema, query) = (schema.clone(), query.clone());
                Box::pin(async move { job::list(session, schema.as_deref(), &query).await })
            });
        read.await
    }

    async fn vms(&self, query: &VmQuery) -> Result<Page<Vm>> {
        self.refuse_closed("vms")?;
        let (schema, query) = (
            self.schema.clone(),
            query.check().map_err(|error| error.during("vms"))?,
        );
        let read = self
            .pool
            .run("vms", self.deadlines.read, Scope::Single, move |session| {
                let (schema, query) = (schema.clone(), query.clone());
                Box::pin(async move { vm::list(session, schema.as_deref(), &query).await })
            });
        read.await
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<Event>> {
        self.refuse_closed("events")?;
        let instance_id = match query.order {
            EventOrder::BySeq => self.instance_id().await?,
            // Its cursors are bound to no store.
            EventOrder::ByKey => Uuid::nil(),
        };
        let position = query.check(instance_id).map_err(|error| error.during("events"))?;
        let (schema, query) = (self.schema.clone(), query.clone());
        let read = self
            .pool
            .run("events", self.deadlines.read, Scope::Single, move |session| {
                let (schema, query, position) = (schema.clone(), query.clone(), position.clone());
                Box::pin(async move {
                    event::list(session, schema.as_deref(), &query, &position, instance_id).await
                })
            });
        read.await
    }

    async fn prune(&self, request: &Prune) -> Result<Pruned> {
        self.refuse_closed("prune")?;
        let request = request.check().map_err(|error| error.during("prune"))?;
        let (begun, deadline) = (Instant::now(), self.deadlines.write);
        let found = prune::find(&self.pool, &self.prefix, &request, deadline).await;
        let (ids, next) = found.map_err(|error| error.during("prune"))?;
        if ids.is_empty() {
            return Ok(Pruned::default().ended_at(next));
        }
        let (prefix, ids) = (Arc::clone(&self.prefix), Arc::<[Uuid]>::from(ids));
        let left = deadline.saturating_sub(begun.elapsed());
        let scope = if request.dry_run {
            Scope::Single
        } else {
            Scope::Transaction
        };
        let lacking = Arc::clone(&self.lacking);
        let pruned = self.pool.run("prune", left, scope, move |session| {
            let (prefix, request, ids) = (Arc::clone(&prefix), request.clone(), Arc::clone(&ids));
            let lacking = Arc::clone(&lacking);
            Box::pin(async move {
                if request.dry_run {
                    prune::count(session, &prefix, &ids).await
                } else {
                    prune::remove(session, &prefix, &request, &ids, &lacking).await
                }
            })
        });
        Ok(pruned.await?.ended_at(next))
    }

    async fn health(&self) -> Result<Health> {
        let prefix = Arc::clone(&self.prefix);
        let asked = self
            .pool
            .run("health", self.deadlines.health, Scope::Single, move |session| {
                let prefix = Arc::clone(&prefix);
                Box::pin(async move { health(session, &prefix).await })
            });
        asked.await
    }

    async fn close(&self) -> Result<()> {
        self.pool.refuse_new();
        // Who waits for a statement was accepted, and has no connection yet.
        self.jobs.idle().await;
        self.vms.idle().await;
        self.pool.close().await;
        Ok(())
    }
}

impl Capabilities for PostgresBackend {
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

async fn health(session: &mut Session, prefix: &str) -> Result<Health> {
    let begun = Instant::now();
    let sql = format!(
        "SELECT current_setting('server_version'), current_setting('synchronous_commit'), \
         (SELECT value FROM {prefix}persist_meta WHERE key = 'instance_id'), \
         (SELECT max(name) FROM {prefix}persist_migrations)"
    );
    let rows = session.rows(sql, PgArguments::default()).await?;
    let row = rows.first().ok_or_else(no_identity)?;
    let mut health = Health::new("postgres", Mode::Ready);
    health.latency_us = u64::try_from(begun.elapsed().as_micros()).ok();
    health.server = text(row, 0).map(|version| format!("PostgreSQL {version}"));
    let commit: String = row
        .try_get(1)
        .map_err(|error| classify(&error, Phase::Statement))?;
    health.durable = !matches!(commit.as_str(), "off" | "local");
    health.instance_id = Some(
        text(row, 2)
            .and_then(|text| text.parse().ok())
            .ok_or_else(no_identity)?,
    );
    health.schema_version = text(row, 3);
    Ok(health)
}

fn text(row: &sqlx::postgres::PgRow, column: usize) -> Option<String> {
    row.try_get::<Option<String>, _>(column).ok().flatten()
}

fn no_identity() -> Error {
    Error::new(
        ErrorKind::SchemaMismatch,
        "the store has no identity; run persist migrate up",
    )
}
