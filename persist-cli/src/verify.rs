//! `persist verify`: proves that every row is what its history says, and with a saved digest that the history is what it was.

mod compare;
mod digest;

use std::path::PathBuf;
use std::pin::pin;

use clap::Args;
use comfy_table::Cell;
use futures_util::StreamExt as _;
use indicatif::ProgressBar;
use persist::{
    Checked, Clock as _, EventQuery, Flaw, PersistBackend, PersistExt as _, Subject, SystemClock, Timestamp,
};
use serde::Serialize;

use crate::args::Format;
use crate::context::Context;
use crate::exit::{Code, Failure, unless_unread};
use crate::table::{self, Heading::Fixed, Heading::Text};
use crate::talk;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  persist verify                            rows against their history
  persist verify --save ci-2026-11.digest   the same, and a digest of the history for later
  persist verify --against ci-2026-11.digest

What it proves: that each current row is the fold of its slots; with a digest, that each slot in it is there and \
says what it said, blanks that were filled since aside. In it is what was recorded a minute or more before the youngest slot; \
all, where nothing was recorded for an hour. What it does not: that what \
was reported is true; anything of slots younger than the digest; that whoever can write the database did not also replace \
the digest. Keep it where they can't, or the number that --save prints: it is the file's SHA-256, and --against prints it again.

Exit codes: 0 all is well, 1 something is not.";

#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// Write a digest of the history to this new file, if all rows are well
    #[arg(long, value_name = "FILE", conflicts_with = "against")]
    save: Option<PathBuf>,
    /// Compare the history with a digest that was saved
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Whole jobs that are gone were pruned: count them, and do not fail
    #[arg(long, requires = "against")]
    allow_pruned: bool,
}

/// Flaws and changes that are told one by one; what is beyond is counted.
const MOST_TOLD: usize = 10_000;

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Summary {
    jobs: u64,
    vms: u64,
    slots: u64,
    flaws: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    flawed: Vec<Finding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<compare::Compared>,
    #[serde(skip_serializing_if = "Option::is_none")]
    saved: Option<digest::Saved>,
}

/// A flaw as a line: what is wrong with which job or VM.
#[derive(Debug, Serialize)]
struct Finding {
    request_id: uuid::Uuid,
    domain_name: Option<String>,
    flaw: &'static str,
    columns: Vec<&'static str>,
}

impl Finding {
    fn of(checked: &Checked) -> Option<Self> {
        let flaw = checked.flaw.as_ref()?;
        Some(Self {
            request_id: checked.subject.request_id(),
            domain_name: checked.subject.vm_name().map(str::to_owned),
            flaw: flaw.name(),
            columns: match flaw {
                Flaw::Differs(columns) => columns.clone(),
                _ => Vec::new(),
            },
        })
    }
}

pub(crate) async fn run(args: VerifyArgs, context: &mut Context) -> Result<Code, Failure> {
    // Before the work: what is wrong with a file is known at once.
    let against = args.against.as_deref().map(digest::Reader::open).transpose()?;
    let save = args.save.as_deref().map(digest::Writer::create).transpose()?;
    let backend = context.database.for_reading().await?;
    let bar = talk::spinner("verifying");
    let done = whole(&*backend, against, save, &bar).await;
    bar.finish_and_clear();
    let summary = done?;
    backend.close().await?;
    unless_unread(print(context, &summary))?;
    let is_well = summary.flaws == 0
        && summary
            .history
            .as_ref()
            .is_none_or(|history| history.is_well(args.allow_pruned));
    Ok(if is_well { Code::Ok } else { Code::Failed })
}

async fn whole(
    backend: &dyn PersistBackend,
    against: Option<digest::Reader>,
    save: Option<digest::Writer>,
    bar: &ProgressBar,
) -> Result<Summary, Failure> {
    let mut summary = Summary::default();
    let instance_id = backend.health().await?.instance_id;
    if let Some(reader) = &against {
        reader.is_of(instance_id)?;
    }
    let latest = rows(backend, &mut summary, bar).await?;
    if let Some(reader) = against {
        summary.history = Some(compare::compare(backend, reader, bar).await?);
    }
    if let Some(mut writer) = save {
        if summary.flaws > 0 {
            talk::say("no digest is saved: rows that are not their history come first");
            return Ok(summary);
        }
        writer.head(instance_id, latest, SystemClock.now())?;
        let mut events = pin!(backend.all_events(EventQuery::default()));
        while let Some(event) = events.next().await.transpose()? {
            writer.event(&event)?;
        }
        summary.saved = Some(writer.finish()?);
    }
    Ok(summary)
}

/// Every row against its history. Returns when the youngest slot was recorded.
async fn rows(
    backend: &dyn PersistBackend,
    summary: &mut Summary,
    bar: &ProgressBar,
) -> Result<Option<Timestamp>, Failure> {
    let mut latest = None;
    let mut subjects = pin!(backend.verify());
    while let Some(checked) = subjects.next().await.transpose()? {
        match checked.subject {
            Subject::Job(_) => summary.jobs += 1,
            Subject::Vm(_) => summary.vms += 1,
        }
        summary.slots += checked.slots;
        latest = latest.max(checked.latest);
        if (summary.jobs + summary.vms).is_multiple_of(1_000) {
            bar.set_message(format!("{} jobs, {} VMs", summary.jobs, summary.vms));
        }
        if let Some(finding) = Finding::of(&checked) {
            summary.flaws += 1;
            if summary.flawed.len() < MOST_TOLD {
                summary.flawed.push(finding);
            }
        }
    }
    Ok(latest)
}

fn print(context: &mut Context, summary: &Summary) -> Result<(), Failure> {
    let changes = summary
        .history
        .as_ref()
        .map_or(&[][..], |history| &history.changes);
    match context.format {
        Format::Json => context.out.json(summary)?,
        Format::Jsonl => {
            for finding in &summary.flawed {
                context.out.json(finding)?;
            }
            for change in changes {
                context.out.json(change)?;
            }
        }
        Format::Table => {
            let mut rows = table::table(&[Fixed("JOB"), Text("VM"), Text("WHAT"), Text("WHERE")]);
            for finding in &summary.flawed {
                rows.add_row([
                    Cell::new(finding.request_id),
                    table::text(finding.domain_name.as_deref()),
                    Cell::new(finding.flaw),
                    Cell::new(finding.columns.join(", ")),
                ]);
            }
            for change in changes {
                rows.add_row([
                    Cell::new(change.request_id),
                    table::text(None),
                    Cell::new(change.change.name()),
                    Cell::new(format!(
                        "{} slots then, {} now",
                        change.slots_then, change.slots_now
                    )),
                ]);
            }
            if rows.row_count() > 0 {
                table::print(context, rows)?;
            }
        }
    }
    if context.format != Format::Json {
        context.out.flush()?;
        talk::say(&told(summary));
    }
    Ok(())
}

fn told(summary: &Summary) -> String {
    let Summary {
        jobs,
        vms,
        slots,
        flaws,
        ..
    } = summary;
    let mut text = match flaws {
        0 => format!("{jobs} jobs and {vms} VMs are what their {slots} slots say"),
        flaws => format!("{flaws} of {jobs} jobs and {vms} VMs are not what their {slots} slots say"),
    };
    if let Some(history) = &summary.history {
        text.push_str("; ");
        text.push_str(&history.to_string());
    }
    if let Some(saved) = &summary.saved {
        text.push_str(&format!(
            "; saved the digest of {} slots of {} jobs, SHA-256 {}",
            saved.slots, saved.jobs, saved.sha256
        ));
        if saved.young > 0 {
            text.push_str(&format!("; {} slots are too young to be in it", saved.young));
        }
    }
    text
}
