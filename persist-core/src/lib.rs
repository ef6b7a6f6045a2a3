//! The contract of persist: types, trait, errors and queries, with no database driver.
//!
//! Start at [`PersistBackend`]: its documentation is the contract. An update enters as a [`JobUpdate`] or
//! [`VmUpdate`], becomes a [`Claim`] by `check`, and reaches a backend's `apply`. The pure functions that every
//! backend must agree with are in [`merge`]; the state machines are the tables in [`StateTable`].

mod artefacts;
mod attempt;
pub mod attributes;
mod backend;
mod bell;
mod changes;
mod claim;
mod cursor;
mod deadlines;
mod error;
mod event;
mod ext;
mod health;
pub mod inspect;
mod job;
pub mod jsonl;
pub mod layer;
pub mod limits;
mod listing;
mod marks;
pub mod merge;
pub mod metrics;
mod outbox;
mod outcome;
mod owners;
mod page;
mod prune;
pub mod repo_url;
mod schema;
#[cfg(feature = "sql")]
pub mod sql;
mod state;
mod stats;
mod story;
mod subject;
pub mod time;
mod transfer;
mod update;
mod url;
mod verify;
mod vm;
mod watch;

pub use artefacts::{Artefact, ArtefactKind, Keeping, keeping};
pub use attempt::{Attempt, Rank};
pub use attributes::{Attribute, Attributes};
pub use backend::{Capabilities, PersistBackend};
pub use bell::Bell;
pub use changes::{Change, ChangePosition, ChangeQuery, Changed, Changes, Horizon};
pub use claim::Claim;
pub use cursor::{Cursor, Position};
pub use deadlines::{CHUNK, Deadlines, FLUSHERS, end_of};
pub use error::{Error, ErrorKind, Result, Retry, UpdateOutcome};
pub use event::{Event, EventOrder, EventPosition, EventQuery, Seq};
pub use ext::PersistExt;
pub use health::{Health, Mode, SpoolHealth};
pub use inspect::{Finding, Inspect, Severity};
pub use job::{Job, JobQuery};
pub use marks::{MARK_BYTES, MARK_NAME_BYTES, Marks, check_mark};
pub use merge::Slot;
pub use outbox::{Entry, Outbox, OutboxStatus};
pub use outcome::{Current, Outcome};
pub use owners::{HEARTBEAT, Heartbeat, Orphan, OrphanKind, OrphanQuery, Owner, Owners};
pub use page::{IdRange, Order, Page, TimeRange};
pub use prune::{LARGEST_PRUNE, Prune, Pruned};
pub use schema::{Down, MigrationStatus, PlannedMigration, Schema, SchemaStatus};
pub use state::{JobState, State, StateSpec, StateTable, VmState};
pub use stats::{Group, Stats, StatsQuery, Times};
pub use story::{AsOf, Oddity, OddityKind, Run, Span, Step, Story};
pub use subject::{Subject, VmKey};
pub use time::{Clock, FixedClock, SystemClock, Timestamp};
pub use transfer::{Conflict, Progress, Transfer, Transferred};
pub use update::{JobUpdate, Update, VmUpdate};
pub use url::{DbUrl, POSTGRES_PARAMETERS, PostgresUrl, SCHEMES, SqliteMode, SqliteUrl};
pub use verify::{Checked, Flaw};
pub use vm::{Vm, VmQuery};
pub use watch::Pace;
