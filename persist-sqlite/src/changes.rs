//! The changes, by number: with one writer at a time that is the order in which they were committed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use persist_core::sql::{self, Dialect};
use persist_core::{
    Change, ChangePosition, ChangeQuery, Changed, Changes, EventOrder, EventPosition, EventQuery, Result, Seq,
};
use rusqlite::Connection;

use crate::bind::Select;
use crate::error::Failed;
use crate::store::Store;
use crate::{event, records};

/// The [`Changes`] of a SQLite store.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) store: Arc<Store>,
    pub(crate) deadline: Duration,
}

#[async_trait]
impl Changes for Watched {
    async fn now(&self) -> Result<ChangePosition> {
        self.store.read("now", self.deadline, now).await
    }

    async fn since(&self, query: &ChangeQuery) -> Result<Changed> {
        let query = query.clone();
        let read = move |connection: &Connection| since(connection, &query);
        self.store.read("changes", self.deadline, read).await
    }

    /// Of what this handle has committed; of other processes nothing is known.
    async fn hint(&self) {
        self.store.bell.rung().await;
    }
}

fn now(connection: &Connection) -> Result<ChangePosition, Failed> {
    let snapshot = connection.unchecked_transaction()?;
    Ok(ChangePosition {
        store: records::instance_id(&snapshot)?,
        transaction: 0,
        seq: Seq::new(records::last_seq(&snapshot)?),
        prunes: records::horizon(&snapshot)?.prunes,
    })
}

/// In one snapshot: what was pruned, and what is there.
fn since(connection: &Connection, query: &ChangeQuery) -> Result<Changed, Failed> {
    let snapshot = connection.unchecked_transaction()?;
    let store = records::instance_id(&snapshot)?;
    let after = query.check(store)?;
    let end = (0, records::last_seq(&snapshot)?);
    let from = records::horizon(&snapshot)?.begin(store, after, end)?;
    let by_seq = EventQuery::default().order(EventOrder::BySeq).limit(query.limit);
    let position = EventPosition::Seq(Some(from.seq));
    let mut select = Select::new(&snapshot, &sql::events(Dialect::Sqlite, None, &by_seq, &position))?;
    let (mut rows, mut changes) = (select.rows()?, Vec::new());
    while let Some(row) = rows.next()? {
        if changes.len() == query.limit as usize {
            // It only tells that more follow: it is another answer's to read, and to fail on.
            return Ok(Changed::new(changes, from, true));
        }
        let event = event::decode(row)?;
        let position = ChangePosition {
            seq: event.seq,
            ..from
        };
        changes.push(Change::new(event, position));
    }
    Ok(Changed::new(changes, from, false))
}
