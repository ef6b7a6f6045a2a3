//! What a backend, and the facade over it, tell of themselves.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::ErrorKind;
use crate::outbox::OutboxStatus;
use crate::time::{self, Timestamp};

/// What is going on now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Mode {
    /// Off, by wish: writes are dropped, reads are `Unavailable`.
    Disabled,
    /// The database is in use.
    Ready,
    /// The database is away: writes are dropped and counted, or kept in the spool; a probe tries to heal it.
    Degraded,
    /// After `close`. Told to those who watch the mode; `health` is then an error.
    Closed,
}

impl Mode {
    /// The stable snake-case word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Closed => "closed",
        }
    }
}

/// The answer of `health`, made within its own deadline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Health {
    /// Name of the backend: `postgres`, `sqlite`, `memory` or `none`.
    pub backend: String,
    /// What is going on now.
    pub mode: Mode,
    /// Since when, by the facade's clock; `None` from a bare backend.
    #[serde(with = "time::rfc3339::option")]
    pub since: Option<Timestamp>,
    /// How long the database took to answer, microseconds.
    pub latency_us: Option<u64>,
    /// The database software and its version.
    pub server: Option<String>,
    /// Name of the newest migration that the database has.
    pub schema_version: Option<String>,
    /// Identity of the store, made once when it was created.
    pub instance_id: Option<Uuid>,
    /// Whether an acknowledged update survives a crash of the machine.
    pub durable: bool,
    /// Updates that were certainly not sent, since the start.
    pub dropped: u64,
    /// Updates that were sent without an answer and given up, since the start.
    pub unknown: u64,
    /// Flushes that this handle's writer made, since the start; 0 where there is no writer. Each is one commit, but
    /// where one slot came more than once and brought more: Postgres then commits part by part.
    pub flushes: u64,
    /// Updates in those.
    pub flushed: u64,
    /// Kind of the last error, as a word.
    pub last_error: Option<String>,
    /// What waits outside of the database; `None` where there is no spool.
    pub spool: Option<SpoolHealth>,
}

/// How a spool is. What waits is not in the database yet; what is dead waits for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SpoolHealth {
    /// What the file holds.
    #[serde(flatten)]
    pub held: OutboxStatus,
    /// Age of the oldest entry that waits, microseconds.
    pub oldest_age_us: Option<u64>,
    /// Whether that is more than the spool was told to bear without an alarm.
    pub overdue: bool,
    /// The store that answered in place of the one that the entries belong to: nothing is replayed into it.
    pub foreign: Option<Uuid>,
    /// Updates that were taken, since the start.
    pub spooled: u64,
    /// Updates that the spool could not take, since the start: the caller has an error of each.
    pub rejected: u64,
    /// Entries that the database has since taken, since the start.
    pub replayed: u64,
    /// Those among them that the database answered with `Refused`.
    pub refused: u64,
}

impl Health {
    /// A report with only backend and mode; set what is known. For backends and layers.
    pub fn new(backend: &str, mode: Mode) -> Self {
        Self {
            backend: backend.to_owned(),
            mode,
            since: None,
            latency_us: None,
            server: None,
            schema_version: None,
            instance_id: None,
            durable: false,
            dropped: 0,
            unknown: 0,
            flushes: 0,
            flushed: 0,
            last_error: None,
            spool: None,
        }
    }

    /// Notes the kind of the last error.
    #[must_use]
    pub fn last_error(mut self, kind: Option<ErrorKind>) -> Self {
        self.last_error = kind.map(|kind| kind.name().to_owned());
        self
    }
}
