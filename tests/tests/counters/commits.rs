//! Commits for each update.

use persist_tests::cluster::{self, shared};
use persist_tests::place::{Database, Place};
use persist_tests::process;
use sqlx::{Connection as _, PgConnection, Row as _};

use crate::load::{lives, opened};

/// Most commits of a handle that are no flush: opening looks at the schema, each of its connections is asked for
/// its settings and prepares a statement, `health` reads once. These were 17 (PostgreSQL 15, 2026-11-26); the server's
/// own vacuuming may come by too.
const BESIDE_FLUSHES: u64 = 40;

/// What the server has counted in one database, seen from another.
struct Server {
    connection: PgConnection,
    database: String,
}

impl Server {
    async fn of(place: &Place) -> Self {
        let url = url::Url::parse(place.url()).unwrap();
        Self {
            connection: cluster::connect(&shared().fresh_schema_url()).await,
            database: url.path().trim_start_matches('/').to_owned(),
        }
    }

    async fn number(&mut self, sql: &'static str) -> u64 {
        let row = sqlx::query(sql)
            .bind(&self.database)
            .fetch_one(&mut self.connection)
            .await;
        u64::try_from(row.unwrap().get::<i64, _>(0)).unwrap()
    }

    /// Commits so far, once nobody is connected: whoever leaves has written down what it did.
    async fn commits(&mut self) -> u64 {
        process::until("all connections are gone", async || {
            let connected = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'";
            self.number(connected).await == 0
        })
        .await;
        self.number("SELECT xact_commit FROM pg_stat_database WHERE datname = $1")
            .await
    }
}

/// The server's own count, of a database in which nobody else is: at most one commit for ten updates of 64 callers,
/// and each flush that we tell of is one of them. 0.044 to 0.048 were seen (2026-11-26).
#[tokio::test(flavor = "multi_thread")]
async fn postgres_counts_at_most_a_tenth_of_a_commit_per_update() {
    let place = Place::at(shared().fresh_database_url().await);
    place.migrated().await.unwrap().close().await.unwrap();
    let mut server = Server::of(&place).await;
    let before = server.commits().await;
    let persist = opened(&place).await;
    let updates = lives(&persist).await;
    let health = persist.backend().health().await.unwrap();
    persist.close().await.unwrap();
    let mut commits = 0;
    process::until("the flushes are counted", async || {
        commits = server.commits().await - before;
        commits >= health.flushes
    })
    .await;
    assert_eq!(health.flushed, updates);
    let share = commits as f64 / updates as f64;
    assert!(share <= 0.1, "{share} commits per update");
    let beside = commits - health.flushes;
    assert!(
        beside <= BESIDE_FLUSHES,
        "{commits} commits for {} flushes",
        health.flushes
    );
    server.connection.close().await.unwrap();
    assert_eq!(place.count("FROM events").await, updates);
}

/// The store's own count: there is no other on SQLite but that of the disk's syncs.
#[tokio::test(flavor = "multi_thread")]
async fn sqlite_has_at_most_a_tenth_of_a_commit_per_update() {
    let place = Place::empty(Database::Sqlite);
    let persist = opened(&place).await;
    let updates = lives(&persist).await;
    let health = persist.backend().health().await.unwrap();
    assert_eq!(health.flushed, updates);
    let share = health.flushes as f64 / health.flushed as f64;
    assert!(share <= 0.1, "{share} commits per update");
    persist.close().await.unwrap();
    assert_eq!(place.count("FROM events").await, updates);
}
