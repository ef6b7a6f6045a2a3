//! `persist watch`: what changes, as it comes.

use std::pin::pin;

use clap::Args;
use futures_util::{FutureExt as _, StreamExt as _};
use persist::{
    Change, Cursor, Error, ErrorKind, Event, IdRange, JobState, PersistBackend, PersistExt as _, State,
    StateTable, VmState,
};

use crate::args::{Format, state_words};
use crate::context::Context;
use crate::exit::{Code, Failure};
use crate::signals;
use crate::visible::visible;

pub(crate) const AFTER_HELP: &str = "\
Every slot that is claimed or filled, by whatever process, once each and in an order in which nothing is missed; \
what a prune removes is not told. --format json prints as jsonl does: the columns of the slot and a cursor. \
Ends with SIGINT or SIGTERM, when nobody reads its output any more, and with exit code 1 \
where slots that were not seen yet were pruned: begin again with --from start. While the database is away it waits. \
With --job or --state, what it passed over has no line: the last cursor may be an old one, after which more was \
pruned than this would have printed, and to go on there ends with exit code 1 too.

Examples: all that is there and comes, and later go on where that ended
  persist watch --format jsonl --from start > seen.jsonl
  persist watch --format jsonl --from \"$(tail -n 1 seen.jsonl | jq -r .cursor)\" >> seen.jsonl";

#[derive(Args)]
pub(crate) struct WatchArgs {
    /// Only jobs whose id is or begins with this, with their VMs
    #[arg(long, value_name = "ID", value_parser = IdRange::of_prefix)]
    job: Option<IdRange>,
    /// Only slots of these states of jobs or VMs, repeated or with commas
    #[arg(long, value_delimiter = ',', value_parser = parse_state)]
    state: Vec<States>,
    /// From now on, from the first slot that there is (start), or after the cursor of a line
    #[arg(long, value_name = "now|start|CURSOR", default_value = "now", value_parser = parse_from)]
    from: String,
}

fn parse_from(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() {
        return Err("is blank; say now, start, or the cursor of a line");
    }
    Ok(text.to_owned())
}

/// The states that a word means: some are states of jobs and of VMs.
#[derive(Clone)]
struct States(Vec<State>);

fn parse_state(word: &str) -> Result<States, Error> {
    let (job, vm) = (JobState::parse(word), VmState::parse(word));
    match (job, vm) {
        (Err(_), Err(_)) => {
            let (jobs, vms) = (
                state_words::<JobState>("of jobs"),
                state_words::<VmState>("of VMs"),
            );
            Err(Error::invalid(
                "state",
                format!("unknown; known are those {jobs}; {vms}"),
            ))
        }
        (job, vm) => {
            let states = job.ok().map(State::Job).into_iter();
            Ok(States(states.chain(vm.ok().map(State::Vm)).collect()))
        }
    }
}

impl WatchArgs {
    fn wants(&self, event: &Event) -> bool {
        self.job
            .is_none_or(|ids| ids.contains(event.subject.request_id()))
            && (self.state.is_empty() || self.state.iter().any(|states| states.0.contains(&event.state)))
    }
}

pub(crate) async fn run(args: WatchArgs, context: &mut Context) -> Result<Code, Failure> {
    let backend = context.database.for_reading().await?;
    let watched = watch(&args, &*backend, context).await;
    // What it met matters; a second error of letting go does not.
    let closed = backend.close().await;
    let code = watched?;
    closed?;
    Ok(code)
}

async fn watch(
    args: &WatchArgs,
    backend: &dyn PersistBackend,
    context: &mut Context,
) -> Result<Code, Failure> {
    let from = match args.from.as_str() {
        "start" => None,
        "now" => {
            let none = || Error::new(ErrorKind::Unsupported, "this store can't be watched");
            Some(backend.changes().ok_or_else(none)?.now().await?.cursor())
        }
        cursor => Some(Cursor::from_text(cursor)),
    };
    let mut stop = signals::listen()?;
    let mut changes = pin!(backend.watch(from));
    let mut unread = pin!(signals::unread());
    loop {
        let next = match changes.next().now_or_never() {
            Some(next) => next,
            None => {
                // Nothing more is there: what is gets out before it waits.
                context.out.flush()?;
                tokio::select! {
                    next = changes.next() => next,
                    _ = stop.wait_for(Option::is_some) => None,
                    () = &mut unread => return Ok(Code::Ok),
                }
            }
        };
        let asked = *stop.borrow();
        if let Some(signal) = asked {
            context.out.flush()?;
            return Ok(Code::Signalled(signal));
        }
        let Some(change) = next.transpose()? else {
            return Ok(Code::Ok);
        };
        if args.wants(&change.event) {
            print(&change, context)?;
        }
    }
}

fn print(change: &Change, context: &mut Context) -> Result<(), Failure> {
    let event = &change.event;
    match context.format {
        Format::Json | Format::Jsonl => context.out.json(&change.line())?,
        Format::Table => context.out.line(&visible(&line(event)))?,
    }
    Ok(())
}

/// For people: no columns, as nobody knows how wide the next ones are.
fn line(event: &Event) -> String {
    let mut line = format!(
        "{}  {}  {:<9}  attempt {}",
        event.at.format("%Y-%m-%d %H:%M:%S"),
        event.subject.request_id(),
        event.state.name(),
        event.attempt()
    );
    if event.subject.is_vm() {
        line.push_str(&format!("  VM {}", event.subject.domain_name()));
    }
    for (lead, text) in [("by ", &event.actor), ("", &event.reason)] {
        if let Some(text) = text {
            line.push_str(&format!("  {lead}{text}"));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_means_the_states_of_jobs_and_of_vms() {
        let states = |word: &str| {
            parse_state(word)
                .map(|states| states.0)
                .map_err(|error| error.kind())
        };
        assert_eq!(
            states("running"),
            Ok(vec![State::Job(JobState::Running), State::Vm(VmState::Running)])
        );
        assert_eq!(states("success"), Ok(vec![State::Job(JobState::Succeeded)]));
        assert_eq!(states("destroyed"), Ok(vec![State::Vm(VmState::Destroyed)]));
        assert_eq!(states("gone"), Err(ErrorKind::InvalidInput));
    }
}
