//! `persist job`: one job with its VMs and its history.

use std::collections::BTreeSet;

use clap::Args;
use comfy_table::{Cell, Table};
use persist::{
    AsOf, Clock as _, IdRange, PersistBackend, PersistExt as _, Refusal, Run, Step, Story, SystemClock,
    Timestamp, Vm, time,
};
use uuid::Uuid;

use crate::args::Format;
use crate::context::Context;
use crate::exit::{Code, Failure};
use crate::gantt;
use crate::span::{human, parse_moment};
use crate::table::{self, Heading::Fixed, Heading::Text};
use crate::talk;
use crate::visible::visible;

/// Candidates that are listed for an ambiguous beginning of an id.
const CANDIDATES: u32 = 10;

/// Columns of a chart where there is no terminal that says its width.
const WIDTH: u16 = 80;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  persist job 0190c2f4                            what happened to it
  persist job 0190c2f4 --at 2026-11-01T08:00:00Z  what was so then
  persist job 0190c2f4 --recorded-at 2h           what was known two hours ago";

#[derive(Args)]
pub(crate) struct JobArgs {
    /// The job's id, or as many of its first hex digits as make it unique
    id: String,
    /// As it was at this time, by the clocks of those who reported: RFC 3339, or an age such as 30m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    at: Option<Timestamp>,
    /// As this store knew it at this time, by the database's clock
    #[arg(long, value_name = "TIME", value_parser = parse_moment, conflicts_with = "at")]
    recorded_at: Option<Timestamp>,
}

pub(crate) async fn run(args: JobArgs, context: &mut Context) -> Result<Code, Failure> {
    let backend = context.database.for_reading().await?;
    let id = named(&*backend, &args.id).await?;
    let as_of = args.at.map(AsOf::At).or(args.recorded_at.map(AsOf::RecordedAt));
    let story = backend.explain(id, as_of).await?;
    backend.close().await?;
    let Some(story) = story else {
        // A row that nothing led to, or a time before its first slot.
        let what = match as_of {
            Some(_) => format!("nothing of job {id} by then"),
            None => format!("job {id} has a row and no history; persist verify tells more"),
        };
        return Err(Failure::told(Code::NotFound, what));
    };
    let now = args.at.or(args.recorded_at).unwrap_or_else(|| SystemClock.now());
    match context.format {
        Format::Table => print(context, &story, now)?,
        Format::Json | Format::Jsonl => context.out.json(&story)?,
    }
    Ok(Code::Ok)
}

/// The one job whose id is this or begins so.
pub(crate) async fn named(backend: &dyn PersistBackend, prefix: &str) -> Result<Uuid, Failure> {
    let ids = IdRange::of_prefix(prefix).map_err(|error| Failure::told(Code::Usage, error.to_string()))?;
    only_one(prefix, &backend.request_ids(ids, CANDIDATES + 1).await?)
}

fn only_one(prefix: &str, found: &BTreeSet<Uuid>) -> Result<Uuid, Failure> {
    match found.len() {
        0 => Err(Failure::told(
            Code::NotFound,
            format!("no job's id is or begins with {}", visible(prefix)),
        )),
        1 => found
            .first()
            .copied()
            .ok_or_else(|| Failure::told(Code::NotFound, "no job")),
        _ => {
            let shown: Vec<_> = found
                .iter()
                .take(CANDIDATES as usize)
                .map(Uuid::to_string)
                .collect();
            let more = if found.len() > shown.len() {
                " and more"
            } else {
                ""
            };
            let what = format!(
                "{} begins several ids: {}{more}",
                visible(prefix),
                shown.join(", ")
            );
            Err(Failure::told(Code::Usage, what))
        }
    }
}

fn print(context: &mut Context, story: &Story, now: Timestamp) -> Result<(), Failure> {
    let id = story.request_id;
    match &story.job {
        Some(job) => {
            context
                .out
                .line(&format!("job {id}: {}, attempt {}", job.state, job.attempt))?;
            let facts = [
                ("repository", &job.repo_url),
                ("commit", &job.commit_sha),
                ("runs on", &job.runs_on),
            ];
            for (name, fact) in facts {
                if let Some(fact) = fact {
                    context.out.line(&format!("  {name:<10}  {}", visible(fact)))?;
                }
            }
        }
        None => context
            .out
            .line(&format!("job {id}: only its VMs have reported"))?,
    }
    for run in &story.attempts {
        if let Some(line) = spans(run) {
            context.out.line(&line)?;
        }
    }
    let width = Table::new().width().unwrap_or(WIDTH);
    let chart = gantt::lines(&story.spans, now, usize::from(width), gantt::is_unicode());
    if !chart.is_empty() {
        context.out.line("")?;
    }
    for line in chart {
        context.out.line(&line)?;
    }
    if !story.vms.is_empty() {
        context.out.line("")?;
        print_vms(context, &story.vms)?;
    }
    context.out.line("")?;
    print_timeline(context, &story.timeline)?;
    if !story.oddities.is_empty() || story.refusals.iter().flatten().next().is_some() {
        context.out.line("")?;
    }
    for oddity in &story.oddities {
        let who = oddity.domain_name.as_deref().map_or("job".into(), visible);
        let line = format!("odd: {who}, attempt {}: {}", oddity.attempt, oddity.what);
        context.out.line(&line)?;
    }
    if story.refusals.is_none() {
        let what = "what was refused is not known: this store keeps no account of it, or none for this role";
        talk::say(what);
    }
    for refusal in story.refusals.iter().flatten() {
        context.out.line(&refused(refusal))?;
    }
    Ok(())
}

/// A refusal in words.
fn refused(refusal: &Refusal) -> String {
    let claim = &refusal.claim;
    let who = claim.subject().vm_name().map_or("job".into(), visible);
    let mut line = format!(
        "refused: {who}, attempt {}: {} at {}, as {} stands",
        claim.attempt(),
        claim.state(),
        time::format(claim.at()),
        refusal.standing
    );
    if let Some(actor) = claim.actor() {
        line.push_str(&format!(", by {}", visible(actor)));
    }
    if let Some(reason) = claim.reason() {
        line.push_str(&format!(" ({})", visible(reason)));
    }
    if refusal.tries > 1 {
        line.push_str(&format!(", {} times", refusal.tries));
    }
    line
}

/// How long an attempt waited and ran, where that is known.
fn spans(run: &Run) -> Option<String> {
    let told = match (run.waited, run.ran) {
        (Some(waited), Some(ran)) => format!("waited {}, ran {}", human(waited), human(ran)),
        (Some(waited), None) => format!("waited {}", human(waited)),
        (None, Some(ran)) => format!("ran {}", human(ran)),
        (None, None) => return None,
    };
    Some(format!("  {:<10}  {told}", format!("attempt {}", run.attempt)))
}

fn print_vms(context: &mut Context, vms: &[Vm]) -> Result<(), Failure> {
    let mut rows = table::table(&[
        Text("VM"),
        Text("STATE"),
        Text("ATTEMPT"),
        Text("BACKEND"),
        Text("OVERLAY"),
        Text("SEED"),
    ]);
    for vm in vms {
        rows.add_row([
            table::text(Some(&vm.domain_name)),
            table::state(vm.state, context.colour),
            Cell::new(vm.attempt),
            table::text(vm.backend.as_deref()),
            table::text(vm.overlay_path.as_deref()),
            table::text(vm.seed_path.as_deref()),
        ]);
    }
    table::print(context, rows)
}

fn print_timeline(context: &mut Context, steps: &[Step]) -> Result<(), Failure> {
    let mut rows = table::table(&[
        Fixed("TIME (UTC)"),
        Text("AFTER"),
        Text("WHAT"),
        Text("ATTEMPT"),
        Text("STATE"),
        Text("ACTOR"),
        Text("REASON"),
    ]);
    for Step { event, after, .. } in steps {
        let what = if event.subject.is_vm() {
            event.subject.domain_name()
        } else {
            "job"
        };
        rows.add_row([
            table::moment(event.at),
            Cell::new(after.map(human).unwrap_or_default()),
            table::text(Some(what)),
            Cell::new(event.attempt()),
            table::state(event.state, context.colour),
            table::text(event.actor.as_deref()),
            table::text(event.reason.as_deref()),
        ]);
    }
    table::print(context, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_must_name_one_job() {
        let ids: BTreeSet<_> = (1..=12).map(Uuid::from_u128).collect();
        let one = BTreeSet::from([Uuid::from_u128(1)]);
        assert_eq!(only_one("0", &one).unwrap(), Uuid::from_u128(1));
        let told = |found: &BTreeSet<Uuid>| match only_one("0\u{1b}", found) {
            Err(Failure::Told(code, text)) => (code, text),
            other => panic!("{other:?}"),
        };
        let none = BTreeSet::new();
        assert_eq!(told(&none).0, Code::NotFound);
        let (code, text) = told(&ids);
        assert_eq!(code, Code::Usage);
        assert!(
            text.contains("00000000000a and more") && !text.contains('\u{1b}'),
            "{text}"
        );
    }
}
