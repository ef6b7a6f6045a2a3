//! `cargo run -p persist-benches --bin chart -- results.jsonl docs/`: draws `callers.svg` into the folder, and prints
//! markdown tables of all verdicts.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use persist_benches::{chart, report};

#[derive(Debug, Parser)]
struct Arguments {
    /// What the benches wrote with --json
    results: PathBuf,
    /// Where callers.svg goes
    folder: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chart: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), chart::Error> {
    let verdicts = report::read(&std::fs::read_to_string(&arguments.results)?)?;
    if let Some(svg) = chart::callers(&verdicts)? {
        std::fs::create_dir_all(&arguments.folder)?;
        std::fs::write(arguments.folder.join("callers.svg"), svg)?;
    }
    print!("{}", report::markdown(&verdicts));
    Ok(())
}
