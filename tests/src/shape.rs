//! The shape of a store's tables, as the database itself describes it.

use std::collections::BTreeMap;

use sqlx::{Connection as _, Row as _};

use crate::cluster;
use crate::place::{Database, Place};

/// All tables of a place, by name.
pub type Shape = BTreeMap<String, Table>;

/// A table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// By name.
    pub columns: BTreeMap<String, Column>,
    /// Columns of the primary key, in order.
    pub key: Vec<String>,
    /// By name, without that of the primary key.
    pub indexes: BTreeMap<String, Index>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// As the database spells it, lower case.
    pub kind: String,
    /// Whether it takes null.
    pub nullable: bool,
    /// Whether the database computes it.
    pub generated: bool,
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its columns, in order.
    pub columns: Vec<String>,
    /// Whether it refuses doubles.
    pub unique: bool,
    /// Which rows it holds; empty for all.
    pub predicate: String,
}

/// Looks at a place.
///
/// # Panics
/// If it can't be looked at.
pub async fn of(place: &Place) -> Shape {
    match place.database() {
        Database::Sqlite => sqlite(place).expect("the file describes itself"),
        Database::Postgres => postgres(place).await.expect("the database describes itself"),
    }
}

fn sqlite(place: &Place) -> rusqlite::Result<Shape> {
    let file = place.file();
    let mut shape = Shape::new();
    let mut query =
        file.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")?;
    let tables: Vec<String> = query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for name in tables {
        let mut table = Table::default();
        let mut key = BTreeMap::new();
        let mut query =
            file.prepare("SELECT name, type, \"notnull\", pk, hidden FROM pragma_table_xinfo(?1)")?;
        let mut rows = query.query([&name])?;
        while let Some(row) = rows.next()? {
            let column: String = row.get(0)?;
            let place: u32 = row.get(3)?;
            if place > 0 {
                key.insert(place, column.clone());
            }
            let kind: String = row.get(1)?;
            let kind = kind
                .to_lowercase()
                .replace("generated always", "")
                .trim()
                .to_owned();
            let (nullable, generated) = (!row.get::<_, bool>(2)?, row.get::<_, u32>(4)? > 1);
            table.columns.insert(
                column,
                Column {
                    kind,
                    nullable,
                    generated,
                },
            );
        }
        table.key = key.into_values().collect();
        let mut query = file.prepare(
            "SELECT l.name, l.\"unique\", coalesce(s.sql, '') FROM pragma_index_list(?1) l \
             LEFT JOIN sqlite_schema s ON s.name = l.name WHERE l.origin = 'c'",
        )?;
        let mut rows = query.query([&name])?;
        while let Some(row) = rows.next()? {
            let (index, sql): (String, String) = (row.get(0)?, row.get(2)?);
            let mut columns = file.prepare("SELECT name FROM pragma_index_info(?1) ORDER BY seqno")?;
            let columns = columns
                .query_map([&index], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            let predicate = sql
                .split_once(" WHERE ")
                .map(|(_, predicate)| predicate.to_owned())
                .unwrap_or_default();
            table.indexes.insert(
                index,
                Index {
                    columns,
                    unique: row.get(1)?,
                    predicate,
                },
            );
        }
        shape.insert(name, table);
    }
    Ok(shape)
}

async fn postgres(place: &Place) -> sqlx::Result<Shape> {
    let mut connection = cluster::connect(place.url()).await;
    let mut shape = Shape::new();
    let columns = sqlx::query(
        "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, \
         a.attgenerated <> '' FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
         WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND c.relnamespace = to_regnamespace($1)",
    );
    for row in columns.bind(place.schema()).fetch_all(&mut connection).await? {
        let column = Column {
            kind: row.try_get(2)?,
            nullable: row.try_get(3)?,
            generated: row.try_get(4)?,
        };
        shape
            .entry(row.try_get(0)?)
            .or_default()
            .columns
            .insert(row.try_get(1)?, column);
    }
    let indexes = sqlx::query(
        "SELECT t.relname::text, i.relname::text, x.indisprimary, x.indisunique, \
         coalesce(pg_get_expr(x.indpred, x.indrelid, true), ''), \
         ARRAY(SELECT pg_get_indexdef(x.indexrelid, n, true) FROM generate_series(1, x.indnkeyatts) n ORDER BY n) \
         FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid \
         WHERE t.relnamespace = to_regnamespace($1)",
    );
    for row in indexes.bind(place.schema()).fetch_all(&mut connection).await? {
        let table = shape.entry(row.try_get(0)?).or_default();
        let columns: Vec<String> = row.try_get(5)?;
        if row.try_get(2)? {
            table.key = columns;
        } else {
            let index = Index {
                columns,
                unique: row.try_get(3)?,
                predicate: row.try_get(4)?,
            };
            table.indexes.insert(row.try_get(1)?, index);
        }
    }
    connection.close().await?;
    Ok(shape)
}
