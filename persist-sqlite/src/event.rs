//! Reads of the history.

use persist_core::sql::{self, Dialect, EVENT_COLUMNS, EVENTS};
use persist_core::{
    Attribute, Attributes, Event, EventOrder, EventQuery, Page, Result, Seq, Slot, State, Subject,
};
use rusqlite::{Connection, Row};
use uuid::Uuid;

use crate::bind::Select;
use crate::error::Failed;
use crate::records;
use crate::row::{self, Columns};

/// Where the attributes begin in [`EVENT_COLUMNS`], which has them in the order of [`Attribute::ALL`].
const FIRST_ATTRIBUTE: usize = 9;

/// Takes the columns in the order of [`EVENT_COLUMNS`].
pub(crate) fn decode(row: &Row<'_>) -> Result<Event> {
    let row = Columns::new(EVENTS, &EVENT_COLUMNS, row, 1)?;
    let subject = Subject::new(row.id(), &row.get::<String>(2)?);
    let mut attributes = Attributes::default();
    for (column, attribute) in (FIRST_ATTRIBUTE..).zip(Attribute::ALL) {
        attributes.set(attribute, row.get(column)?);
    }
    let slot = Slot {
        rank: row.rank(3)?,
        state: row.state(4, |word| State::from_name(subject.is_vm(), word))?,
        at: row.time(5)?,
        actor: row.get(7)?,
        reason: row.get(8)?,
        attributes,
    };
    Ok(Event::new(Seq::new(row.get(0)?), row.time(6)?, subject, slot))
}

/// A page of a query that was not checked yet.
pub(crate) fn list(connection: &Connection, query: &EventQuery) -> Result<Page<Event>, Failed> {
    let instance_id = match query.order {
        EventOrder::BySeq => records::instance_id(connection)?,
        // Its cursors are bound to no store.
        EventOrder::ByKey => Uuid::nil(),
    };
    let position = query.check(instance_id)?;
    let mut select = Select::new(connection, &sql::events(Dialect::Sqlite, None, query, &position))?;
    row::page(&mut select, query.limit, decode, |event| {
        query.cursor(event, instance_id)
    })
}
