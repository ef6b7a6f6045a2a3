//! What a file says of its own schema: `persist_migrations` and `persist_meta`.

use std::collections::HashSet;

use persist_core::{Error, ErrorKind, Horizon, sql, time};
use persist_migration::records::{Record, Records};
use rusqlite::{Connection, OptionalExtension as _};
use uuid::Uuid;

use crate::error::{self, Failed};

pub(crate) use persist_core::sql::SQLITE_NOW as NOW;

/// Reads the records, of which there may be none.
pub(crate) fn read(connection: &Connection) -> Result<Records, Failed> {
    let mut records = Records::default();
    if has_table(connection, "persist_migrations")? {
        let mut select =
            connection.prepare("SELECT name, applied_at FROM persist_migrations ORDER BY name")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let applied_at = time::from_micros(row.get(1)?).ok_or_else(|| {
                let what = "persist_migrations.applied_at is no time; the file is damaged or was edited";
                Error::new(ErrorKind::Corrupt, what)
            })?;
            records.applied.push(Record {
                name: row.get(0)?,
                applied_at,
            });
        }
    }
    if has_table(connection, "persist_meta")? {
        records.min_reader = meta(connection, "min_reader")?.and_then(|value| value.parse().ok());
        records.min_writer = meta(connection, "min_writer")?.and_then(|value| value.parse().ok());
    }
    Ok(records)
}

/// The columns that statements of ours name and the tables don't have, as `table.column`.
pub(crate) fn missing(connection: &Connection) -> Result<Vec<String>, Failed> {
    let mut missing = Vec::new();
    for (table, needed) in sql::named_columns() {
        missing.extend(missing_of(connection, table, &needed)?);
    }
    Ok(missing)
}

/// Those of one table.
pub(crate) fn missing_of<C: AsRef<str>>(
    connection: &Connection,
    table: &str,
    needed: &[C],
) -> Result<Vec<String>, Failed> {
    let mut select = connection.prepare_cached("SELECT name FROM pragma_table_xinfo(?1)")?;
    let rows = select.query_map([table], |row| row.get(0))?;
    let present = rows.collect::<Result<HashSet<String>, _>>()?;
    let lacks = needed
        .iter()
        .map(AsRef::as_ref)
        .filter(|column| !present.contains(*column));
    Ok(lacks.map(|column| format!("{table}.{column}")).collect())
}

/// What failed, or that a table is not there which comes with a migration that a store may lack.
pub(crate) fn lacking(connection: &Connection, failed: Failed, table: &str, needed: &[&str]) -> Failed {
    if let Failed::Driver(error) = &failed
        && error::may_be_schema(error)
        && let Ok(missing) = missing_of(connection, table, needed)
        && !missing.is_empty()
    {
        let what = format!(
            "the schema is not the one that this program needs: {} is missing; run persist migrate up, or bring back \
             what was changed by hand",
            if missing.len() == needed.len() {
                format!("table {table}")
            } else {
                missing.join(", ")
            }
        );
        return Error::new(ErrorKind::SchemaMismatch, what).into();
    }
    failed
}

/// The tables, be it itself, of which a foreign key is to this one.
pub(crate) fn referring(connection: &Connection, table: &str) -> Result<Vec<String>, Failed> {
    let sql = "SELECT s.name FROM sqlite_schema s JOIN pragma_foreign_key_list(s.name) f \
               WHERE s.type = 'table' AND f.\"table\" = ?1 COLLATE NOCASE ORDER BY s.name";
    let mut select = connection.prepare_cached(sql)?;
    let names = select.query_map([table], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// The identity of the store.
pub(crate) fn instance_id(connection: &Connection) -> Result<Uuid, Failed> {
    let id = meta(connection, "instance_id")?.and_then(|value| value.parse().ok());
    let none = || {
        Error::new(
            ErrorKind::SchemaMismatch,
            "the store has no identity; run persist migrate up",
        )
    };
    Ok(id.ok_or_else(none)?)
}

/// The highest number that was given; 0 before the first.
pub(crate) fn last_seq(connection: &Connection) -> Result<i64, Failed> {
    let next = meta(connection, "next_seq")?.and_then(|value| value.parse::<i64>().ok());
    let none = || {
        let what = "persist_meta says no next_seq that can be; the file is damaged or was edited";
        Error::new(ErrorKind::Corrupt, what)
    };
    Ok(next.ok_or_else(none)?.saturating_sub(1))
}

/// What prunes have taken away.
pub(crate) fn horizon(connection: &Connection) -> Result<Horizon, Failed> {
    let text = meta(connection, "pruned_to")?;
    Ok(text.map_or_else(|| Ok(Horizon::default()), |text| text.parse())?)
}

/// Notes a prune whose latest change was this, in the transaction that the connection is in.
pub(crate) fn raise_horizon(connection: &Connection, last_seq: i64) -> Result<(), Failed> {
    let mut horizon = horizon(connection)?;
    horizon.raise((0, last_seq));
    connection.execute(
        "INSERT INTO persist_meta (key, value) VALUES ('pruned_to', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1",
        [horizon.to_string()],
    )?;
    Ok(())
}

/// A fact of the store about itself.
pub(crate) fn meta(connection: &Connection, key: &str) -> Result<Option<String>, Failed> {
    let mut select = connection.prepare_cached("SELECT value FROM persist_meta WHERE key = ?1")?;
    Ok(select.query_row([key], |row| row.get(0)).optional()?)
}

/// Records a migration, at the time of its transaction, in a table that the first one makes.
pub(crate) fn note(connection: &Connection, name: &str) -> Result<(), Failed> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS persist_migrations (name TEXT NOT NULL PRIMARY KEY, \
         applied_at INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    )?;
    let sql = format!("INSERT INTO persist_migrations (name, applied_at) VALUES (?1, {NOW})");
    connection.execute(&sql, [name])?;
    Ok(())
}

/// Takes a record out; with the last one the table goes.
pub(crate) fn erase(connection: &Connection, name: &str, last: bool) -> Result<(), Failed> {
    if last {
        connection.execute_batch("DROP TABLE persist_migrations")?;
    } else {
        connection.execute("DELETE FROM persist_migrations WHERE name = ?1", [name])?;
    }
    Ok(())
}

/// Whether there is any history to lose.
pub(crate) fn has_history(connection: &Connection) -> Result<bool, Failed> {
    if !has_table(connection, "events")? {
        return Ok(false);
    }
    Ok(connection.query_row("SELECT EXISTS (SELECT 1 FROM events)", [], |row| row.get(0))?)
}

fn has_table(connection: &Connection, name: &str) -> Result<bool, Failed> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)";
    Ok(connection
        .prepare_cached(sql)?
        .query_row([name], |row| row.get(0))?)
}
