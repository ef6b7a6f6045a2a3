//! persist against its rivals, both sides in one run: alternating slices, medians of ratios.
//!
//! Each contender does the same work on the same tables: one update claims one slot and moves one row, durable
//! before the reply. After each slice the rows are counted: a fast wrong answer is no answer.

pub mod chart;
pub mod contest;
mod import;
mod layers;
pub mod memory;
mod options;
pub mod postgres;
pub mod report;
pub mod slice;
pub mod sqlite;
pub mod sweep;
pub mod targets;
pub mod verdict;
pub mod workload;
pub mod writer;

use std::process::ExitCode;

use clap::Parser as _;

pub use options::{Options, Suite};
use verdict::Verdict;

/// Runs what the command line names, and prints it. `allocations` tells how many this program has made, where it
/// counts them: it then runs the writer only.
pub fn main(allocations: Option<fn() -> u64>) -> ExitCode {
    let options = Options {
        allocations,
        ..Options::parse()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let is_nothing = runtime.block_on(run(&options)).is_empty();
    // Who counts allocations is given the arguments of all benches, and may have nothing to do.
    if is_nothing && allocations.is_none() {
        eprintln!("no contest of these suites has such a name");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Runs every contest of the suites that are named.
///
/// # Panics
/// If a store does not hold what was acknowledged, or a rival can't be run.
pub async fn run(options: &Options) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for suite in options.suites() {
        verdicts.extend(match suite {
            Suite::Postgres => postgres::run(options).await,
            Suite::Sqlite => sqlite::run(options).await,
            Suite::Memory => memory::run(options).await,
            Suite::Writer => writer::run(options).await,
            Suite::Layers => layers::run(options).await,
        });
    }
    verdicts
}
