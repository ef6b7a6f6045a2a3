//! The power of backends that have a schema: look at it, bring it up, take it down.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::time::{self, Timestamp};

/// Migrations of a backend.
#[async_trait]
pub trait Schema: Debug + Send + Sync {
    /// What is applied and what is pending. Changes nothing.
    async fn status(&self) -> Result<SchemaStatus>;

    /// Whether this binary can work with the schema as it stands, be it without a migration that is optional. Changes nothing.
    ///
    /// # Errors
    /// `SchemaMismatch` that names the command to run or the version that is needed.
    async fn check(&self) -> Result<()>;

    /// Applies what is pending and returns its names. Safe to call from many processes at once: one migrates,
    /// the others wait (60 s unless set) and find it done.
    ///
    /// # Errors
    /// `Busy` that says who holds the lock; `SchemaMismatch` for a stranger's tables, for values that can't be
    /// adopted, and for a newer schema that this binary can't write; `Auth` that names the missing right.
    async fn up(&self) -> Result<Vec<String>>;

    /// Reverts the newest migrations and returns their names. History goes; the seed's columns stay.
    ///
    /// # Errors
    /// `InvalidInput` where history would go and `confirmed` is not set.
    async fn down(&self, request: Down) -> Result<Vec<String>>;

    /// What `up` would run.
    async fn plan(&self) -> Result<Vec<PlannedMigration>>;
}

/// How far to go down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Down {
    /// How many migrations to revert; `None` for all.
    pub steps: Option<u32>,
    /// That losing history is meant.
    pub confirmed: bool,
}

impl Down {
    /// Reverts the newest `steps` migrations.
    pub fn steps(steps: u32) -> Self {
        Self {
            steps: Some(steps),
            confirmed: false,
        }
    }

    /// Reverts all.
    pub fn all() -> Self {
        Self {
            steps: None,
            confirmed: false,
        }
    }

    /// Confirms that history may go.
    #[must_use]
    pub fn confirmed(mut self, confirmed: bool) -> Self {
        self.confirmed = confirmed;
        self
    }
}

/// What a database's migration records say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SchemaStatus {
    /// Known migrations in their order, then those that only a newer binary knows.
    pub migrations: Vec<MigrationStatus>,
    /// The lowest version of the list that can read this schema, as its own records say.
    pub min_reader: Option<u32>,
    /// The lowest version of the list that can write this schema, as its own records say.
    pub min_writer: Option<u32>,
}

impl SchemaStatus {
    /// For backends.
    pub fn new(migrations: Vec<MigrationStatus>, min_reader: Option<u32>, min_writer: Option<u32>) -> Self {
        Self {
            migrations,
            min_reader,
            min_writer,
        }
    }

    /// Names of the known migrations that are not applied.
    pub fn pending(&self) -> Vec<&str> {
        self.migrations
            .iter()
            .filter(|m| m.applied_at.is_none())
            .map(|m| m.name.as_str())
            .collect()
    }
}

/// One migration of a database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MigrationStatus {
    /// Its name.
    pub name: String,
    /// When it was applied, by the database's clock; `None` while it is pending.
    #[serde(with = "time::rfc3339::option")]
    pub applied_at: Option<Timestamp>,
    /// Whether this binary knows it.
    pub known: bool,
}

impl MigrationStatus {
    /// For backends.
    pub fn new(name: impl Into<String>, applied_at: Option<Timestamp>, known: bool) -> Self {
        Self {
            name: name.into(),
            applied_at,
            known,
        }
    }
}

/// A migration that `up` would run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlannedMigration {
    /// Its name.
    pub name: String,
    /// Its statements, in order.
    pub sql: Vec<String>,
}

impl PlannedMigration {
    /// For backends.
    pub fn new(name: impl Into<String>, sql: Vec<String>) -> Self {
        Self {
            name: name.into(),
            sql,
        }
    }
}
