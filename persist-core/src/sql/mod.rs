//! SQL that Postgres and SQLite share: table shapes, the merging clause, and the list statements.
//!
//! Statements are built once here; a backend overrides only what its database spells differently, and says
//! why. No driver: text, and `sea-query` statements for what depends on a query's filters.

mod event;
mod job;
mod ledger;
mod merge;
mod owners;
mod prune;
mod search;
mod select;
mod table;
mod vm;

pub use event::events;
pub use job::{job, jobs};
pub use ledger::{REFUSAL_COLUMNS, REFUSALS, forget_refusals, keep, refusals};
pub use merge::slot_conflict;
pub use owners::{ORPHAN_COLUMNS, OWNER_COLUMNS, OWNERS, SQLITE_NOW, heartbeat, orphans, owners};
pub use prune::{Asked, Bound, Removal, removal, still_matching};
pub use search::{Candidate, Search, time_of_search};
pub use select::Statement;
pub use table::{
    EVENT_COLUMNS, EVENTS, JOB_COLUMNS, JOBS, RowTable, VM_COLUMNS, VMS, named_columns, state_list,
};
pub use vm::{vm, vms};

use sea_query::Value;
use uuid::Uuid;

use crate::time::Timestamp;

/// Which database a statement is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// PostgreSQL 14 and later.
    Postgres,
    /// SQLite, bundled.
    Sqlite,
}

impl Dialect {
    /// An id as the column holds it: `uuid`, or 16 bytes.
    pub fn id(self, id: Uuid) -> Value {
        match self {
            Self::Postgres => Value::Uuid(Some(id)),
            Self::Sqlite => Value::Bytes(Some(id.as_bytes().to_vec())),
        }
    }

    /// A time as the column holds it: `timestamptz`, or microseconds since 1970.
    pub fn time(self, at: Timestamp) -> Value {
        match self {
            Self::Postgres => Value::ChronoDateTimeUtc(Some(at)),
            Self::Sqlite => Value::BigInt(Some(at.timestamp_micros())),
        }
    }
}
