//! What a file says of its own tables, and what it would say had our migrations made them just now.

use std::collections::BTreeMap;

use persist_core::sql::Dialect;
use persist_migration::list;
use persist_migration::records::Records;
use persist_migration::shape::{Part, Shape};
use rusqlite::Connection;

use super::tokens;
use crate::error::Failed;
use crate::{migrate, records};

/// The shape that the applied migrations make, and the statements that make it.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) shape: Shape,
    /// By table.
    pub(super) tables: BTreeMap<String, String>,
    /// By index: its table and its statement.
    pub(super) indexes: BTreeMap<String, (String, String)>,
}

impl Expected {
    /// Runs the migrations that are applied in a memory of its own.
    pub(super) fn of(records: &Records) -> Result<Self, Failed> {
        let fresh = Connection::open_in_memory()?;
        for migration in list(Dialect::Sqlite) {
            if records.has(migration.name) {
                migrate::run(&fresh, &migration.up)?;
                records::note(&fresh, migration.name)?;
            }
        }
        Ok(Self {
            shape: shape(&fresh)?,
            tables: statements(&fresh, "table")?
                .map(|(name, (_, sql))| (name, sql))
                .collect(),
            indexes: statements(&fresh, "index")?.collect(),
        })
    }

    /// The columns of a table that a statement can write.
    pub(super) fn written<'s>(&'s self, table: &'s str) -> impl Iterator<Item = &'s str> + 's {
        let columns = self.shape.of(Part::Column, table);
        columns
            .filter(|(_, definition)| !definition.contains(" GENERATED ALWAYS "))
            .map(|(name, _)| name)
    }
}

/// The statements of all tables or indexes that have one, by name.
pub(super) fn statements(
    connection: &Connection,
    kind: &str,
) -> Result<impl Iterator<Item = (String, (String, String))>, Failed> {
    let mut select = connection.prepare(
        "SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = ?1 AND sql IS NOT NULL ORDER BY name",
    )?;
    let rows = select.query_map([kind], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
    let all: Vec<_> = rows.collect::<Result<_, _>>()?;
    Ok(all.into_iter())
}

/// The shape of all tables.
pub(super) fn shape(connection: &Connection) -> Result<Shape, Failed> {
    let mut shape = Shape::default();
    let mut select = connection.prepare(
        "SELECT l.name, l.type, l.wr, l.strict, coalesce(s.sql, '') FROM pragma_table_list l \
         JOIN sqlite_schema s ON s.name = l.name AND s.type IN ('table', 'view') \
         WHERE l.schema = 'main' AND l.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (table, kind, sql): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(4)?);
        let strict = if row.get(3)? { "a strict" } else { "a" };
        let rowid = if row.get(2)? { " without rowid" } else { "" };
        shape.insert(Part::Table, &table, "-", format!("{strict} {kind}{rowid}"));
        let (columns, checks) = tokens::table(&sql);
        columns_of(connection, &table, &columns, &mut shape)?;
        for (n, check) in checks.into_iter().enumerate() {
            let name = check.name.unwrap_or_else(|| match check.column {
                Some(column) => format!("{table}.{column}"),
                None => format!("{table}.{n}"),
            });
            shape.insert(Part::Check, &table, &name, check.demands);
        }
        uniques_of(connection, &table, &mut shape)?;
    }
    for (name, (table, sql)) in statements(connection, "index")? {
        shape.insert(Part::Index, &table, &name, tokens::index(&sql));
    }
    Ok(shape)
}

fn columns_of(
    connection: &Connection,
    table: &str,
    said: &[tokens::Column],
    shape: &mut Shape,
) -> Result<(), Failed> {
    let mut key = BTreeMap::new();
    let mut select = connection.prepare(
        "SELECT name, upper(type), \"notnull\", pk, hidden, dflt_value IS NOT NULL FROM pragma_table_xinfo(?1)",
    )?;
    let mut rows = select.query([table])?;
    while let Some(row) = rows.next()? {
        let (name, kind): (String, String) = (row.get(0)?, row.get(1)?);
        let place: u32 = row.get(3)?;
        if place > 0 {
            key.insert(place, name.clone());
        }
        let said = said.iter().find(|column| column.name == name.to_lowercase());
        let mut definition = kind.replace("GENERATED ALWAYS", "").trim().to_owned();
        if let Some(collation) = said.and_then(|column| column.collation.as_deref()) {
            definition.push_str(&format!(" COLLATE {}", collation.to_uppercase()));
        }
        if row.get(2)? {
            definition.push_str(" NOT NULL");
        }
        if let Some(computed) = said.and_then(|column| column.computed.as_deref()) {
            definition.push_str(&format!(" GENERATED ALWAYS AS {computed}"));
        } else if row.get(5)? {
            // Which one is not ours to know: our statements name every column.
            definition.push_str(" DEFAULT …");
        }
        shape.insert(Part::Column, table, &name, definition);
    }
    if !key.is_empty() {
        let key: Vec<_> = key.into_values().collect();
        shape.insert(Part::Key, table, "-", key.join(", "));
    }
    Ok(())
}

/// Indexes that a `UNIQUE` within the table makes, which have no statement of their own.
fn uniques_of(connection: &Connection, table: &str, shape: &mut Shape) -> Result<(), Failed> {
    let mut select = connection.prepare(
        "SELECT l.name, (SELECT group_concat(i.name, ', ') FROM pragma_index_info(l.name) i) \
         FROM pragma_index_list(?1) l WHERE l.origin = 'u'",
    )?;
    let mut rows = select.query([table])?;
    while let Some(row) = rows.next()? {
        let (name, columns): (String, Option<String>) = (row.get(0)?, row.get(1)?);
        shape.insert(
            Part::Index,
            table,
            &name,
            format!("UNIQUE ({})", columns.unwrap_or_default()),
        );
    }
    Ok(())
}
