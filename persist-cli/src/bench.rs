//! `persist bench`: how many durable updates a second this database takes from so many callers at once.
//!
//! A closed loop: each caller awaits its answer before it reports again ([`load`]). Rows are of a key range of
//! their own, are counted against what was acknowledged ([`range`]), and go again ([`clean`]).

mod acknowledged;
mod clean;
mod latencies;
mod life;
mod load;
mod range;
mod result;

use std::time::Duration;

use clap::{Args, ValueEnum};
use persist::Persist;

use crate::args::Format;
use crate::context::Context;
use crate::exit::{Code, Failure, with_causes};
use crate::output::json;
use crate::{signals, talk};
use clean::clean;
use load::{Load, Tally};
use range::Range;
use result::Run;

pub(crate) const AFTER_HELP: &str = "\
little ms (littles_law_us): callers / rate, the time of a call on average by Little's law.
  A p99 below twice this means a fair queue.
batch: updates of a commit. Latencies are true to three digits, those of the warm-up left out.

Examples:
  persist bench --callers 1,64,1024
  persist --format json bench --callers 64 --mix vms --read-share 0.5";

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// Callers at once; several numbers, by commas or repeated, are so many runs
    #[arg(long, value_name = "N", default_value = "64", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    callers: Vec<u32>,
    /// Length of a run, after a warm-up of a fifth of it (at most a second)
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// All callers report new attempts of so many hot jobs, each in turn giving way to another after 100,000;
    /// otherwise each caller leads jobs of its own through life
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    jobs: Option<u32>,
    /// What a life is made of: a job's three updates, or those and its VM's three
    #[arg(long, value_enum, default_value_t = Mix::Jobs, conflicts_with = "jobs")]
    mix: Mix,
    /// Share of calls that read a job by its id instead, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    read_share: f64,
    /// Print each update as soon as it is acknowledged, as export does: when the plug was pulled, those are the lines
    /// that a later export must hold. The figures go to stderr, and are of a run that also prints
    #[arg(long)]
    outcomes: bool,
    /// Also in a store that holds rows of others; they are not touched
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mix {
    Jobs,
    Vms,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err("not from 0 to 1".to_owned())
    }
}

pub(crate) async fn run(args: BenchArgs, context: &mut Context) -> Result<Code, Failure> {
    let persist = context.database.for_writing(true).await?;
    if !persist.is_enabled() {
        let what = "none: stores nothing; name a database with --database-url";
        return Err(Failure::told(Code::Usage, what));
    }
    let backend = persist.backend();
    if !args.yes && range::has_foreign_rows(&*backend).await? {
        let what = "the store holds rows that are not the benchmark's; --yes runs it beside them";
        return Err(Failure::told(Code::Refused, what));
    }
    // What a run that was killed has left behind.
    clean(&*backend).await?;
    let ran = run_all(&args, &persist, context).await;
    persist.close().await?;
    ran
}

async fn run_all(args: &BenchArgs, persist: &Persist, context: &mut Context) -> Result<Code, Failure> {
    let backend = persist.backend();
    let stop = signals::listen()?;
    let mut code = Code::Ok;
    for (number, callers) in args.callers.iter().enumerate() {
        talk::say(&format!("{callers} callers, {} s", args.seconds));
        let load = Load {
            callers: *callers,
            length: Duration::from_secs(args.seconds.into()),
            hot: args.jobs,
            mix: args.mix,
            read_share: args.read_share,
            outcomes: args.outcomes,
        };
        let ran = run_one(&load, number, persist, &stop, context).await;
        // Whatever came of it, its rows go.
        match (ran, clean(&*backend).await) {
            (ran, Ok(())) => {
                if ran? != Code::Ok {
                    code = Code::Failed;
                }
            }
            (Ok(_), Err(left)) => return Err(left),
            (Err(met), Err(left)) => {
                let code = met.report();
                left.report();
                return Ok(code);
            }
        }
        if let Some(signal) = *stop.borrow() {
            code = Code::Signalled(signal);
            break;
        }
    }
    Ok(code)
}

/// Runs the load, tells its figures, and holds what is stored against what was acknowledged.
async fn run_one(
    load: &Load,
    number: usize,
    persist: &Persist,
    stop: &signals::Stop,
    context: &mut Context,
) -> Result<Code, Failure> {
    let (backend, range) = (persist.backend(), Range::new(number));
    let before = backend.health().await?;
    let (told, lines) = acknowledged::channel();
    let running = load.run(persist, range, told, stop.clone());
    let (measured, printed) = tokio::join!(running, acknowledged::print(lines, &mut context.out));
    let after = backend.health().await?;
    let run = Run::new(load, &measured, [&before, &after]);
    let line = match context.format {
        Format::Table if number == 0 => format!("{}\n{}", Run::HEADINGS, run.line()),
        Format::Table => run.line(),
        Format::Json | Format::Jsonl => json(&run)?,
    };
    if load.outcomes {
        line.lines().for_each(talk::plain);
    } else {
        context.out.line(&line)?;
        context.out.flush()?;
    }
    printed?;
    let Tally {
        acknowledged,
        errors,
        first_error,
    } = measured.tally;
    if errors > 0 {
        let first = first_error.map_or_else(|| "a caller panicked".to_owned(), |error| with_causes(&error));
        talk::say(&format!("{errors} calls failed; the first: {first}"));
    }
    let bar = talk::spinner("counting what is stored");
    let stored = range.slots(&*backend).await;
    bar.finish_and_clear();
    // A call that failed may have been stored all the same.
    let stored = stored?;
    if !(acknowledged..=acknowledged + errors).contains(&stored) {
        let what = format!(
            "{acknowledged} updates were acknowledged and {stored} are stored: this is a bug, if no other persist \
             bench ran on this store"
        );
        return Err(Failure::told(Code::Failed, what));
    }
    Ok(if errors > 0 { Code::Failed } else { Code::Ok })
}
