//! What a writer has stored.

use std::sync::atomic::{AtomicU64, Ordering};

/// Flushes of updates since the start, for [`Health`](crate::Health).
#[derive(Debug, Default)]
pub struct Counts {
    flushes: AtomicU64,
    updates: AtomicU64,
}

impl Counts {
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
}
