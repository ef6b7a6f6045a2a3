//! One connection, and how statements are sent on it.

use std::sync::Arc;
use std::time::Duration;

use persist_core::sql::Statement;
use persist_core::{Error, ErrorKind, Result, Retry};
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row as _};

use crate::bind;
use crate::error::{Phase, classify, needs_pooler};

/// The oldest server that has what the statements use.
const OLDEST: u32 = 140_000;
/// How long the end of a transaction that came to nothing is waited for.
const UNDONE: Duration = Duration::from_millis(1_000);

/// A connection whose server was checked.
pub(crate) struct Session {
    pub(crate) connection: PgConnection,
    pub(crate) pooler: bool,
    /// What opens a transaction: with our settings behind a pooler, where nothing else is ours.
    begin: Arc<str>,
    /// Whether one is open.
    in_transaction: bool,
    /// What an error of a statement means here.
    pub(crate) phase: Phase,
    /// Whether nobody knows what state it is in: it must not be used again.
    pub(crate) is_broken: bool,
}

impl Session {
    pub(crate) fn new(connection: PgConnection, pooler: bool, begin: Arc<str>) -> Self {
        Self {
            connection,
            pooler,
            begin,
            in_transaction: false,
            phase: Phase::Statement,
            is_broken: false,
        }
    }

    /// Refuses a server on which the promises can't be kept.
    pub(crate) async fn check(&mut self) -> Result<()> {
        if self
            .connection
            .server_version_num()
            .is_some_and(|version| version < OLDEST)
        {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "PostgreSQL 14 or later is needed",
            ));
        }
        let sql = "SELECT current_setting('default_transaction_isolation'), pg_is_in_recovery()::text, \
                   current_setting('default_transaction_read_only'), \
                   coalesce(current_setting('persist.arrived', true), '')";
        let row = sqlx::raw_sql(sql).fetch_one(&mut self.connection).await;
        let row = row.map_err(|error| classify(&error, Phase::Connect))?;
        let text = |at: usize| {
            row.try_get::<String, _>(at)
                .map_err(|error| classify(&error, Phase::Connect))
        };
        if !self.pooler && text(0)? != "read committed" {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the isolation level must be read committed",
            ));
        }
        // With the others went the promise to be durable.
        if !self.pooler && text(3)? != "on" {
            return Err(needs_pooler(
                "the session's settings do not arrive: a pooler drops them",
            ));
        }
        if text(1)? == "true" {
            let what = "the server is a standby and takes no writes; connect to the primary";
            return Err(Error::new(ErrorKind::ReadOnly, what).retry_as(Retry::Later));
        }
        if text(2)? == "on" {
            let what = "the server or role is set to default_transaction_read_only and takes no writes";
            return Err(Error::new(ErrorKind::ReadOnly, what).retry_as(Retry::Later));
        }
        Ok(())
    }

    /// Runs statements without values, in one round trip.
    pub(crate) async fn script(&mut self, sql: &str) -> Result<()> {
        let done = sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut self.connection)
            .await;
        done.map(|_| ()).map_err(|error| classify(&error, self.phase))
    }

    /// Opens a transaction.
    pub(crate) async fn begin(&mut self) -> Result<()> {
        self.in_transaction = true;
        let begin = Arc::clone(&self.begin);
        let begun = self.script(&begin).await;
        self.is_broken |= begun.is_err();
        begun
    }

    /// Ends the transaction as `result` says, which stays the answer unless committing fails.
    pub(crate) async fn end<T>(&mut self, result: Result<T>) -> Result<T> {
        let ended = match result {
            Ok(value) => self.script("COMMIT").await.map(|()| value),
            Err(error) => {
                // Only a connection that is used again must not be inside of a transaction. Any other goes, and
                // the transaction with it: a server that froze would let us wait for its answer.
                let is_undone = keeps_connection(&error)
                    && matches!(
                        tokio::time::timeout(UNDONE, self.script("ROLLBACK")).await,
                        Ok(Ok(()))
                    );
                self.is_broken |= !is_undone;
                Err(error)
            }
        };
        self.in_transaction = false;
        ended
    }

    /// Runs a statement and returns its rows.
    pub(crate) async fn rows(
        &mut self,
        sql: impl Into<Arc<str>>,
        arguments: PgArguments,
    ) -> Result<Vec<PgRow>> {
        if !self.pooler || self.in_transaction {
            return self.statement(sql.into(), arguments).await;
        }
        // The driver prepares and executes in two round trips, between which a pooler may change servers.
        self.begin().await?;
        let rows = self.statement(sql.into(), arguments).await;
        self.end(rows).await
    }

    async fn statement(&mut self, sql: Arc<str>, arguments: PgArguments) -> Result<Vec<PgRow>> {
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments).persistent(!self.pooler);
        query
            .fetch_all(&mut self.connection)
            .await
            .map_err(|error| classify(&error, self.phase))
    }

    /// Runs one of core's statements.
    pub(crate) async fn select(&mut self, statement: &Statement) -> Result<Vec<PgRow>> {
        let (sql, arguments) = bind::render(statement)?;
        self.rows(sql, arguments).await
    }
}

/// Whether the connection of a call that failed so may be used again.
pub(crate) fn keeps_connection(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Busy | ErrorKind::InvalidInput)
}
