//! Current rows of one flush: each is read when the first update of it comes, joined in memory by the function
//! that the memory backend runs, and written once, before the commit.
//!
//! The transaction held the lock of the file from its beginning, so nothing comes between reading and writing.
//! Statements that join by themselves, as Postgres needs them, took a third more time of an update (2026-11):
//! each rewrites the partial indexes, and the updates of one job come together.

use std::collections::HashMap;
use std::sync::LazyLock;

use persist_core::merge::{Brings, Row};
use persist_core::sql::{JOBS, RowTable, VMS};
use persist_core::{Attribute, Current, Error, ErrorKind, Rank, Subject, Timestamp, time};
use rusqlite::{CachedStatement, Connection, Statement};

use crate::error::Failed;
use crate::row;
use crate::slots::{blob, placeholders};

/// The statements of one table, spelled once.
struct Sql {
    find: String,
    insert: String,
    /// Changes a row that may have moved in the indexes that all rows are in.
    update: String,
    /// Changes a row that has not. SQLite rewrites the entries of an index when its columns are only named.
    advance: String,
}

static JOB_SQL: LazyLock<Sql> = LazyLock::new(|| Sql::of(&JOBS));
static VM_SQL: LazyLock<Sql> = LazyLock::new(|| Sql::of(&VMS));

impl Sql {
    fn of(table: &RowTable) -> Self {
        let name = table.name;
        let attributes = table.attributes.map(Attribute::name);
        let ranks = attributes.map(|attribute| format!("{attribute}_rank"));
        // In the order in which `write` binds them.
        let mut columns = vec!["rank", "state", "updated_at"];
        columns.extend(ranks.iter().map(String::as_str));
        columns.extend(&attributes[1..]);
        columns.extend(["created_at", attributes[0]]);
        let numbered: Vec<_> = (1..).zip(&columns).collect();
        let set = |count: usize| {
            let set = numbered[..count]
                .iter()
                .map(|(place, column)| format!("{column} = ?{place}"));
            set.collect::<Vec<_>>().join(", ")
        };
        let changes = |set: String| format!("UPDATE {name} SET prev_rank = rank, {set} WHERE rowid = ?11");
        let keys = (1..).zip(table.key);
        let key: Vec<_> = keys
            .map(|(place, column)| format!("{column} = ?{place}"))
            .collect();
        Self {
            find: format!(
                "SELECT rowid, rank, state, created_at, updated_at, {}, {} FROM {name} WHERE {}",
                attributes.join(", "),
                ranks.join(", "),
                key.join(" AND "),
            ),
            insert: format!(
                "INSERT INTO {name} ({}, {}) VALUES ({})",
                columns.join(", "),
                table.key.join(", "),
                placeholders(columns.len() + table.key.len()),
            ),
            update: changes(set(columns.len())),
            advance: changes(set(columns.len() - 2)),
        }
    }
}

/// What parameters the columns of a row take: those that do not move it in the indexes, and all.
const OFF_INDEXES: usize = 8;
const COLUMNS: usize = 10;

/// The rows of one table that a flush is about.
pub(crate) struct Rows<'c, 'f> {
    table: &'static RowTable,
    find: CachedStatement<'c>,
    insert: CachedStatement<'c>,
    update: CachedStatement<'c>,
    advance: CachedStatement<'c>,
    held: HashMap<&'f Subject, usize>,
    /// In the order of their coming, which is the order in which new ones are written.
    rows: Vec<Held<'f>>,
}

/// A row, and how it stands in the table.
struct Held<'f> {
    subject: &'f Subject,
    row: Row,
    stored: Option<Stored>,
    is_changed: bool,
}

struct Stored {
    rowid: i64,
    created_at: Timestamp,
    /// Of the attribute that an index is about. It is never blanked, and only a higher or a filled slot sets it.
    indexed: Option<String>,
}

/// What joining did to a row.
pub(crate) struct Joined {
    pub(crate) is_new: bool,
    pub(crate) is_forward: bool,
    pub(crate) current: Current,
}

impl<'c, 'f> Rows<'c, 'f> {
    pub(crate) fn of_jobs(connection: &'c Connection) -> Result<Self, Failed> {
        Self::new(connection, &JOBS, &JOB_SQL)
    }

    pub(crate) fn of_vms(connection: &'c Connection) -> Result<Self, Failed> {
        Self::new(connection, &VMS, &VM_SQL)
    }

    fn new(connection: &'c Connection, table: &'static RowTable, sql: &Sql) -> Result<Self, Failed> {
        Ok(Self {
            table,
            find: connection.prepare_cached(&sql.find)?,
            insert: connection.prepare_cached(&sql.insert)?,
            update: connection.prepare_cached(&sql.update)?,
            advance: connection.prepare_cached(&sql.advance)?,
            held: HashMap::new(),
            rows: Vec::new(),
        })
    }

    /// Joins a slot that was claimed just now, or filled.
    pub(crate) fn join(&mut self, subject: &'f Subject, slot: &impl Brings) -> Result<Joined, Failed> {
        let Some(index) = self.find(subject)? else {
            let row = Row::first(slot);
            let current = row.current();
            self.hold(subject, row, None, true);
            return Ok(Joined {
                is_new: true,
                is_forward: true,
                current,
            });
        };
        let held = &mut self.rows[index];
        held.is_changed = true;
        let is_forward = held.row.join(slot);
        Ok(Joined {
            is_new: false,
            is_forward,
            current: held.row.current(),
        })
    }

    /// The row of a slot that was held already.
    pub(crate) fn current(&mut self, subject: &'f Subject) -> Result<Current, Failed> {
        let index = self.find(subject)?.ok_or_else(|| {
            let what = format!("{subject} has history and no row; the file is damaged or was edited");
            Error::new(ErrorKind::Corrupt, what)
                .with("table", self.table.name)
                .with("request_id", subject.request_id())
        })?;
        Ok(self.rows[index].row.current())
    }

    /// Writes the rows that changed.
    pub(crate) fn finish(mut self) -> Result<(), Failed> {
        for held in self.rows.iter().filter(|held| held.is_changed) {
            match &held.stored {
                None => {
                    write(&mut self.insert, self.table, &held.row, COLUMNS)?;
                    bind_key(&mut self.insert, COLUMNS + 1, held.subject)?;
                    self.insert.raw_execute()?;
                }
                Some(stored) => {
                    let indexed = held.row.attributes.get(self.table.attributes[0]);
                    let is_moved =
                        stored.created_at != held.row.created_at || stored.indexed.as_deref() != indexed;
                    let (statement, columns) = if is_moved {
                        (&mut self.update, COLUMNS)
                    } else {
                        (&mut self.advance, OFF_INDEXES)
                    };
                    write(statement, self.table, &held.row, columns)?;
                    statement.raw_bind_parameter(COLUMNS + 1, stored.rowid)?;
                    statement.raw_execute()?;
                }
            }
        }
        Ok(())
    }

    fn hold(&mut self, subject: &'f Subject, row: Row, stored: Option<Stored>, is_changed: bool) -> usize {
        let index = self.rows.len();
        self.held.insert(subject, index);
        self.rows.push(Held {
            subject,
            row,
            stored,
            is_changed,
        });
        index
    }

    /// Where the row is held, read from the table where it is not yet.
    fn find(&mut self, subject: &'f Subject) -> Result<Option<usize>, Failed> {
        if let Some(index) = self.held.get(subject) {
            return Ok(Some(*index));
        }
        bind_key(&mut self.find, 1, subject)?;
        let mut found = self.find.raw_query();
        let Some(columns) = found.next()? else {
            return Ok(None);
        };
        let (row, stored) = decode(self.table, subject, columns)?;
        drop(found);
        Ok(Some(self.hold(subject, row, Some(stored), false)))
    }
}

fn decode(table: &RowTable, subject: &Subject, row: &rusqlite::Row<'_>) -> Result<(Row, Stored), Failed> {
    let id = subject.request_id();
    let damaged = |name: &str, why: &str| row::damaged(table.name, name, id, why);
    let number = |column: usize, name: &str| -> Result<Option<i64>, Error> {
        row.get(column).map_err(|_| damaged(name, row::NOT_OF_TYPE))
    };
    let rank = |column: usize, name: &str| -> Result<Rank, Error> {
        let rank = number(column, name)?.and_then(Rank::from_i64);
        rank.ok_or_else(|| damaged(name, row::NO_RANK))
    };
    let at = |column: usize, name: &str| -> Result<Timestamp, Error> {
        let at = number(column, name)?.and_then(time::from_micros);
        at.ok_or_else(|| damaged(name, row::NO_TIME))
    };
    let state = row::state_of(table.name, subject, row.get_ref(2)?)?;
    let created_at = at(3, "created_at")?;
    let mut joined = Row::stored(rank(1, "rank")?, state, created_at, at(4, "updated_at")?);
    for (place, attribute) in (5..).zip(table.attributes) {
        let name = attribute.name();
        let value: Option<String> = row.get(place).map_err(|_| damaged(name, row::NOT_OF_TYPE))?;
        if let Some(value) = value {
            joined = joined.with(attribute, value, rank(place + 3, &format!("{name}_rank"))?);
        }
    }
    let indexed = joined.attributes.get(table.attributes[0]).map(str::to_owned);
    let stored = Stored {
        rowid: row.get(0)?,
        created_at,
        indexed,
    };
    Ok((joined, stored))
}

/// Binds so many of the columns of a row.
fn write(statement: &mut Statement<'_>, table: &RowTable, row: &Row, columns: usize) -> Result<(), Failed> {
    statement.raw_bind_parameter(1, row.rank.get())?;
    statement.raw_bind_parameter(2, row.state.name())?;
    statement.raw_bind_parameter(3, row.updated_at.timestamp_micros())?;
    for (place, attribute) in (4..).zip(table.attributes) {
        statement.raw_bind_parameter(place, row.attribute_rank(attribute).map(Rank::get))?;
    }
    for (place, attribute) in (7..).zip(&table.attributes[1..]) {
        statement.raw_bind_parameter(place, row.attributes.get(*attribute))?;
    }
    if columns > OFF_INDEXES {
        statement.raw_bind_parameter(9, row.created_at.timestamp_micros())?;
        statement.raw_bind_parameter(10, row.attributes.get(table.attributes[0]))?;
    }
    Ok(())
}

/// Binds the key of a row, from this place on.
fn bind_key(statement: &mut Statement<'_>, place: usize, subject: &Subject) -> Result<(), Failed> {
    let id = subject.request_id();
    statement.raw_bind_parameter(place, blob(id.as_bytes()))?;
    if subject.is_vm() {
        statement.raw_bind_parameter(place + 1, subject.domain_name())?;
    }
    Ok(())
}
