//! The statements that mend a difference, and whether they may be run without a second look.

use std::collections::{BTreeMap, BTreeSet};

use persist_core::Finding;
use persist_core::inspect::code;
use persist_migration::drift::Drift;
use persist_migration::rebuilt;
use persist_migration::shape::{Column, Part, Shape};
use rusqlite::Connection;

use super::schema::Rows;
use super::shape::{self, Expected};
use crate::error::Failed;
use crate::records;

/// A file from which on nobody is made to wait for a table that is made anew, unless somebody says so. Some seconds of work.
const LARGE_BYTES: i64 = 256 << 20;

/// What only a table that is made anew has: SQLite changes no column and no constraint in place.
const REMADE: [&str; 9] = [
    code::WRONG_TABLE,
    code::WRONG_TYPE,
    code::WRONG_NULLABILITY,
    code::WRONG_DEFAULT,
    code::MISSING_KEY,
    code::WRONG_KEY,
    code::MISSING_CHECK,
    code::WRONG_CHECK,
    code::INVALID_CHECK,
];

/// How a table is made anew, and what speaks against it.
struct Remake {
    statements: Vec<String>,
    obstacle: Option<String>,
}

/// Knows the way from what is there to what should be.
pub(super) struct Mender<'e> {
    expected: &'e Expected,
    remakes: BTreeMap<String, Remake>,
    lacking: BTreeSet<String>,
    /// Whether an index is not made by the way.
    is_large: bool,
}

impl<'e> Mender<'e> {
    pub(super) fn new(
        connection: &Connection,
        expected: &'e Expected,
        found: &Shape,
        drifts: &[Drift],
        rows: Rows,
    ) -> Result<Self, Failed> {
        let mut remakes = BTreeMap::new();
        for drift in drifts.iter().filter(|drift| REMADE.contains(&drift.code)) {
            let table = &drift.place.table;
            if !remakes.contains_key(table) {
                let remake = Remake {
                    statements: remake(connection, expected, table)?,
                    obstacle: obstacle(connection, expected, found, drifts, table, rows)?,
                };
                remakes.insert(table.clone(), remake);
            }
        }
        let missing = drifts.iter().filter(|drift| drift.code == code::MISSING_COLUMN);
        Ok(Self {
            expected,
            remakes,
            lacking: missing.map(|drift| drift.place.table.clone()).collect(),
            is_large: bytes(connection)? > LARGE_BYTES,
        })
    }

    /// Whether a table lacks columns of ours.
    pub(super) fn lacks_columns(&self, table: &str) -> bool {
        self.lacking.contains(table)
    }

    /// Whether it was left open how many rows do not fit.
    pub(super) fn depends_on_rows(&self) -> bool {
        let obstacles = self
            .remakes
            .values()
            .filter_map(|remake| remake.obstacle.as_deref());
        obstacles.into_iter().any(|obstacle| obstacle == NOT_COUNTED)
    }

    /// What is told of a difference.
    pub(super) fn finding(&self, drift: &Drift) -> Finding {
        let finding = drift.finding();
        let (table, name) = (&drift.place.table, &drift.place.name);
        match drift.code {
            code::MISSING_TABLE => finding.mended_by(self.create(table)),
            code::MISSING_COLUMN => {
                let definition = drift.expected.as_deref().unwrap_or_default();
                let column = Column::read(definition);
                let add = format!("ALTER TABLE {table} ADD COLUMN {name} {definition}");
                if column.filled.starts_with("GENERATED") {
                    finding.mended_by([add]).safe()
                } else if column.not_null {
                    finding
                } else {
                    finding.mended_by([add])
                }
            }
            code::MISSING_INDEX | code::WRONG_INDEX => {
                let drop = (drift.code == code::WRONG_INDEX).then(|| format!("DROP INDEX {name}"));
                let create = self.expected.indexes.get(name).map(|(_, sql)| sql.clone());
                let mut finding = finding.mended_by(drop.into_iter().chain(create));
                if self.lacks_columns(table) {
                    finding
                } else if self.is_large {
                    let obstacle = "the file is large, and nobody can write while the index is made";
                    finding.what = format!("{}; {obstacle}", finding.what);
                    finding
                } else {
                    finding.safe()
                }
            }
            code::EXTRA_INDEX if !name.starts_with("sqlite_") => {
                finding.mended_by([format!("DROP INDEX {}", quoted(name))])
            }
            _ => match self.remakes.get(table).filter(|_| REMADE.contains(&drift.code)) {
                Some(remake) => by_remake(finding, remake),
                None => finding,
            },
        }
    }

    fn create(&self, table: &str) -> Vec<String> {
        let indexes = self.expected.indexes.values().filter(|(of, _)| of == table);
        let table = self.expected.tables.get(table).cloned();
        table
            .into_iter()
            .chain(indexes.map(|(_, sql)| sql.clone()))
            .collect()
    }
}

fn by_remake(mut finding: Finding, remake: &Remake) -> Finding {
    finding.mend.clone_from(&remake.statements);
    match &remake.obstacle {
        None => finding.safe(),
        Some(obstacle) => {
            finding.what = format!("{}; {obstacle}", finding.what);
            finding
        }
    }
}

const NOT_COUNTED: &str = "whether all rows fit was not found out in time";

/// Makes the table anew, with its rows and all of its indexes.
fn remake(connection: &Connection, expected: &Expected, table: &str) -> Result<Vec<String>, Failed> {
    let create = expected.tables.get(table).map(String::as_str).unwrap_or_default();
    let definition = create.find('(').map_or("", |begin| &create[begin..]);
    let columns: Vec<_> = expected.written(table).map(|column| (column, column)).collect();
    let mut statements: Vec<_> = rebuilt(table, definition, &columns)
        .split(";\n")
        .map(str::to_owned)
        .collect();
    let ours = expected.indexes.iter().filter(|(_, (of, _))| of == table);
    statements.extend(ours.map(|(_, (_, sql))| sql.clone()));
    let others = shape::statements(connection, "index")?
        .filter(|(name, (of, _))| of == table && !expected.indexes.contains_key(name));
    statements.extend(others.map(|(_, (_, sql))| sql));
    Ok(statements)
}

/// Why a table must not be made anew without a second look.
fn obstacle(
    connection: &Connection,
    expected: &Expected,
    found: &Shape,
    drifts: &[Drift],
    table: &str,
    rows: Rows,
) -> Result<Option<String>, Failed> {
    let has = |wanted: &str| {
        drifts
            .iter()
            .any(|drift| drift.code == wanted && drift.place.table == table)
    };
    let columns = |shape: &Shape| -> BTreeSet<String> {
        shape
            .of(Part::Column, table)
            .map(|(name, _)| name.to_owned())
            .collect()
    };
    let there = columns(found);
    let told = if has(code::EXTRA_COLUMN) || has(code::EXTRA_CHECK) {
        "made anew, the table loses columns or checks that are not ours"
    } else if !expected.written(table).all(|column| there.contains(column)) {
        "columns are missing, whose values would be too"
    } else if found.has_table(&format!("{table}_next")) {
        "a table of the name that is needed meanwhile is there"
    } else if is_read_by_others(connection)? {
        "triggers or views that are not ours may stand in the way"
    } else if !records::referring(connection, table)?.is_empty() {
        // The bundled SQLite honours foreign keys: `DROP TABLE` deletes all rows first, and theirs with them.
        "a table that is not ours refers to it, and may lose its rows when the table is made anew"
    } else if bytes(connection)? > LARGE_BYTES {
        "the file is large, and nobody can write while the table is made anew"
    } else if rows == Rows::Unknown {
        NOT_COUNTED
    } else {
        let doubled = has(code::MISSING_KEY) || has(code::WRONG_KEY);
        let unfit = unfit(connection, expected, table, doubled)?;
        return Ok((unfit > 0).then(|| format!("{unfit} rows do not fit, and are to be corrected first")));
    };
    Ok(Some(told.to_owned()))
}

fn is_read_by_others(connection: &Connection) -> Result<bool, Failed> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type IN ('trigger', 'view'))";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

/// The size of the file by its own account.
pub(super) fn bytes(connection: &Connection) -> Result<i64, Failed> {
    let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

/// How many rows the table would refuse that should be there.
fn unfit(connection: &Connection, expected: &Expected, table: &str, doubled: bool) -> Result<i64, Failed> {
    let mut wrong = Vec::new();
    for name in expected.written(table) {
        let definition = expected.shape.get(Part::Column, table, name).unwrap_or_default();
        let column = Column::read(definition);
        wrong.push(format!(
            "typeof({name}) NOT IN ('null', '{}')",
            column.kind.to_lowercase()
        ));
        if column.not_null {
            wrong.push(format!("{name} IS NULL"));
        }
    }
    let checks = expected.shape.of(Part::Check, table);
    wrong.extend(checks.map(|(_, demands)| format!("NOT ({demands})")));
    let sql = format!("SELECT count(*) FROM {table} WHERE {}", wrong.join(" OR "));
    let mut unfit: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
    if let Some(key) = expected.shape.get(Part::Key, table, "-").filter(|_| doubled) {
        let sql = format!(
            "SELECT coalesce(sum(n), 0) FROM (SELECT count(*) - 1 AS n FROM {table} GROUP BY {key} HAVING count(*) > 1)"
        );
        unfit += connection.query_row(&sql, [], |row| row.get::<_, i64>(0))?;
    }
    Ok(unfit)
}

/// A name that somebody else chose, in a statement.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use persist_core::sql::Dialect;
    use persist_migration::drift::compare;
    use persist_migration::{known, list};

    use super::*;

    #[test]
    fn an_index_of_a_large_file_is_made_by_a_person() {
        let expected = Expected::of(&known::as_if_whole(&list(Dialect::Sqlite))).unwrap();
        let mut found = expected.shape.clone();
        assert!(found.take_line("- jobs index jobs_live"));
        assert!(found.take_line("vms index vms_ended (domain_name)"));
        let drifts = compare(&expected.shape, &found);
        assert_eq!(drifts.len(), 2, "{drifts:?}");
        for is_large in [false, true] {
            let mender = Mender {
                expected: &expected,
                remakes: BTreeMap::new(),
                lacking: BTreeSet::new(),
                is_large,
            };
            for drift in &drifts {
                let finding = mender.finding(drift);
                assert_eq!(finding.is_safe, !is_large, "{finding:?}");
                assert_eq!(
                    finding.what.contains("the file is large"),
                    is_large,
                    "{finding:?}"
                );
                assert!(!finding.mend.is_empty(), "{finding:?}");
            }
        }
    }
}
