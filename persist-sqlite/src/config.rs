//! What a store is opened with.

use std::num::NonZero;

use persist_core::{Deadlines, SqliteUrl};

const MOST_READERS: usize = 64;

/// How a SQLite store is opened.
#[derive(Debug, Clone)]
pub struct SqliteConfig {
    pub(crate) url: SqliteUrl,
    pub(crate) deadlines: Deadlines,
    pub(crate) readers: usize,
}

impl SqliteConfig {
    /// The contract's deadlines, and 2–4 readers by the number of cores.
    pub fn new(url: SqliteUrl) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, NonZero::get);
        Self {
            url,
            deadlines: Deadlines::default(),
            readers: cores.clamp(2, 4),
        }
    }

    /// Deadlines of every call.
    #[must_use]
    pub fn deadlines(mut self, deadlines: Deadlines) -> Self {
        self.deadlines = deadlines;
        self
    }

    /// Connections that read, 1 to 64. `:memory:` has none of its own.
    #[must_use]
    pub fn readers(mut self, readers: usize) -> Self {
        self.readers = readers.clamp(1, MOST_READERS);
        self
    }
}
