//! `persist prune`: forgets whole jobs, batch by batch, beside whoever writes.

use std::time::Duration;

use clap::Args;
use persist::{JobState, LARGEST_PRUNE, PersistBackend, Prune, Pruned, Retention, StateTable, SystemClock};
use serde::Serialize;
use uuid::Uuid;

use crate::args::{Format, state_words};
use crate::context::Context;
use crate::exit::{Code, Failure};
use crate::span::parse_span;
use crate::{signals, talk};

pub(crate) const AFTER_HELP: &str = "\
Examples:
  persist prune --older-than 90d --dry-run
  persist prune --older-than 90d --keep 20 --yes
  persist prune --id 0190c2f4-0000-7000-8000-000000000001 --yes

A job goes as a whole: its row, its VMs, its history. What is live stays, unless --id names it. Conditions are joined by
'and'. The oldest go first, with --keep repository by repository. An update that comes for a pruned job starts it anew:
keep longer than anybody might replay. A SQLite file gets shorter, if it was not made before that could be.";

#[derive(Args)]
pub(crate) struct PruneArgs {
    /// Last updated longer ago than this: 90s, 30m, 2h, 7d
    #[arg(long, value_name = "AGE", value_parser = parse_span)]
    older_than: Option<Duration>,
    /// Keep the newest so many jobs of each repository
    #[arg(long, value_name = "N")]
    keep: Option<u32>,
    #[arg(long, value_delimiter = ',', value_parser = JobState::parse, help = state_words::<JobState>("Only in any of these states, repeated or with commas"))]
    state: Vec<JobState>,
    /// Only these jobs, also live ones; whole ids, repeated or with commas
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = parse_id)]
    id: Vec<Uuid>,
    /// Request ids that go in one transaction
    #[arg(long, value_name = "N", default_value_t = 200,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(LARGEST_PRUNE)))]
    batch: u32,
    /// At most so many request ids a second; without it half of the time is left to others
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Tell what would go, and remove nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// That they may go is meant
    #[arg(long, required_unless_present = "dry_run")]
    yes: bool,
}

/// Removes whatever it names, so that the beginning of an id is not enough.
fn parse_id(text: &str) -> Result<Uuid, String> {
    text.parse()
        .map_err(|error| format!("must be a whole UUID: {error}"))
}

/// What went, as one object.
#[derive(Serialize)]
struct Told {
    dry_run: bool,
    #[serde(flatten)]
    pruned: Pruned,
}

pub(crate) async fn run(args: PruneArgs, context: &mut Context) -> Result<Code, Failure> {
    let mut retention = Retention::new().ids(args.id).states(args.state).batch(args.batch);
    if let Some(age) = args.older_than {
        retention = retention.older_than(age);
    }
    if let Some(keep) = args.keep {
        retention = retention.keep_per_repo(keep);
    }
    if let Some(rate) = args.rate {
        retention = retention.per_second(rate);
    }
    // Before anything is opened.
    let request = retention.request(&SystemClock);
    let request = request.map_err(|error| Failure::told(Code::Usage, error.to_string()))?;
    let backend = context.database.for_reading().await?;
    let (mut pruned, code) = if args.dry_run {
        count(&*backend, request.limit(LARGEST_PRUNE).dry_run(true)).await?
    } else {
        batches(&*backend, &retention).await?
    };
    backend.close().await?;
    // A place that nothing takes: another prune begins anew.
    pruned.next = None;
    match context.format {
        Format::Table => context.out.line(&line(args.dry_run, &pruned))?,
        Format::Json | Format::Jsonl => context.out.json(&Told {
            dry_run: args.dry_run,
            pruned,
        })?,
    }
    Ok(code)
}

/// All that would go, in parts, or until a signal asks to stop.
async fn count(backend: &dyn PersistBackend, mut request: Prune) -> Result<(Pruned, Code), Failure> {
    let stop = signals::listen()?;
    let bar = talk::spinner("counting");
    let mut so_far = Pruned::default();
    loop {
        let counted = backend.prune(&request).await;
        let counted = counted.inspect_err(|_| bar.finish_and_clear())?;
        request = request.after(counted.next.clone());
        so_far += counted;
        bar.set_message(format!("{} request ids counted", so_far.requests));
        let asked = *stop.borrow();
        if !so_far.more || asked.is_some() {
            bar.finish_and_clear();
            let code = asked.filter(|_| so_far.more).map_or(Code::Ok, Code::Signalled);
            return Ok((so_far, code));
        }
    }
}

/// Until nothing is left, or a signal asks to stop: then the batch that is under way is the last.
async fn batches(backend: &dyn PersistBackend, retention: &Retention) -> Result<(Pruned, Code), Failure> {
    let stop = signals::listen()?;
    let bar = talk::spinner("pruning");
    let mut so_far = Pruned::default();
    let each = |pruned: Option<&Pruned>| {
        if let Some(pruned) = pruned {
            so_far += pruned.clone();
            bar.set_message(format!("{} request ids pruned", so_far.requests));
        }
        stop.borrow().is_none()
    };
    let ended = retention.run(backend, &SystemClock, each).await;
    bar.finish_and_clear();
    let asked = *stop.borrow();
    match (ended, asked) {
        (Ok(pruned), Some(signal)) if pruned.more => Ok((pruned, Code::Signalled(signal))),
        (Ok(pruned), _) => Ok((pruned, Code::Ok)),
        (Err(error), _) => {
            if so_far.requests > 0 {
                talk::say(&line(false, &so_far));
            }
            Err(error.into())
        }
    }
}

fn line(dry_run: bool, pruned: &Pruned) -> String {
    let Pruned {
        requests,
        jobs,
        vms,
        events,
        more,
        ..
    } = pruned;
    let (lead, rest) = match (dry_run, more) {
        (true, true) => ("would prune", ", and more"),
        (true, false) => ("would prune", ""),
        (false, true) => ("pruned", "; more are left"),
        (false, false) => ("pruned", ""),
    };
    format!("{lead} {requests} request ids: {jobs} jobs, {vms} VMs, {events} slots{rest}")
}
