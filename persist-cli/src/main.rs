//! `persist`: records, reads and migrates the state of CI jobs and VMs from a shell.

mod args;
mod artefacts;
mod bench;
mod context;
mod copy;
mod database;
mod doctor;
mod exit;
mod export;
mod gantt;
mod health;
mod import;
mod job;
mod jobs;
mod listing;
mod logging;
mod migrate;
mod orphans;
mod output;
mod prune;
mod record;
mod recover;
mod refusals;
#[cfg(feature = "serve")]
mod serve;
mod signals;
#[cfg(feature = "spool")]
mod spool;
mod stats;
mod table;
mod talk;
mod usage;
mod verify;
mod vms;
mod watch;

use std::io::ErrorKind;
use std::process::ExitCode;

use args::{Cli, Command};
use clap::CommandFactory as _;
use context::Context;
use exit::{Code, Failure};
use persist::shown::{span, visible};

fn main() -> ExitCode {
    let cli = match usage::parse() {
        Ok(cli) => cli,
        Err(code) => return code.into(),
    };
    logging::start(&cli.globals);
    let code = run(cli).unwrap_or_else(Failure::report);
    code.into()
}

fn run(cli: Cli) -> Result<Code, Failure> {
    let mut context = Context::new(cli.globals)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::told(Code::Failed, format!("no threads: {error}")))?;
    let code = runtime.block_on(command(cli.command, &mut context));
    // Everything that matters was awaited and closed; what is left must not hold the program up.
    runtime.shutdown_background();
    let code = code?;
    match context.out.flush() {
        // Who reads has seen enough; what was done stays true.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(code),
        flushed => Ok(flushed.map(|()| code)?),
    }
}

async fn command(command: Command, context: &mut Context) -> Result<Code, Failure> {
    match command {
        Command::Import(args) => import::run(args, context).await,
        Command::Export => export::run(context).await,
        Command::Record { what } => record::run(what, context).await,
        Command::Jobs(args) => jobs::run(args, context).await,
        Command::Vms(args) => vms::run(args, context).await,
        Command::Job(args) => job::run(args, context).await,
        Command::Orphans(args) => orphans::run(args, context).await,
        Command::Refusals(args) => refusals::run(args, context).await,
        Command::Recover(args) => recover::run(args, context).await,
        Command::Watch(args) => watch::run(args, context).await,
        Command::Migrate { action } => migrate::run(action, context).await,
        #[cfg(feature = "spool")]
        Command::Spool { action } => spool::run(action, context).await,
        Command::Doctor(args) => doctor::run(args, context).await,
        Command::Bench(args) => bench::run(args, context).await,
        Command::Stats(args) => stats::run(args, context).await,
        Command::Artefacts(args) => artefacts::run(args, context).await,
        Command::Copy(args) => copy::run(args, context).await,
        Command::Prune(args) => prune::run(args, context).await,
        Command::Verify(args) => verify::run(args, context).await,
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(args, context).await,
        Command::Health => health::run(context).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "persist", &mut script);
            context.out.bytes(&script)?;
            Ok(Code::Ok)
        }
    }
}
