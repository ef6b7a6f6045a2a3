//! The command line.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::verdict::Verdict;

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// Postgres: callers, alone, bulk, import, hot jobs, who watches, a prune, a sweep of callers, pages and point reads.
    Postgres,
    /// SQLite: callers, readers beside writers, import, a sweep of callers.
    Sqlite,
    /// The in-memory backend.
    Memory,
    /// The coalescing writer by itself.
    Writer,
    /// All layers of the facade against the driver and its writer, on Postgres and SQLite.
    Layers,
}

/// The command line.
#[derive(Debug, Parser)]
#[command(about = "persist against its rivals, both sides in one run")]
pub struct Options {
    /// What is run; everything unless named
    #[arg(value_enum)]
    pub suites: Vec<Suite>,
    /// Only the contests whose names begin so, like `pg-point`
    #[arg(long)]
    pub contest: Option<String>,
    /// Rounds of each contest: every contender has one slice in each
    #[arg(long, default_value_t = 10)]
    pub rounds: usize,
    /// Length of a slice, milliseconds
    #[arg(long, default_value_t = 1_000)]
    pub slice_ms: u64,
    /// Jobs of the store that is read on Postgres, at least 20,000; on SQLite a fiftieth of them, in memory a hundredth
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(20_000..))]
    pub rows: u64,
    /// A JSON object for each contest, appended to this file
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Said by `cargo bench`
    #[arg(long, hide = true)]
    pub bench: bool,
    /// Callers of the larger contests on Postgres
    #[arg(skip = 1_024_u64)]
    pub crowd: u64,
    /// Whether the Postgres server syncs to disk; a smoke test asks for right rows only
    #[arg(skip = true)]
    pub durable: bool,
    /// How many allocations this program has made, where it counts them
    #[arg(skip)]
    pub allocations: Option<fn() -> u64>,
}

impl Options {
    /// A smoke test: every contest, one round of short slices, few rows.
    pub fn smoke() -> Self {
        Self {
            suites: Vec::new(),
            contest: None,
            rounds: 1,
            slice_ms: 50,
            rows: 20_000,
            json: None,
            bench: false,
            crowd: 128,
            durable: false,
            allocations: None,
        }
    }

    /// Prints a verdict, and appends it to the file.
    ///
    /// # Panics
    /// If it can't be written: there is no use in going on.
    pub(crate) fn tell(&self, verdict: &Verdict) {
        verdict.print();
        if let Some(path) = &self.json {
            let line = serde_json::to_string(verdict).expect("a verdict is numbers and text");
            let file = OpenOptions::new().create(true).append(true).open(path);
            let written = file.and_then(|mut file| writeln!(file, "{line}"));
            written.unwrap_or_else(|error| panic!("{} can't be written: {error}", path.display()));
        }
    }

    /// Whether a contest is asked for.
    pub(crate) fn wants(&self, workload: &str) -> bool {
        self.contest
            .as_ref()
            .is_none_or(|name| workload.starts_with(name))
    }

    /// Whether any contest is asked for whose name begins so.
    pub(crate) fn wants_any(&self, beginning: &str) -> bool {
        self.contest
            .as_ref()
            .is_none_or(|name| name.starts_with(beginning) || beginning.starts_with(name.as_str()))
    }

    /// The length of a slice.
    pub fn slice(&self) -> Duration {
        Duration::from_millis(self.slice_ms)
    }

    /// The suites that are run, in their order.
    pub fn suites(&self) -> Vec<Suite> {
        let all = Suite::value_variants().iter().copied();
        let named = |suite: &Suite| self.suites.is_empty() || self.suites.contains(suite);
        // Counting slows all the others down.
        let counts = |suite: &Suite| self.allocations.is_none() || *suite == Suite::Writer;
        all.filter(named).filter(counts).collect()
    }
}
