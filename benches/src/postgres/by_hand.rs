//! What an orchestrator writes without us: begin, upsert the row, insert the history, commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use persist::{Claim, SystemClock};
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveValue::Set, ConnectOptions, Database, DatabaseConnection, EntityTrait as _, TransactionTrait as _,
};
use sqlx::postgres::{PgPool, PgPoolOptions};

use super::server::Server;
use crate::contest::Contender;
use crate::slice::{Slice, closed_loop};
use crate::workload;

#[expect(unreachable_pub, reason = "the derive macros make what they make public")]
mod jobs {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, DeriveEntityModel)]
    #[sea_orm(table_name = "jobs")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub request_id: Uuid,
        pub repo_url: Option<String>,
        pub commit_sha: Option<String>,
        pub runs_on: Option<String>,
        pub state: String,
        pub created_at: ChronoDateTimeUtc,
        pub updated_at: ChronoDateTimeUtc,
        pub rank: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

#[expect(unreachable_pub, reason = "the derive macros make what they make public")]
mod events {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, DeriveEntityModel)]
    #[sea_orm(table_name = "events")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub request_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub domain_name: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub rank: i64,
        pub state: String,
        pub at: ChronoDateTimeUtc,
        pub actor: Option<String>,
        pub repo_url: Option<String>,
        pub commit_sha: Option<String>,
        pub runs_on: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

fn claim(caller: u64, nth: u64) -> Claim {
    let (id, attempt) = workload::uniform(caller, nth);
    workload::queued(id, attempt)
        .check(&SystemClock)
        .expect("it is valid")
}

fn value(text: &str) -> Option<String> {
    Some(text.to_owned())
}

pub(crate) struct SeaOrm {
    pub(crate) server: Arc<Server>,
    pub(crate) callers: u64,
    pub(crate) length: Duration,
    pub(crate) tuned: bool,
}

impl SeaOrm {
    async fn connect(&self) -> DatabaseConnection {
        let mut options = ConnectOptions::new(self.server.url());
        options.sqlx_logging(false);
        // A thousand callers wait longer than the default allows.
        options.acquire_timeout(Duration::from_secs(60));
        if self.tuned {
            options
                .max_connections(16)
                .min_connections(16)
                .test_before_acquire(false);
        }
        Database::connect(options).await.expect("it connects")
    }
}

/// Says how many slots it took: one, or none where the attempt is there already.
async fn by_entities(connection: &DatabaseConnection, claim: &Claim) -> Result<u64, sea_orm::DbErr> {
    let id = claim.subject().request_id();
    let transaction = connection.begin().await?;
    let job = jobs::ActiveModel {
        request_id: Set(id),
        repo_url: Set(value(workload::REPO_URL)),
        commit_sha: Set(value(workload::COMMIT)),
        runs_on: Set(value(workload::RUNS_ON)),
        state: Set(claim.state().name().to_owned()),
        created_at: Set(claim.at()),
        updated_at: Set(claim.at()),
        rank: Set(claim.rank().get()),
    };
    let update = [jobs::Column::State, jobs::Column::UpdatedAt, jobs::Column::Rank];
    jobs::Entity::insert(job)
        .on_conflict(
            OnConflict::column(jobs::Column::RequestId)
                .update_columns(update)
                .to_owned(),
        )
        .exec_without_returning(&transaction)
        .await?;
    let event = events::ActiveModel {
        request_id: Set(id),
        domain_name: Set(String::new()),
        rank: Set(claim.rank().get()),
        state: Set(claim.state().name().to_owned()),
        at: Set(claim.at()),
        actor: Set(value("bench")),
        repo_url: Set(value(workload::REPO_URL)),
        commit_sha: Set(value(workload::COMMIT)),
        runs_on: Set(value(workload::RUNS_ON)),
    };
    let key = [
        events::Column::RequestId,
        events::Column::DomainName,
        events::Column::Rank,
    ];
    let slots = events::Entity::insert(event)
        .on_conflict(OnConflict::columns(key).do_nothing().to_owned())
        .exec_without_returning(&transaction)
        .await?;
    transaction.commit().await?;
    Ok(slots)
}

#[async_trait]
impl Contender for SeaOrm {
    fn name(&self) -> String {
        if self.tuned {
            "SeaORM, 16 connections, no ping".into()
        } else {
            "SeaORM, its defaults".into()
        }
    }

    fn callers(&self) -> u64 {
        self.callers
    }

    async fn slice(&mut self) -> Slice {
        self.server.fresh().await;
        let connection = self.connect().await;
        let shared = connection.clone();
        let slots = Arc::new(AtomicU64::new(0));
        let taken = Arc::clone(&slots);
        let slice = closed_loop(self.callers, self.length, move |caller, nth| {
            let (connection, slots) = (shared.clone(), Arc::clone(&taken));
            async move {
                let written = by_entities(&connection, &claim(caller, nth)).await;
                slots.fetch_add(written.expect("it is written"), Ordering::Relaxed);
            }
        })
        .await;
        connection.close().await.expect("it closes");
        // Its rows are those of the last writer, not of the highest slot: the price of an upsert without a guard.
        assert_eq!(self.server.slots().await, slots.load(Ordering::Relaxed));
        slice
    }
}

pub(crate) struct Sqlx {
    pub(crate) server: Arc<Server>,
    pub(crate) callers: u64,
    pub(crate) length: Duration,
}

const JOB: &str = "INSERT INTO jobs (request_id, repo_url, commit_sha, runs_on, state, created_at, updated_at, rank) \
    VALUES ($1, $2, $3, $4, $5, $6, $6, $7) ON CONFLICT (request_id) DO UPDATE SET state = excluded.state, \
    updated_at = excluded.updated_at, rank = excluded.rank WHERE excluded.rank > jobs.rank";
const EVENT: &str = "INSERT INTO events (request_id, domain_name, rank, state, at, actor, repo_url, commit_sha, runs_on) \
    VALUES ($1, '', $2, $3, $4, 'bench', $5, $6, $7) ON CONFLICT DO NOTHING";

/// As [`by_entities`].
async fn by_statements(pool: &PgPool, claim: &Claim) -> Result<u64, sqlx::Error> {
    let (id, state) = (claim.subject().request_id(), claim.state().name());
    let mut transaction = pool.begin().await?;
    sqlx::query(JOB)
        .bind(id)
        .bind(workload::REPO_URL)
        .bind(workload::COMMIT)
        .bind(workload::RUNS_ON)
        .bind(state)
        .bind(claim.at())
        .bind(claim.rank().get())
        .execute(&mut *transaction)
        .await?;
    let event = sqlx::query(EVENT)
        .bind(id)
        .bind(claim.rank().get())
        .bind(state)
        .bind(claim.at())
        .bind(workload::REPO_URL)
        .bind(workload::COMMIT)
        .bind(workload::RUNS_ON)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(event.rows_affected())
}

#[async_trait]
impl Contender for Sqlx {
    fn name(&self) -> String {
        "sqlx, a transaction by hand, 16 connections".into()
    }

    fn callers(&self) -> u64 {
        self.callers
    }

    async fn slice(&mut self) -> Slice {
        self.server.fresh().await;
        let pool = PgPoolOptions::new()
            .max_connections(16)
            .min_connections(16)
            .test_before_acquire(false)
            .acquire_timeout(Duration::from_secs(60));
        let pool = pool.connect(&self.server.url()).await.expect("it connects");
        let shared = pool.clone();
        let slots = Arc::new(AtomicU64::new(0));
        let taken = Arc::clone(&slots);
        let slice = closed_loop(self.callers, self.length, move |caller, nth| {
            let (pool, slots) = (shared.clone(), Arc::clone(&taken));
            async move {
                let written = by_statements(&pool, &claim(caller, nth)).await;
                slots.fetch_add(written.expect("it is written"), Ordering::Relaxed);
            }
        })
        .await;
        pool.close().await;
        self.server.check(slots.load(Ordering::Relaxed)).await;
        slice
    }
}
