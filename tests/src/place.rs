//! Empty places for stores on each database that the tests can look into from outside.

use std::sync::Arc;

use futures_util::StreamExt as _;
use persist::OpenOptions;
use persist_core::{DbUrl, PersistBackend, PersistExt as _, Result};
use sqlx::{Connection as _, Executor as _};
use tempfile::TempDir;

use crate::cluster;

/// A database that stores can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// A file in a folder of its own.
    Sqlite,
    /// A schema of its own in the shared cluster.
    Postgres,
}

impl Database {
    /// Both.
    pub const BOTH: [Database; 2] = [Database::Sqlite, Database::Postgres];
}

/// Where a store can be. Nothing is in it until somebody migrates.
#[derive(Debug)]
pub struct Place {
    database: Database,
    url: String,
    folder: Option<TempDir>,
}

impl Place {
    /// A new one.
    pub fn empty(database: Database) -> Self {
        match database {
            Database::Postgres => Self::at(cluster::shared().fresh_schema_url()),
            Database::Sqlite => {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let url = format!("sqlite://{}?mode=rwc", folder.path().join("store.db").display());
                Self {
                    database,
                    url,
                    folder: Some(folder),
                }
            }
        }
    }

    /// A place on Postgres that somebody else made.
    pub fn at(postgres_url: String) -> Self {
        Self {
            database: Database::Postgres,
            url: postgres_url,
            folder: None,
        }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its database.
    pub fn database(&self) -> Database {
        self.database
    }

    /// A bare handle; nothing is migrated.
    ///
    /// # Errors
    /// As opening does.
    pub async fn open(&self) -> Result<Arc<dyn PersistBackend>> {
        let url: DbUrl = self.url.parse()?;
        persist::open(&url, &OpenOptions::default()).await
    }

    /// A bare handle onto a migrated store.
    ///
    /// # Errors
    /// As opening and migrating do.
    pub async fn migrated(&self) -> Result<Arc<dyn PersistBackend>> {
        let backend = self.open().await?;
        backend
            .schema()
            .expect("both databases have a schema")
            .up()
            .await?;
        Ok(backend)
    }

    /// The whole store in the exchange format.
    ///
    /// # Errors
    /// As reading does.
    pub async fn export(&self) -> Result<Vec<String>> {
        let backend = self.open().await?;
        let lines: Vec<_> = backend.export().collect().await;
        backend.close().await?;
        lines.into_iter().collect()
    }

    /// Runs statements from outside.
    ///
    /// # Panics
    /// If the database refuses.
    pub async fn execute(&self, statements: &str) {
        match self.database {
            Database::Sqlite => self.file().execute_batch(statements).expect("the file takes it"),
            Database::Postgres => {
                let statements = format!("{}{statements}", self.search_path());
                cluster::sql(&self.url, &statements).await;
            }
        }
    }

    /// The rows of a query from outside. It selects one text.
    ///
    /// # Panics
    /// If the database refuses.
    pub async fn texts(&self, query: &str) -> Vec<String> {
        match self.database {
            Database::Sqlite => {
                let file = self.file();
                let mut query = file
                    .prepare(query)
                    .unwrap_or_else(|error| panic!("{query}: {error}"));
                let rows = query.query_map([], |row| row.get(0)).expect("runs");
                rows.collect::<rusqlite::Result<_>>().expect("one text a row")
            }
            Database::Postgres => {
                let mut connection = cluster::connect(&self.url).await;
                let path = sqlx::raw_sql(sqlx::AssertSqlSafe(self.search_path()));
                connection.execute(path).await.expect("the schema can be named");
                let rows = sqlx::query_scalar(sqlx::AssertSqlSafe(query.to_owned()))
                    .fetch_all(&mut connection)
                    .await;
                let _ = connection.close().await;
                rows.unwrap_or_else(|error| panic!("{query}: {error}"))
            }
        }
    }

    /// The one number that a query counts.
    ///
    /// # Panics
    /// If the database refuses, or it is not one number.
    pub async fn count(&self, what: &str) -> u64 {
        let texts = self.texts(&format!("SELECT CAST(count(*) AS text) {what}")).await;
        texts[0].parse().expect("counts")
    }

    /// The subjects whose row is not what its history says, in one snapshot.
    ///
    /// # Panics
    /// If the database refuses.
    pub async fn strays(&self) -> Vec<String> {
        let stray = |table: &str, kind: &str, name: &str| {
            format!(
                "SELECT CAST(coalesce(r.state, '-') AS text) || ' of {table} at rank ' \
                 || coalesce(CAST(r.rank AS text), '-') || ', history at ' || coalesce(CAST(e.top AS text), '-') \
                 FROM (SELECT request_id, domain_name, max(rank) AS top, min(at) AS begun, \
                 max(at) AS latest FROM events WHERE domain_name {kind} '' GROUP BY request_id, domain_name) e \
                 LEFT JOIN {table} r ON e.request_id = r.request_id AND e.domain_name = {name} \
                 WHERE r.rank IS DISTINCT FROM e.top OR r.created_at IS DISTINCT FROM e.begun \
                 OR r.updated_at IS DISTINCT FROM e.latest OR r.state IS DISTINCT FROM (SELECT x.state FROM events x \
                 WHERE x.request_id = e.request_id AND x.domain_name = e.domain_name AND x.rank = e.top) \
                 UNION ALL SELECT CAST(coalesce(r.state, '-') AS text) || ' of {table} without history' FROM {table} r \
                 WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.request_id = r.request_id AND e.domain_name = {name})"
            )
        };
        let jobs = stray("jobs", "=", "''");
        let vms = stray("vms", "<>", "r.domain_name");
        self.texts(&format!("{jobs} UNION ALL {vms}")).await
    }

    /// A connection to the SQLite file.
    ///
    /// # Panics
    /// If there is no file, or it can't be opened.
    pub fn file(&self) -> rusqlite::Connection {
        let folder = self.folder.as_ref().expect("a SQLite place");
        let file = rusqlite::Connection::open(folder.path().join("store.db")).expect("the file opens");
        file.busy_timeout(crate::process::BOUND).expect("is in range");
        file
    }

    /// The name of the Postgres schema.
    pub fn schema(&self) -> String {
        let url = url::Url::parse(&self.url).expect("the tests make well-formed URLs");
        let named = url
            .query_pairs()
            .find(|(name, _)| name == "persist_schema")
            .map(|(_, value)| value.into_owned());
        named.unwrap_or_else(|| "public".to_owned())
    }

    fn search_path(&self) -> String {
        format!("SET search_path TO {};", self.schema())
    }
}

/// Fails when a row is not what its history says, seen through the store's own reads.
///
/// # Panics
/// With the difference.
pub async fn fold_holds(backend: &Arc<dyn PersistBackend>) {
    if let Err(stop) = crate::case::fold_holds(backend).await {
        panic!("{stop:?}");
    }
}
