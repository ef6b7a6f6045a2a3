//! `persist copy`: all of one store into another, live, with a proof.

use std::time::Instant;

use clap::Args;
use comfy_table::Cell;
use persist::{Conflict, PersistBackend, Progress, Transfer, Transferred};

use crate::args::Format;
use crate::context::Context;
use crate::database::Database;
use crate::exit::{Code, Failure, unless_unread};
use crate::table::{self, Heading::Fixed, Heading::Text};
use crate::{signals, talk};

pub(crate) const AFTER_HELP: &str = "\
Examples:
  persist copy sqlite://persist.db postgres://ci@db/ci
  OLD=postgres://… NEW=postgres://… persist copy env:OLD env:NEW

The source may be written meanwhile; what changed meanwhile is copied until it has caught up. Killed, it goes on where it was. At the end \
every slot is compared. Run it again after the last writer has moved: the second run is short, and final where it says that both exports were the same.

Exit codes: 0 every slot of the source stands in the target, 1 some changed too fast to be proven, 4 the target says something \
else in some, which are listed and left as they are.";

#[derive(Args)]
pub(crate) struct CopyArgs {
    /// Where from: a URL, or env:NAME for one in a variable, where other users can't see it
    from: String,
    /// Where to, the like; it is created and migrated
    to: String,
    /// Neither create nor migrate the target
    #[arg(long)]
    no_migrate: bool,
}

pub(crate) async fn run(args: CopyArgs, context: &mut Context) -> Result<Code, Failure> {
    if context.database.is_by_flag() {
        return Err(Failure::told(
            Code::Usage,
            "copy takes both URLs as arguments, and no --database-url",
        ));
    }
    let (from, to) = (named(&args.from)?, named(&args.to)?);
    let from = from.for_reading().await?;
    let target = to.for_writing(!args.no_migrate).await?;
    if !target.is_enabled() {
        return Err(Failure::told(
            Code::Usage,
            "none: stores nothing; name a database to copy to",
        ));
    }
    let to = target.backend();
    if !to.health().await?.durable {
        let what = "the target ends with this program; name a store that stays";
        return Err(Failure::told(Code::Usage, what));
    }
    let mut stop = signals::listen()?;
    let done = tokio::select! {
        done = copy(&*from, &*to) => done?,
        signal = stop.wait_for(Option::is_some) => {
            let signal = signal.ok().and_then(|signal| *signal).unwrap_or_default();
            talk::say("stopped; what was copied stays, and the same command goes on from there");
            return Ok(Code::Signalled(signal));
        }
    };
    from.close().await?;
    target.close().await?;
    unless_unread(print(context, &done))?;
    Ok(match (done.conflicting, done.proven) {
        (0, true) => Code::Ok,
        (0, false) => Code::Failed,
        _ => Code::Refused,
    })
}

fn print(context: &mut Context, done: &Transferred) -> Result<(), Failure> {
    match context.format {
        Format::Table => {
            conflicts(context, &done.conflicts)?;
            context.out.line(&told(done))?;
        }
        Format::Json | Format::Jsonl => context.out.json(done)?,
    }
    Ok(context.out.flush()?)
}

/// A URL, or that of a variable.
fn named(text: &str) -> Result<Database, Failure> {
    let Some(name) = text.strip_prefix("env:") else {
        return Database::choose(Some(text.to_owned()));
    };
    let url = std::env::var(name).map_err(|_| {
        let what = format!("the variable {} holds no URL", crate::visible::visible(name));
        Failure::told(Code::Usage, what)
    })?;
    if url.trim().is_empty() {
        let what = format!("the variable {} is blank", crate::visible::visible(name));
        return Err(Failure::told(Code::Usage, what));
    }
    Database::choose(Some(url))
}

async fn copy(from: &dyn PersistBackend, to: &dyn PersistBackend) -> Result<Transferred, Failure> {
    let bar = talk::spinner("copying");
    let mut doing = ("", Instant::now());
    let each = |progress: Progress| {
        if doing.0 != progress.doing {
            doing = (progress.doing, Instant::now());
        }
        let rate = progress.slots as f64 / doing.1.elapsed().as_secs_f64().max(0.001);
        bar.set_message(format!(
            "{}: {} slots, {rate:.0} a second",
            progress.doing, progress.slots
        ));
    };
    let done = Transfer::new(from, to).run(each).await;
    bar.finish_and_clear();
    Ok(done?)
}

fn conflicts(context: &mut Context, conflicts: &[Conflict]) -> Result<(), Failure> {
    if conflicts.is_empty() {
        return Ok(());
    }
    let mut rows = table::table(&[
        Fixed("JOB"),
        Text("VM"),
        Text("ATTEMPT"),
        Text("STATE THERE"),
        Text("DIFFERS IN"),
    ]);
    for conflict in conflicts {
        rows.add_row([
            Cell::new(conflict.subject.request_id()),
            table::text(conflict.subject.vm_name()),
            Cell::new(conflict.attempt),
            table::state(conflict.state, context.colour),
            Cell::new(conflict.column),
        ]);
    }
    table::print(context, rows)
}

fn told(done: &Transferred) -> String {
    let Transferred {
        read,
        applied,
        late,
        filled,
        unchanged,
        compared,
        again,
        extra,
        ..
    } = done;
    let mut text = format!(
        "copied {read} slots: applied {applied}, late {late}, filled {filled}, unchanged {unchanged}; compared \
         {compared}"
    );
    for (count, what) in [
        (*again, "were copied again"),
        (*extra, "are in the target alone"),
        (done.conflicting, "differ, and were left as they are"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text.push_str(match (done.equal, done.proven) {
        (true, _) => "; both exports were the same",
        (false, true) => "; all stand in the target",
        (false, false) if done.unproven == 0 => "; the rest stands in the target",
        (false, false) => "; some changed too fast to be proven: run it again",
    });
    text
}
