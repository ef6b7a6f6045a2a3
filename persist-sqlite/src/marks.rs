//! Marks, in the table of the store's own facts.

use std::sync::Arc;

use async_trait::async_trait;
use persist_core::{Deadlines, Marks, Result, check_mark};
use rusqlite::{Connection, OptionalExtension as _};

use crate::error::Failed;
use crate::store::Store;
use crate::worker::Times;

/// The marks of a store.
#[derive(Debug)]
pub(crate) struct Marked {
    pub(crate) store: Arc<Store>,
    pub(crate) deadlines: Deadlines,
}

/// Apart from the facts that the store itself needs.
fn key(name: &str) -> String {
    format!("mark:{name}")
}

#[async_trait]
impl Marks for Marked {
    async fn mark(&self, name: &str) -> Result<Option<String>> {
        self.store.refuse_closed("mark")?;
        check_mark(name, None).map_err(|error| error.during("mark"))?;
        let key = key(name);
        self.store
            .read("mark", self.deadlines.read, move |connection| {
                let sql = "SELECT value FROM persist_meta WHERE key = ?1";
                let mut statement = connection.prepare_cached(sql)?;
                Ok(statement.query_row([&key], |row| row.get(0)).optional()?)
            })
            .await
    }

    async fn set_mark(&self, name: &str, says: Option<&str>) -> Result<()> {
        self.store.refuse_closed("set_mark")?;
        check_mark(name, says).map_err(|error| error.during("set_mark"))?;
        let (key, says) = (key(name), says.map(str::to_owned));
        let set = move |connection: &Connection| set(connection, &key, says.as_deref());
        self.store
            .write("set_mark", Times::within(self.deadlines.write), set)
            .await
    }
}

fn set(connection: &Connection, key: &str, says: Option<&str>) -> Result<(), Failed> {
    match says {
        Some(says) => {
            let sql = "INSERT INTO persist_meta (key, value) VALUES (?1, ?2) \
                       ON CONFLICT (key) DO UPDATE SET value = excluded.value";
            connection.prepare_cached(sql)?.execute([key, says])?;
        }
        None => {
            let sql = "DELETE FROM persist_meta WHERE key = ?1";
            connection.prepare_cached(sql)?.execute([key])?;
        }
    }
    Ok(())
}
