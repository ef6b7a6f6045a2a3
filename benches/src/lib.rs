//! persist against its rivals, both sides in one run: alternating slices, medians of ratios.
//!
//! Each contender does the same work on the same tables: one update claims one slot and moves one row, durable
//! before the reply. After each slice the rows are counted: a fast wrong answer is no answer.

pub mod contest;
pub mod memory;
pub mod postgres;
pub mod slice;
pub mod sqlite;
pub mod workload;
pub mod writer;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use contest::Verdict;

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// Postgres: callers, alone, bulk, hot jobs, point reads.
    Postgres,
    /// SQLite: callers, readers beside writers.
    Sqlite,
    /// The in-memory backend.
    Memory,
    /// The coalescing writer by itself.
    Writer,
}

/// The command line.
#[derive(Debug, Parser)]
#[command(about = "persist against its rivals, both sides in one run")]
pub struct Options {
    /// What is run; everything unless named
    #[arg(value_enum)]
    pub suites: Vec<Suite>,
    /// Rounds of each contest: every contender has one slice in each
    #[arg(long, default_value_t = 10)]
    pub rounds: usize,
    /// Length of a slice, milliseconds
    #[arg(long, default_value_t = 1_000)]
    pub slice_ms: u64,
    /// A JSON object for each contest, appended to this file
    #[arg(long)]
    pub json: Option<std::path::PathBuf>,
    /// Said by `cargo bench`
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Options {
    /// A smoke test: every contest, one round of short slices.
    pub fn smoke() -> Self {
        Self {
            suites: Vec::new(),
            rounds: 1,
            slice_ms: 150,
            json: None,
            bench: false,
        }
    }

    /// The length of a slice.
    pub fn slice(&self) -> Duration {
        Duration::from_millis(self.slice_ms)
    }
}

/// Runs what the command line names, and prints it.
pub fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    for verdict in runtime.block_on(run(&options)) {
        if let Err(error) = keep(&options, &verdict) {
            eprintln!("the result can't be written: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn keep(options: &Options, verdict: &Verdict) -> std::io::Result<()> {
    let Some(path) = &options.json else {
        return Ok(());
    };
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    serde_json::to_writer(&mut file, verdict)?;
    file.write_all(b"\n")
}

/// Runs every contest of the suites that are named.
///
/// # Panics
/// If a store does not hold what was acknowledged, or a rival can't be run.
pub async fn run(options: &Options) -> Vec<Verdict> {
    let all = Suite::value_variants();
    let suites = if options.suites.is_empty() {
        all
    } else {
        &options.suites
    };
    let mut verdicts = Vec::new();
    for suite in suites {
        verdicts.extend(match suite {
            Suite::Postgres => postgres::run(options).await,
            Suite::Sqlite => sqlite::run(options).await,
            Suite::Memory => memory::run(options).await,
            Suite::Writer => writer::run(options).await,
        });
    }
    verdicts
}
