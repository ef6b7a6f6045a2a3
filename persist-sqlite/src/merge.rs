//! How one claim is merged: its slot, then its row, by statements of which each is the join.
//!
//! Runs inside a transaction that held the lock from its beginning, so that no other writer comes between.

use std::sync::LazyLock;

use persist_core::sql::{
    Dialect, EVENT_COLUMNS, EVENTS, JOBS, RowTable, VMS, row_conflict, row_conflict_off_indexes,
    slot_conflict,
};
use persist_core::{Attribute, Claim, Current, Error, ErrorKind, Outcome, Rank, State, Subject};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Statement, params};

use crate::error::Failed;
use crate::records::NOW;
use crate::row;

/// The statements, spelled once.
struct Sql {
    begin: String,
    claim: String,
    fill: String,
    standing: String,
    jobs: RowSql,
    vms: RowSql,
}

struct RowSql {
    look: String,
    join: String,
    /// The join of what changes no column of the indexes that all rows are in: a third of the time less.
    advance: String,
}

// differs: no RETURNING. SQLite runs it as a trigger, with a journal and a table of its own for each statement:
// a third of the time of an update (2026-11). Under the lock what is asked before holds.
static SQL: LazyLock<Sql> = LazyLock::new(|| {
    let columns = EVENT_COLUMNS.join(", ");
    let insert = format!(
        "INSERT INTO {EVENTS} AS e ({columns}) VALUES ({})",
        placeholders(EVENT_COLUMNS.len())
    );
    let attributes = Attribute::ALL.map(Attribute::name).join(", ");
    let slot = format!("FROM {EVENTS} WHERE request_id = ?1 AND domain_name = ?2 AND rank = ?3");
    Sql {
        begin: format!(
            "SELECT CAST(value AS INTEGER), {NOW} FROM persist_meta WHERE key = 'next_seq' \
             AND CAST(value AS INTEGER) > 0"
        ),
        claim: format!("{insert} ON CONFLICT (request_id, domain_name, rank) DO NOTHING"),
        fill: format!("{insert} {}", slot_conflict(Dialect::Sqlite)),
        standing: format!("SELECT state, at, {attributes} {slot}"),
        jobs: RowSql::of(&JOBS),
        vms: RowSql::of(&VMS),
    }
});

impl RowSql {
    fn of(table: &RowTable) -> Self {
        let mut columns: Vec<_> = table.key.to_vec();
        columns.extend(["rank", "state", "created_at", "updated_at"]);
        let attributes = table.attributes.map(Attribute::name);
        let ranks = attributes.map(|attribute| format!("{attribute}_rank"));
        columns.extend(attributes);
        columns.extend(ranks.iter().map(String::as_str));
        let keys = (1..).zip(table.key);
        let key: Vec<_> = keys
            .map(|(place, column)| format!("{column} = ?{place}"))
            .collect();
        let insert = format!(
            "INSERT INTO {} AS r ({}) VALUES ({})",
            table.name,
            columns.join(", "),
            placeholders(columns.len()),
        );
        Self {
            look: format!(
                "SELECT rank, state, created_at FROM {} WHERE {}",
                table.name,
                key.join(" AND ")
            ),
            join: format!("{insert} {}", row_conflict(table)),
            advance: format!("{insert} {}", row_conflict_off_indexes(table)),
        }
    }
}

fn placeholders(count: usize) -> String {
    let all: Vec<_> = (1..=count).map(|place| format!("?{place}")).collect();
    all.join(", ")
}

/// Claims slots, and numbers their changes.
pub(crate) struct Slots<'c> {
    connection: &'c Connection,
    claim: CachedStatement<'c>,
    fill: CachedStatement<'c>,
    standing: CachedStatement<'c>,
    next_seq: i64,
    recorded_at: i64,
}

/// What stands in a slot that was held already.
struct Standing {
    state: State,
    at: i64,
    attributes: [Option<String>; 6],
}

impl<'c> Slots<'c> {
    /// In the transaction that the connection is in: all slots are recorded at its time.
    pub(crate) fn begin(connection: &'c Connection) -> Result<Self, Failed> {
        let mut begin = connection.prepare_cached(&SQL.begin)?;
        let begun = begin
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (next_seq, recorded_at) = begun.ok_or_else(|| {
            let what = "persist_meta says no next_seq; the file is damaged or was edited";
            Error::new(ErrorKind::Corrupt, what)
        })?;
        Ok(Self {
            connection,
            claim: connection.prepare_cached(&SQL.claim)?,
            fill: connection.prepare_cached(&SQL.fill)?,
            standing: connection.prepare_cached(&SQL.standing)?,
            next_seq,
            recorded_at,
        })
    }

    /// Claims a slot where it is free. Says whether it was.
    pub(crate) fn claim(&mut self, claim: &Claim) -> Result<bool, Failed> {
        let claimed = changes(&mut self.claim, claim, self.next_seq, self.recorded_at)?;
        self.next_seq += i64::from(claimed);
        Ok(claimed)
    }

    /// Fills blanks of a held slot of the same state. Says whether there were any.
    fn fill(&mut self, claim: &Claim) -> Result<bool, Failed> {
        let filled = changes(&mut self.fill, claim, self.next_seq, self.recorded_at)?;
        self.next_seq += i64::from(filled);
        Ok(filled)
    }

    fn standing(&mut self, claim: &Claim) -> Result<Standing, Failed> {
        let subject = claim.subject();
        let id = subject.request_id();
        let key = params![blob(id.as_bytes()), subject.domain_name(), claim.rank().get()];
        let mut rows = self.standing.query(key)?;
        let row = rows.next()?.ok_or_else(|| {
            let what = format!("a slot of {subject} is held and can't be found; the file is damaged");
            Error::new(ErrorKind::Corrupt, what).with("table", EVENTS)
        })?;
        let mut attributes: [Option<String>; 6] = Default::default();
        for (column, attribute) in (2..).zip(&mut attributes) {
            *attribute = row.get(column)?;
        }
        Ok(Standing {
            state: state(EVENTS, subject, row.get_ref(0)?)?,
            at: row.get(1)?,
            attributes,
        })
    }

    /// Keeps the numbers that were given from being given again.
    pub(crate) fn finish(self) -> Result<(), Failed> {
        let sql = "UPDATE persist_meta SET value = ?1 WHERE key = 'next_seq' AND value <> ?1";
        let mut update = self.connection.prepare_cached(sql)?;
        update.execute([self.next_seq.to_string()])?;
        Ok(())
    }
}

/// Runs a statement over [`EVENT_COLUMNS`]. Says whether it changed the slot.
fn changes(statement: &mut Statement<'_>, claim: &Claim, seq: i64, recorded_at: i64) -> Result<bool, Failed> {
    let subject = claim.subject();
    let id = subject.request_id();
    statement.raw_bind_parameter(1, seq)?;
    statement.raw_bind_parameter(2, blob(id.as_bytes()))?;
    statement.raw_bind_parameter(3, subject.domain_name())?;
    statement.raw_bind_parameter(4, claim.rank().get())?;
    statement.raw_bind_parameter(5, claim.state().name())?;
    statement.raw_bind_parameter(6, claim.at().timestamp_micros())?;
    statement.raw_bind_parameter(7, recorded_at)?;
    statement.raw_bind_parameter(8, claim.actor())?;
    statement.raw_bind_parameter(9, claim.reason())?;
    for (place, attribute) in (10..).zip(Attribute::ALL) {
        statement.raw_bind_parameter(place, claim.attribute(attribute))?;
    }
    Ok(statement.raw_execute()? > 0)
}

/// Without the copy that a vector would be.
fn blob(bytes: &[u8]) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(ValueRef::Blob(bytes))
}

/// The rows of one table.
struct Rows<'c> {
    table: &'static RowTable,
    look: CachedStatement<'c>,
    join: CachedStatement<'c>,
    advance: CachedStatement<'c>,
}

/// A row as it stands.
struct Row {
    rank: Rank,
    state: State,
    created_at: i64,
}

impl<'c> Rows<'c> {
    fn new(
        connection: &'c Connection,
        table: &'static RowTable,
        sql: &'static RowSql,
    ) -> Result<Self, Failed> {
        Ok(Self {
            table,
            look: connection.prepare_cached(&sql.look)?,
            join: connection.prepare_cached(&sql.join)?,
            advance: connection.prepare_cached(&sql.advance)?,
        })
    }

    /// The row, if there is one.
    fn look(&mut self, subject: &Subject) -> Result<Option<Row>, Failed> {
        bind_key(&mut self.look, subject)?;
        let mut rows = self.look.raw_query();
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let rank = Rank::from_i64(row.get(0)?).ok_or_else(|| {
            let (table, id) = (self.table.name, subject.request_id());
            let what =
                format!("{table}.rank of {id} is no rank of any slot; the file is damaged or was edited");
            Error::new(ErrorKind::Corrupt, what).with("table", table)
        })?;
        Ok(Some(Row {
            rank,
            state: state(self.table.name, subject, row.get_ref(1)?)?,
            created_at: row.get(2)?,
        }))
    }

    /// The row of a slot that was held already.
    fn current(&mut self, subject: &Subject) -> Result<Current, Failed> {
        let row = self.look(subject)?.ok_or_else(|| {
            let what = format!("{subject} has history and no row; the file is damaged or was edited");
            Error::new(ErrorKind::Corrupt, what).with("table", self.table.name)
        })?;
        Ok(row.current())
    }

    /// Joins a changed slot: its time, and its attributes as they stand now.
    fn join<'v>(
        &mut self,
        before: Option<&Row>,
        claim: &Claim,
        at: i64,
        value: impl Fn(Attribute) -> Option<&'v str>,
    ) -> Result<(), Failed> {
        let rank = claim.rank().get();
        let is_off_indexes = before.is_some_and(|row| at >= row.created_at);
        let join = if is_off_indexes && value(self.table.attributes[0]).is_none() {
            &mut self.advance
        } else {
            &mut self.join
        };
        let next = bind_key(join, claim.subject())?;
        join.raw_bind_parameter(next, rank)?;
        join.raw_bind_parameter(next + 1, claim.state().name())?;
        join.raw_bind_parameter(next + 2, at)?;
        join.raw_bind_parameter(next + 3, at)?;
        for (place, attribute) in (next + 4..).zip(self.table.attributes) {
            let value = value(attribute);
            join.raw_bind_parameter(place, value)?;
            join.raw_bind_parameter(place + self.table.attributes.len(), value.map(|_| rank))?;
        }
        join.raw_execute()?;
        Ok(())
    }
}

/// Binds the key of a row, and says which parameter is next.
fn bind_key(statement: &mut Statement<'_>, subject: &Subject) -> Result<usize, Failed> {
    let id = subject.request_id();
    statement.raw_bind_parameter(1, blob(id.as_bytes()))?;
    if !subject.is_vm() {
        return Ok(2);
    }
    statement.raw_bind_parameter(2, subject.domain_name())?;
    Ok(3)
}

impl Row {
    fn current(&self) -> Current {
        Current {
            state: self.state,
            attempt: self.rank.attempt(),
        }
    }
}

fn state(table: &'static str, subject: &Subject, word: ValueRef<'_>) -> Result<State, Failed> {
    let word = word.as_str().unwrap_or_default();
    State::from_name(subject.is_vm(), word)
        .ok_or_else(|| row::unknown(table, "state", subject.request_id(), word).into())
}

/// Merges claims in the transaction that the connection is in.
pub(crate) struct Merge<'c> {
    slots: Slots<'c>,
    jobs: Rows<'c>,
    vms: Rows<'c>,
}

impl<'c> Merge<'c> {
    pub(crate) fn begin(connection: &'c Connection) -> Result<Self, Failed> {
        Ok(Self {
            slots: Slots::begin(connection)?,
            jobs: Rows::new(connection, &JOBS, &SQL.jobs)?,
            vms: Rows::new(connection, &VMS, &SQL.vms)?,
        })
    }

    pub(crate) fn one(&mut self, claim: &Claim) -> Result<Outcome, Failed> {
        let (slots, subject) = (&mut self.slots, claim.subject());
        let rows = if subject.is_vm() {
            &mut self.vms
        } else {
            &mut self.jobs
        };
        if slots.claim(claim)? {
            let before = rows.look(subject)?;
            let at = claim.at().timestamp_micros();
            rows.join(before.as_ref(), claim, at, |attribute| claim.attribute(attribute))?;
            return Ok(match before {
                None => Outcome::Applied { created: true },
                Some(row) if claim.rank() > row.rank => Outcome::Applied { created: false },
                Some(row) => Outcome::Late {
                    current: row.current(),
                },
            });
        }
        let filled = slots.fill(claim)?;
        let standing = slots.standing(claim)?;
        let current = rows.current(subject)?;
        if filled {
            let value = |attribute| standing.attributes[attribute as usize].as_deref();
            rows.join(None, claim, standing.at, value)?;
            return Ok(Outcome::Filled { current });
        }
        Ok(if standing.state == claim.state() {
            Outcome::Unchanged { current }
        } else {
            Outcome::Refused {
                standing: standing.state,
                current,
            }
        })
    }

    pub(crate) fn finish(self) -> Result<(), Failed> {
        self.slots.finish()
    }
}
