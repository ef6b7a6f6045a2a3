//! The queue of a writer, and its flushes.

use std::fmt;
use std::time::Duration;

use metrics::{Gauge, Histogram, gauge, histogram};

use super::{FLUSH_DURATION, FLUSH_UPDATES, QUEUE_AGE, QUEUE_UPDATES};

/// The metrics of one writer. For backends that have a queue of their own.
pub struct WriterMeter {
    queue: Gauge,
    age: Histogram,
    updates: Histogram,
    answered: Histogram,
    failed: Histogram,
}

/// Updates that wait or are in the air, until this is dropped.
#[must_use]
pub struct Queued {
    updates: u32,
    queue: Gauge,
}

impl WriterMeter {
    /// Of a writer in front of this backend.
    pub fn new(backend: &'static str) -> Self {
        let took = |outcome| histogram!(FLUSH_DURATION.name, "backend" => backend, "outcome" => outcome);
        Self {
            queue: gauge!(QUEUE_UPDATES.name, "backend" => backend),
            age: histogram!(QUEUE_AGE.name, "backend" => backend),
            updates: histogram!(FLUSH_UPDATES.name, "backend" => backend),
            answered: took("ok"),
            failed: took("error"),
        }
    }

    /// Notes updates that were accepted.
    pub fn queued(&self, updates: usize) -> Queued {
        let updates = u32::try_from(updates).unwrap_or(u32::MAX);
        self.queue.increment(updates);
        Queued {
            updates,
            queue: self.queue.clone(),
        }
    }

    /// Notes how long the oldest of those waited that go out together, or are given up.
    pub fn waited(&self, age: Duration) {
        self.age.record(age);
    }

    /// Notes a flush of so many updates.
    pub fn flushed(&self, updates: usize, took: Duration, is_ok: bool) {
        self.updates.record(updates as f64);
        if is_ok { &self.answered } else { &self.failed }.record(took);
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.queue.decrement(self.updates);
    }
}

impl fmt::Debug for WriterMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WriterMeter")
    }
}

impl fmt::Debug for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Queued").field(&self.updates).finish()
    }
}
