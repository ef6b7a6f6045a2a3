//! How a writer batches.

use std::time::Duration;

use crate::deadlines::{CHUNK, Deadlines, FLUSHERS, LONGEST};

/// How a [`Writer`](super::Writer) batches. The defaults are those of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coalesce {
    pub(super) room: u32,
    pub(super) batch: usize,
    pub(super) flushers: usize,
    pub(super) beside: usize,
    pub(super) hold: Duration,
    pub(super) patience: Duration,
    pub(super) backend: &'static str,
}

impl Default for Coalesce {
    fn default() -> Self {
        Self {
            room: 8_192,
            batch: CHUNK,
            flushers: FLUSHERS,
            beside: 20,
            hold: Duration::from_millis(10),
            patience: Deadlines::default().write,
            backend: "none",
        }
    }
}

impl Coalesce {
    /// How long a call may take, from its beginning, before it is given up: 10 s, the deadline of a write. What is
    /// still queued then is withdrawn.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience.min(LONGEST);
        self
    }

    /// What the updates go to, for the metrics of a [`Writer`](super::Writer) by itself: `none`. A
    /// [`Coalescing`](super::Coalescing) layer asks what it is over.
    #[must_use]
    pub fn backend(mut self, name: &'static str) -> Self {
        self.backend = name;
        self
    }

    /// Updates that may wait or be in the air, at least 1: 8,192. Who comes beyond them waits for room.
    #[must_use]
    pub fn room(mut self, updates: u32) -> Self {
        self.room = updates.max(1);
        self
    }

    /// Most updates of one flush, at least 1: 512, a chunk.
    #[must_use]
    pub fn batch(mut self, updates: usize) -> Self {
        self.batch = updates.max(1);
        self
    }

    /// Updates that make one more flush worth its commit beside one that is in the air, at least 1: 20. A statement
    /// costs the server as much as some ten updates; with 64 callers 10 make a tenth less of them, and 40 a third
    /// (2026-11).
    #[must_use]
    pub fn beside(mut self, updates: usize) -> Self {
        self.beside = updates.max(1);
        self
    }

    /// How long fewer than those wait for a flush in the air: 10 ms, several times what a healthy one takes; five
    /// times that where two are in the air. One that is held up, by a lock or a server process that froze, then holds
    /// up its own jobs, and those few of others that go by the same shares (there are 4,096); after ten times that it is
    /// not counted among the two any more. As many as [`flushers`](Self::flushers) hold up everybody.
    #[must_use]
    pub fn hold(mut self, time: Duration) -> Self {
        self.hold = time.min(LONGEST);
        self
    }

    /// Most flushes in the air at once, at least 1: [`FLUSHERS`]. Two are, while the queue is short. The Postgres
    /// backend has connections for as many as that; more would wait for one.
    #[must_use]
    pub fn flushers(mut self, flushes: usize) -> Self {
        self.flushers = flushes.max(1);
        self
    }
}
