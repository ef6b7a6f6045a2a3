//! Marks, in the table of the store's own facts.

use std::sync::Arc;

use async_trait::async_trait;
use persist_core::{Deadlines, Error, ErrorKind, Marks, Result, check_mark};
use sqlx::Arguments as _;
use sqlx::Row as _;
use sqlx::postgres::PgArguments;

use crate::connection::{Pool, Scope};
use crate::error::{Phase, classify};

/// The marks of a store.
#[derive(Debug)]
pub(crate) struct Marked {
    pub(crate) pool: Arc<Pool>,
    pub(crate) prefix: Arc<str>,
    pub(crate) deadlines: Deadlines,
}

/// The key, apart from the facts that the store itself needs, and the value.
fn arguments(name: &str, says: Option<&str>) -> Result<PgArguments> {
    let mut arguments = PgArguments::default();
    let encoded = arguments
        .add(format!("mark:{name}"))
        .and_then(|()| says.map_or(Ok(()), |says| arguments.add(says.to_owned())));
    encoded
        .map(|()| arguments)
        .map_err(|_| Error::new(ErrorKind::InvalidInput, "a mark is too large to be sent"))
}

#[async_trait]
impl Marks for Marked {
    async fn mark(&self, name: &str) -> Result<Option<String>> {
        self.pool.refuse_closed().map_err(|error| error.during("mark"))?;
        check_mark(name, None).map_err(|error| error.during("mark"))?;
        let sql = format!("SELECT value FROM {}persist_meta WHERE key = $1", self.prefix);
        let arguments = arguments(name, None)?;
        let read = self
            .pool
            .run("mark", self.deadlines.read, Scope::Single, move |session| {
                let (sql, arguments) = (sql.clone(), arguments.clone());
                Box::pin(async move {
                    let rows = session.rows(sql, arguments).await?;
                    let value = rows.first().map(|row| row.try_get::<String, _>(0));
                    value
                        .transpose()
                        .map_err(|error| classify(&error, Phase::Statement))
                })
            });
        read.await
    }

    async fn set_mark(&self, name: &str, says: Option<&str>) -> Result<()> {
        self.pool
            .refuse_closed()
            .map_err(|error| error.during("set_mark"))?;
        check_mark(name, says).map_err(|error| error.during("set_mark"))?;
        let prefix = &self.prefix;
        let sql = if says.is_some() {
            format!(
                "INSERT INTO {prefix}persist_meta (key, value) VALUES ($1, $2) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value"
            )
        } else {
            format!("DELETE FROM {prefix}persist_meta WHERE key = $1")
        };
        let arguments = arguments(name, says)?;
        let written = self
            .pool
            .run("set_mark", self.deadlines.write, Scope::Single, move |session| {
                let (sql, arguments) = (sql.clone(), arguments.clone());
                Box::pin(async move { session.rows(sql, arguments).await.map(drop) })
            });
        written.await
    }
}
