//! Slots of the history: claimed where they are free, filled where they have blanks, numbered as they change.

use std::sync::LazyLock;

use persist_core::sql::{Dialect, EVENT_COLUMNS, EVENTS, slot_conflict};
use persist_core::{Attribute, Attributes, Claim, Error, ErrorKind, Slot, time};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Statement, params};

use crate::error::Failed;
use crate::records::NOW;
use crate::row;

/// No store has given so many numbers, and no flush takes what is left above.
const MOST_SEQ: i64 = 1 << 62;

/// The statements, spelled once.
struct Sql {
    begin: String,
    claim: String,
    fill: String,
    standing: String,
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
             AND CAST(value AS INTEGER) BETWEEN 1 AND {MOST_SEQ}"
        ),
        claim: format!("{insert} ON CONFLICT (request_id, domain_name, rank) DO NOTHING"),
        fill: format!("{insert} {}", slot_conflict(Dialect::Sqlite)),
        standing: format!("SELECT state, at, actor, reason, {attributes} {slot}"),
    }
});

/// As many parameters, numbered from 1.
pub(crate) fn placeholders(count: usize) -> String {
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

impl<'c> Slots<'c> {
    /// In the transaction that the connection is in: all slots are recorded at its time.
    pub(crate) fn begin(connection: &'c Connection) -> Result<Self, Failed> {
        let mut begin = connection.prepare_cached(&SQL.begin)?;
        let begun = begin
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (next_seq, recorded_at) = begun.ok_or_else(|| {
            let what = "persist_meta says no next_seq that can be; the file is damaged or was edited";
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

    /// Fills blanks of a held slot of the same state, of which the caller knows that there are some.
    pub(crate) fn fill(&mut self, claim: &Claim) -> Result<(), Failed> {
        let filled = changes(&mut self.fill, claim, self.next_seq, self.recorded_at)?;
        self.next_seq += i64::from(filled);
        Ok(())
    }

    /// What stands in the slot of a claim that did not get it.
    pub(crate) fn standing(&mut self, claim: &Claim) -> Result<Slot, Failed> {
        let subject = claim.subject();
        let id = subject.request_id();
        let key = params![blob(id.as_bytes()), subject.domain_name(), claim.rank().get()];
        let mut rows = self.standing.query(key)?;
        let row = rows.next()?.ok_or_else(|| {
            let what = format!("a slot of {subject} is held and can't be found; the file is damaged");
            Error::new(ErrorKind::Corrupt, what)
                .with("table", EVENTS)
                .with("request_id", id)
        })?;
        let text = |column: usize, name: &str| -> Result<Option<String>, Error> {
            let of_type = row.get(column);
            of_type.map_err(|_| row::damaged(EVENTS, name, id, row::NOT_OF_TYPE))
        };
        let mut attributes = Attributes::default();
        for (column, attribute) in (4..).zip(Attribute::ALL) {
            attributes.set(attribute, text(column, attribute.name())?);
        }
        let at = row.get(1).ok().and_then(time::from_micros);
        Ok(Slot {
            rank: claim.rank(),
            state: row::state_of(EVENTS, subject, row.get_ref(0)?)?,
            at: at.ok_or_else(|| row::damaged(EVENTS, "at", id, row::NO_TIME))?,
            actor: text(2, "actor")?,
            reason: text(3, "reason")?,
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
pub(crate) fn blob(bytes: &[u8]) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(ValueRef::Blob(bytes))
}
