//! What a writer has stored, and how it goes.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::WriterMeter;

/// Flushes of updates since the start, for [`Health`](crate::Health), and the metrics of the writer that makes them.
#[derive(Debug)]
pub struct Counts {
    flushes: AtomicU64,
    updates: AtomicU64,
    meter: WriterMeter,
}

impl Counts {
    /// Of a writer in front of this backend.
    pub fn new(backend: &'static str) -> Self {
        Self {
            flushes: AtomicU64::new(0),
            updates: AtomicU64::new(0),
            meter: WriterMeter::new(backend),
        }
    }

    /// Notes a flush of so many updates.
    pub fn add(&self, updates: usize) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.updates.fetch_add(updates as u64, Ordering::Relaxed);
    }

    /// Flushes, and the updates in them.
    pub fn get(&self) -> (u64, u64) {
        (
            self.flushes.load(Ordering::Relaxed),
            self.updates.load(Ordering::Relaxed),
        )
    }

    /// The metrics of the writer.
    pub fn meter(&self) -> &WriterMeter {
        &self.meter
    }
}
