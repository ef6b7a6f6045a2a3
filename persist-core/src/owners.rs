//! The power to know who is alive: heartbeats of orchestrators, and what those that are gone left behind.

mod orphan;

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::limits;
use crate::page::Page;
use crate::time::{self, Timestamp};

pub use orphan::{Orphan, OrphanKind, OrphanQuery};

/// Who is alive, by the database's clock alone: the clocks of those that beat decide nothing.
///
/// An orchestrator beats under the name that it stamps on its updates as `actor`, with a number of its start, the epoch.
/// The owner of a live job or VM is the actor of its current slot, if that ever beat. It is gone when its last beat is
/// older than it said that it may become, or when it has started anew since the slot was recorded. A slot whose actor is
/// unknown, or never beat, has no owner that could be gone.
///
/// A heartbeat has the deadline of a write, the others that of a read. All are cancel-safe, and `Closed` after close.
///
/// ```
/// # use persist_core::{Heartbeat, OrphanQuery, PersistBackend, Result};
/// # async fn example(backend: std::sync::Arc<dyn PersistBackend>, epoch: u64) -> Result<()> {
/// let Some(owners) = backend.owners() else { return Ok(()) };
/// owners.heartbeat(&Heartbeat::new("orchestrator-1", epoch)).await?;
/// // What an earlier run of the same name had left is listed from now on.
/// let left = owners.orphans(&OrphanQuery::default().actor("orchestrator-1")).await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// Of each call: `SchemaMismatch` on a store that lacks the migration of owners, which is an optional one.
#[async_trait]
pub trait Owners: Debug + Send + Sync {
    /// Says that an orchestrator is alive, and returns what is known of it. The first beat of a higher epoch is a start anew.
    ///
    /// # Errors
    /// `InvalidInput` as [`Heartbeat::check`] says, and for an epoch below the one that beats: another instance has taken
    /// over the name, and this one must not go on. Such an error carries `epoch` as its `field`.
    async fn heartbeat(&self, beat: &Heartbeat) -> Result<Owner>;

    /// All that ever beat, by the bytes of their names. There are as many as orchestrators.
    async fn list(&self) -> Result<Vec<Owner>>;

    /// A page of what is live and nobody seems to see to, by (`request_id`, `domain_name`). Reads live rows only.
    ///
    /// # Errors
    /// `InvalidInput` as [`OrphanQuery::check`] says.
    async fn orphans(&self, query: &OrphanQuery) -> Result<Page<Orphan>>;
}

/// Shortest and longest time that may pass between beats.
pub const HEARTBEAT: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(24 * 3_600);

/// That an orchestrator is alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Heartbeat {
    /// The name that it stamps on its updates: 1 to 128 bytes.
    pub actor: String,
    /// Number of its start, higher with each: 0 to 2^63−1. Microseconds since 1970 at the start will do.
    pub epoch: u64,
    /// After how long without another beat it counts as gone: 100 ms to 24 h.
    pub valid_for: Duration,
}

impl Heartbeat {
    /// A beat that is good for a minute.
    pub fn new(actor: impl Into<String>, epoch: u64) -> Self {
        Self {
            actor: actor.into(),
            epoch,
            valid_for: Duration::from_secs(60),
        }
    }

    /// Counts as gone after this long without another.
    #[must_use]
    pub fn valid_for(mut self, time: Duration) -> Self {
        self.valid_for = time;
        self
    }

    /// Checks and normalises. Every backend calls this first.
    ///
    /// # Errors
    /// `InvalidInput` that names the field and its limit.
    pub fn check(&self) -> Result<Self> {
        let actor = limits::text("actor", Some(self.actor.clone()), limits::ACTOR_BYTES)?
            .ok_or_else(|| Error::invalid("actor", "must not be empty"))?;
        if i64::try_from(self.epoch).is_err() {
            return Err(Error::invalid("epoch", "must be below 2^63"));
        }
        if !HEARTBEAT.contains(&self.valid_for) {
            return Err(Error::invalid("valid_for", "must be 100 ms to 24 h"));
        }
        Ok(Self {
            actor,
            epoch: self.epoch,
            valid_for: to_micros(self.valid_for),
        })
    }

    /// The error for a beat of an epoch that is not the latest. For backends.
    pub fn overtaken(&self) -> Error {
        let what = "is lower than the one that beats: another instance has taken over the name";
        Error::invalid("epoch", what)
    }
}

/// Cut to what every database stores.
fn to_micros(span: Duration) -> Duration {
    Duration::new(span.as_secs(), span.subsec_micros() * 1_000)
}

/// An orchestrator that has beaten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Owner {
    /// Its name.
    pub actor: String,
    /// Number of its latest start.
    pub epoch: u64,
    /// When the first beat of that epoch came, by the database's clock.
    #[serde(with = "time::rfc3339")]
    pub started_at: Timestamp,
    /// When the last one came, by the database's clock.
    #[serde(with = "time::rfc3339")]
    pub beat_at: Timestamp,
    /// Until when it counts as alive.
    #[serde(with = "time::rfc3339")]
    pub valid_until: Timestamp,
    /// Whether it is alive.
    pub alive: bool,
}

impl Owner {
    /// Of what a store holds, seen at this time of its clock. For backends.
    pub fn new(
        actor: String,
        epoch: u64,
        started_at: Timestamp,
        beat_at: Timestamp,
        valid_until: Timestamp,
        now: Timestamp,
    ) -> Self {
        Self {
            actor,
            epoch,
            started_at,
            beat_at,
            valid_until,
            alive: now < valid_until,
        }
    }

    /// Whether it sees to what was recorded at this time.
    pub fn sees_to(&self, recorded_at: Timestamp) -> bool {
        self.alive && self.started_at <= recorded_at
    }
}

#[cfg(test)]
mod tests;
