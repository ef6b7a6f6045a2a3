//! `persist spool`: what waits in the file of an orchestrator, and getting it out.

use std::path::PathBuf;

use chrono::TimeDelta;
use clap::{Args, Subcommand};
use comfy_table::Cell;
use futures_util::{Stream, TryStreamExt as _, stream};
use persist::{
    Clock as _, Entry, Outbox, OutboxConfig, OutboxStatus, Replayed, Result, SqliteOutbox, SystemClock,
    Timestamp, replay, time,
};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::args::Format;
use crate::context::Context;
use crate::exit::{Code, Failure};
use crate::listing::{self, Listed};
use crate::span::human;
use crate::table::{self, Heading, Heading::Fixed, Heading::Text};
use crate::talk;
use crate::visible::{visible, visible_json};

/// Entries that are read at a time.
const PAGE: u32 = 1_000;

pub(crate) const AFTER_HELP: &str = "\
A running orchestrator replays its spool by itself; status, list and export look at it meanwhile, and replay \
and discard-dead want it stopped. A spool belongs to the database that it was filled for: where that one is \
gone for good, export it, import the lines into the new one, and move the file away.

Examples:
  persist spool status --spool /var/lib/ci/spool.db
  persist spool export --spool /var/lib/ci/spool.db | persist import -";

#[derive(Subcommand)]
pub(crate) enum SpoolAction {
    /// Tell how much waits, since when, and for which database
    #[command(after_help = "Example:\n  persist spool status --spool /var/lib/ci/spool.db")]
    Status(SpoolFile),
    /// List what waits
    #[command(after_help = "Example:\n  persist spool list --spool /var/lib/ci/spool.db --dead")]
    List(ListFlags),
    /// Send what waits to the database of --database-url, and remove what it has
    #[command(after_help = "Example:\n  persist spool replay --spool /var/lib/ci/spool.db")]
    Replay(SpoolFile),
    /// Print what waits as JSONL, for `import`; nothing is removed
    #[command(after_help = "Example:\n  persist spool export --spool /var/lib/ci/spool.db > waits.jsonl")]
    Export(WhichFlags),
    /// Remove what was put aside because no database can store it
    #[command(after_help = "Example:\n  persist spool discard-dead --spool /var/lib/ci/spool.db --yes")]
    DiscardDead(DiscardFlags),
}

#[derive(Args)]
pub(crate) struct SpoolFile {
    /// The file that the orchestrator spools to
    #[arg(long = "spool", value_name = "PATH")]
    path: PathBuf,
}

#[derive(Args)]
pub(crate) struct WhichFlags {
    #[command(flatten)]
    file: SpoolFile,
    /// What was put aside, in place of what waits
    #[arg(long)]
    dead: bool,
}

#[derive(Args)]
pub(crate) struct ListFlags {
    #[command(flatten)]
    which: WhichFlags,
    /// Most entries
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// All entries, as they come
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

#[derive(Args)]
pub(crate) struct DiscardFlags {
    #[command(flatten)]
    file: SpoolFile,
    /// That they may go is meant
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(action: SpoolAction, context: &mut Context) -> Result<Code, Failure> {
    match action {
        SpoolAction::Status(file) => status(file, context).await,
        SpoolAction::List(flags) => list(flags, context).await,
        SpoolAction::Replay(file) => replay_all(file, context).await,
        SpoolAction::Export(flags) => export(flags, context).await,
        SpoolAction::DiscardDead(flags) => discard_dead(flags, context).await,
    }
}

#[derive(Serialize)]
struct Status {
    #[serde(flatten)]
    held: OutboxStatus,
    oldest_age_us: Option<i64>,
    held_by: Option<String>,
}

async fn status(file: SpoolFile, context: &mut Context) -> Result<Code, Failure> {
    let (outbox, held_by) = SqliteOutbox::look(file.path).await?;
    let held = outbox.status();
    outbox.close().await;
    let age = held
        .oldest
        .map(|oldest| (SystemClock.now() - oldest).max(TimeDelta::zero()));
    if context.format == Format::Table {
        for line in lines(&held, age, held_by.as_deref()) {
            context.out.line(&visible(&line))?;
        }
        return Ok(Code::Ok);
    }
    let oldest_age_us = age.and_then(|age| age.num_microseconds());
    context.out.json(&Status {
        held,
        oldest_age_us,
        held_by,
    })?;
    Ok(Code::Ok)
}

fn lines(held: &OutboxStatus, age: Option<TimeDelta>, held_by: Option<&str>) -> Vec<String> {
    let since = held.oldest.zip(age).map_or_else(String::new, |(oldest, age)| {
        format!(", the oldest since {} ({})", time::format(oldest), human(age))
    });
    let store = held
        .bound_to
        .map_or_else(|| "no database yet".to_owned(), |store| format!("store {store}"));
    vec![
        format!("waiting: {}{since}", held.waiting),
        format!("put aside: {}", held.dead),
        format!("bytes: {}", held.bytes),
        format!("belongs to: {store}"),
        format!("in use by: {}", held_by.unwrap_or("nobody")),
    ]
}

/// An entry as a list shows it.
#[derive(Serialize)]
struct Line {
    seq: u64,
    #[serde(serialize_with = "time::rfc3339::serialize")]
    created_at: Timestamp,
    attempts: u32,
    last_error: Option<String>,
    /// In the exchange format, where it can be read.
    update: Option<Box<RawValue>>,
    #[serde(skip)]
    about: String,
}

impl From<Entry> for Line {
    fn from(entry: Entry) -> Self {
        let about = entry.claim().map_or_else(
            |_| "can't be read".to_owned(),
            |claim| {
                format!(
                    "{} {}, attempt {}",
                    claim.subject(),
                    claim.state(),
                    claim.attempt()
                )
            },
        );
        Self {
            seq: entry.seq,
            created_at: entry.created_at,
            attempts: entry.attempts,
            last_error: entry.last_error,
            update: RawValue::from_string(entry.line).ok(),
            about,
        }
    }
}

impl Listed for Line {
    const HEADINGS: &'static [Heading] = &[
        Text("ENTRY"),
        Text("UPDATE"),
        Fixed("SINCE (UTC)"),
        Text("ATTEMPTS"),
        Text("LAST ERROR"),
    ];

    fn cells(&self, _colour: bool) -> Vec<Cell> {
        vec![
            Cell::new(self.seq),
            table::text(Some(&self.about)),
            table::moment(self.created_at),
            Cell::new(self.attempts),
            table::text(self.last_error.as_deref()),
        ]
    }
}

/// All entries of one kind, a page at a time.
fn entries(outbox: &SqliteOutbox, dead: bool) -> impl Stream<Item = Result<Entry>> {
    let pages = stream::try_unfold(0, move |after| async move {
        let page = if dead {
            outbox.dead(after, PAGE).await?
        } else {
            outbox.waiting(after, PAGE).await?
        };
        let last = page.last().map(|entry| entry.seq);
        Ok::<_, persist::Error>(last.map(|last| (stream::iter(page.into_iter().map(Ok)), last)))
    });
    pages.try_flatten()
}

async fn list(flags: ListFlags, context: &mut Context) -> Result<Code, Failure> {
    let (outbox, _) = SqliteOutbox::look(flags.which.file.path).await?;
    let status = outbox.status();
    let there = if flags.which.dead {
        status.dead
    } else {
        status.waiting
    };
    let most = if flags.all {
        usize::MAX
    } else {
        flags.limit as usize
    };
    if there == 0 && context.format == Format::Table {
        talk::say("nothing to list");
        return Ok(Code::Ok);
    }
    let shown = futures_util::StreamExt::take(entries(&outbox, flags.which.dead).map_ok(Line::from), most);
    listing::all(context, shown).await?;
    context.out.flush()?;
    if there > most as u64 {
        talk::say(&format!("{} more follow: add --all", there - most as u64));
    }
    outbox.close().await;
    Ok(Code::Ok)
}

async fn export(flags: WhichFlags, context: &mut Context) -> Result<Code, Failure> {
    let (outbox, _) = SqliteOutbox::look(flags.file.path).await?;
    {
        let mut entries = std::pin::pin!(entries(&outbox, flags.dead));
        while let Some(entry) = entries.try_next().await? {
            context.out.line(&visible_json(&entry.line))?;
        }
    }
    context.out.flush()?;
    outbox.close().await;
    Ok(Code::Ok)
}

/// The file alone, and nobody else in it.
async fn take(file: SpoolFile) -> Result<SqliteOutbox, Failure> {
    Ok(SqliteOutbox::open(OutboxConfig::new(file.path).create(false)).await?)
}

async fn replay_all(file: SpoolFile, context: &mut Context) -> Result<Code, Failure> {
    if !context.database.is_given() {
        // What waits would belong to whatever file lies about here.
        let what = "say which database with --database-url or DATABASE_URL";
        return Err(Failure::told(Code::Usage, what));
    }
    let backend = context.database.for_reading().await?;
    if !backend.health().await?.durable {
        let what = "that store ends with this program: what waits would be replayed into nothing";
        return Err(Failure::told(Code::Usage, what));
    }
    let outbox = take(file).await?;
    let bar = talk::spinner("replaying");
    let told = |replayed: &Replayed| bar.set_message(format!("{} replayed", replayed.taken));
    let replayed = replay(&outbox, &*backend, told).await;
    bar.finish_and_clear();
    let left = outbox.status().waiting;
    outbox.close().await;
    backend.close().await?;
    let replayed = replayed.inspect_err(|_| {
        talk::say(&format!(
            "{left} updates stay in the spool; replay it again at any time"
        ));
    })?;
    let Replayed {
        taken,
        refused,
        dead,
        passed_over,
        ..
    } = replayed;
    match context.format {
        Format::Table => context.out.line(&format!(
            "replayed {taken}, of them {refused} refused; {dead} put aside, {passed_over} passed over, {left} left"
        ))?,
        Format::Json | Format::Jsonl => context.out.json(&serde_json::json!({
            "replayed": taken, "refused": refused, "dead": dead, "passed_over": passed_over, "left": left,
        }))?,
    }
    Ok(if dead + passed_over == 0 {
        Code::Ok
    } else {
        Code::Failed
    })
}

async fn discard_dead(flags: DiscardFlags, context: &mut Context) -> Result<Code, Failure> {
    let outbox = take(flags.file).await?;
    let dead = outbox.status().dead;
    if !flags.yes && dead > 0 {
        let what = format!(
            "{dead} updates that were acknowledged would go for good; look at them with persist spool export --dead, \
             and add --yes if that is meant"
        );
        return Err(Failure::told(Code::Usage, what));
    }
    let discarded = outbox.discard_dead().await?;
    outbox.close().await;
    match context.format {
        Format::Table => context.out.line(&format!("discarded {discarded}"))?,
        Format::Json | Format::Jsonl => context.out.json(&serde_json::json!({ "discarded": discarded }))?,
    }
    Ok(Code::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    #[test]
    fn the_lines_tell_what_is_known() {
        let mut held = OutboxStatus::default();
        assert_eq!(
            lines(&held, None, None),
            [
                "waiting: 0",
                "put aside: 0",
                "bytes: 0",
                "belongs to: no database yet",
                "in use by: nobody"
            ]
        );
        (held.waiting, held.oldest) = (3, Some(DateTime::UNIX_EPOCH));
        assert_eq!(
            lines(&held, Some(TimeDelta::minutes(3)), Some("process 7 (ci)"))[0],
            "waiting: 3, the oldest since 1970-01-01T00:00:00.000000Z (3 min)"
        );
    }
}
