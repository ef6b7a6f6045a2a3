//! `persist import`: records the updates of files.
//!
//! A thread reads and parses ahead ([`reader`]), lanes apply what was read ([`lanes`]), and the report tells in
//! the order of the input what became of each line ([`report`]). All three hold a bounded number of lines.

mod lanes;
mod reader;
mod report;
mod store;

use std::ffi::OsString;
use std::time::Instant;

use clap::Args;

use crate::args::Format;
use crate::context::Context;
use crate::exit::{Code, Failure};
use crate::{signals, talk};
use report::Report;

pub(crate) const AFTER_HELP: &str = "Examples:
  persist import day.jsonl
  zcat *.jsonl.gz | persist import -
  persist import --outcomes day.jsonl             each line's outcome, as soon as it is durable

A line: {\"job\":{\"request_id\":\"0190c2f4-0000-7000-8000-000000000001\",\"state\":\"queued\"}}";

#[derive(Args)]
pub(crate) struct ImportArgs {
    /// Files of updates, a JSON object a line; - is stdin, and so is no file
    #[arg(value_name = "FILE", default_value = "-", hide_default_value = true)]
    files: Vec<OsString>,
    /// Print a line for each line of the input, as soon as it is durable; the summary goes to stderr
    #[arg(long)]
    outcomes: bool,
    /// Stop at the first bad line
    #[arg(long)]
    strict: bool,
    /// Neither create nor migrate anything
    #[arg(long)]
    no_migrate: bool,
}

pub(crate) async fn run(args: ImportArgs, context: &mut Context) -> Result<Code, Failure> {
    reader::look(&args.files)?;
    let persist = context.database.for_writing(!args.no_migrate).await?;
    let stop = signals::listen()?;
    let bar = talk::progress(reader::bytes(&args.files));
    let names = args
        .files
        .iter()
        .map(|file| file.to_string_lossy().into_owned())
        .collect();
    let (items, reading) = reader::start(args.files, args.strict, bar.clone())?;
    let mut blocks = lanes::start(&persist.backend(), items, stop.clone());
    let mut report = Report::new(names, args.outcomes, bar.clone());
    let begun = Instant::now();
    let mut failure = None;
    while let Some(block) = blocks.recv().await {
        if let Err(met) = report.settle(block, &mut context.out).await {
            failure = Some(met);
            break;
        }
    }
    // Nothing more is begun after an error.
    drop(blocks);
    bar.finish_and_clear();
    let stopped = *stop.borrow();
    if failure.is_none() && stopped.is_none() && reading.join().is_err() {
        failure = Some(Failure::told(
            Code::Failed,
            "reading broke off: a bug; what was told above is stored",
        ));
    }
    let whole = failure.is_none() && stopped.is_none();
    let in_table = context.format == Format::Table;
    match (in_table, args.outcomes) {
        (true, false) => context.out.line(&report.counts.line(begun.elapsed()))?,
        (true, true) => talk::plain(&report.counts.line(begun.elapsed())),
        (false, false) => context.out.json(&report.counts)?,
        (false, true) => talk::plain(&crate::output::json(&report.counts)?),
    }
    if whole && in_table && !args.outcomes && persist.is_enabled() {
        // The import is done, whatever comes of looking at it.
        if let Err(error) = store::show(context, &*persist.backend()).await {
            error.report();
        }
    }
    let closed = persist.close().await;
    if let Some(failure) = failure {
        return Err(failure);
    }
    closed?;
    if let Some(signal) = stopped {
        let read = report.counts.read;
        talk::say(&format!(
            "stopped by a signal after {read} lines, which are stored; run it again to go on"
        ));
        return Ok(Code::Signalled(signal));
    }
    Ok(if report.some_failed() {
        Code::Failed
    } else {
        Code::Ok
    })
}
