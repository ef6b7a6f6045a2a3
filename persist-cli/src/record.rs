//! `persist record`: one update from flags, for shell hooks.

use std::str::FromStr;

use clap::{Args, Subcommand};
use persist::{
    Attempt, Error, JobState, JobUpdate, Outcome, Persist, Result, StateTable, Subject, Timestamp, Update,
    VmKey, VmState, VmUpdate,
};
use uuid::Uuid;

use crate::args::{Format, state_meanings, state_words};
use crate::context::Context;
use crate::exit::{Code, Failure};
use crate::span::parse_moment;
use crate::talk;

const JOB_AFTER_HELP: &str = "\
Examples:
  persist record job $ID queued --repo-url \"$REPO\" --commit-sha \"$SHA\"
  persist record job $ID succeeded --attempt current
  persist record job $ID failed --attempt next --reason 'the first report was wrong'";

const VM_AFTER_HELP: &str = "\
Example:
  persist record vm $ID vm-7 prepared --backend libvirt --overlay-path /var/lib/ci/vm-7.qcow2";

#[derive(Subcommand)]
pub(crate) enum RecordWhat {
    /// A job was in a state
    #[command(after_help = JOB_AFTER_HELP)]
    Job(RecordJob),
    /// A VM was in a state
    #[command(after_help = VM_AFTER_HELP)]
    Vm(RecordVm),
}

#[derive(Args)]
pub(crate) struct RecordJob {
    /// The job's id, a UUID
    #[arg(value_name = "ID")]
    request_id: Uuid,
    #[arg(value_parser = JobState::parse, help = state_words::<JobState>("State"), long_help = state_meanings::<JobState>("State"))]
    state: JobState,
    /// Repository; credentials in it are stripped
    #[arg(long, value_name = "URL")]
    repo_url: Option<String>,
    /// Commit, 4 to 64 hex digits
    #[arg(long, value_name = "HEX")]
    commit_sha: Option<String>,
    /// Runner label
    #[arg(long, value_name = "LABEL")]
    runs_on: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub(crate) struct RecordVm {
    /// The id of its job, a UUID
    #[arg(value_name = "ID")]
    request_id: Uuid,
    /// Its libvirt domain
    #[arg(value_name = "DOMAIN")]
    domain_name: String,
    #[arg(value_parser = VmState::parse, help = state_words::<VmState>("State"), long_help = state_meanings::<VmState>("State"))]
    state: VmState,
    /// Hypervisor back end, such as libvirt
    #[arg(long)]
    backend: Option<String>,
    /// Disk overlay
    #[arg(long, value_name = "PATH")]
    overlay_path: Option<String>,
    /// Cloud-init seed image
    #[arg(long, value_name = "PATH")]
    seed_path: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Common {
    /// Which run of the job, or start of the VM: a number, current or next
    #[arg(long, value_name = "N", default_value = "1")]
    attempt: Which,
    /// When it was so: RFC 3339, or an age such as 30s; now unless set
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    at: Option<Timestamp>,
    /// Who reports
    #[arg(long)]
    actor: Option<String>,
    /// Why
    #[arg(long)]
    reason: Option<String>,
    /// Neither create nor migrate anything
    #[arg(long)]
    no_migrate: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Number(Attempt),
    /// The row's; the first where there is none.
    Current,
    /// The one after the row's; the first where there is none.
    Next,
}

impl FromStr for Which {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "current" => Ok(Self::Current),
            "next" => Ok(Self::Next),
            number => {
                let wrong = |_| Error::invalid("attempt", "must be a number, current or next");
                Attempt::new(number.parse().map_err(wrong)?).map(Self::Number)
            }
        }
    }
}

impl Which {
    /// The attempt that is meant, for a row at `standing`.
    fn of(self, standing: Option<Attempt>) -> Result<Attempt> {
        match (self, standing) {
            (Self::Number(attempt), _) => Ok(attempt),
            (Self::Current | Self::Next, None) => Ok(Attempt::FIRST),
            (Self::Current, Some(attempt)) => Ok(attempt),
            (Self::Next, Some(attempt)) => attempt
                .next()
                .ok_or_else(|| Error::invalid("attempt", "there is none after the last")),
        }
    }
}

/// Sets what both kinds have in common; flags that were not given stay unset.
macro_rules! with_common {
    ($update:expr, $common:expr, $attempt:expr) => {{
        let mut update = $update
            .attempt($attempt.get())
            .actor($common.actor.unwrap_or_default());
        update = update.reason($common.reason.unwrap_or_default());
        if let Some(at) = $common.at {
            update = update.at(at);
        }
        Update::from(update)
    }};
}

pub(crate) async fn run(what: RecordWhat, context: &mut Context) -> Result<Code, Failure> {
    let common = match &what {
        RecordWhat::Job(args) => &args.common,
        RecordWhat::Vm(args) => &args.common,
    };
    let persist = context.database.for_writing(!common.no_migrate).await?;
    let (subject, attempt, outcome) = match what {
        RecordWhat::Job(args) => job(&persist, args).await?,
        RecordWhat::Vm(args) => vm(&persist, args).await?,
    };
    persist.close().await?;
    match context.format {
        Format::Table => context.out.line(&sentence(&subject, attempt, &outcome))?,
        Format::Json | Format::Jsonl => context.out.json(&outcome)?,
    }
    if matches!(outcome, Outcome::Refused { .. }) {
        // So that this comes behind the outcome; an error is met again at the end.
        let _ = context.out.flush();
        talk::say("nothing is overwritten; to run it again or to correct an ending, record --attempt next");
        return Ok(Code::Refused);
    }
    Ok(Code::Ok)
}

async fn job(persist: &Persist, args: RecordJob) -> Result<(Subject, Attempt, Outcome)> {
    let attempt = match args.common.attempt {
        Which::Number(attempt) => attempt,
        which => which.of(persist.job(args.request_id).await?.map(|job| job.attempt))?,
    };
    // Empty text is absent text.
    let update = JobUpdate::new(args.request_id, args.state)
        .repo_url(args.repo_url.unwrap_or_default())
        .commit_sha(args.commit_sha.unwrap_or_default())
        .runs_on(args.runs_on.unwrap_or_default());
    let outcome = record(persist, with_common!(update, args.common, attempt)).await?;
    Ok((Subject::Job(args.request_id), attempt, outcome))
}

async fn vm(persist: &Persist, args: RecordVm) -> Result<(Subject, Attempt, Outcome)> {
    let key = VmKey::new(args.request_id, args.domain_name);
    let attempt = match args.common.attempt {
        Which::Number(attempt) => attempt,
        which => which.of(persist.vm(&key).await?.map(|vm| vm.attempt))?,
    };
    let update = VmUpdate::new(key.request_id, key.domain_name.clone(), args.state)
        .backend(args.backend.unwrap_or_default())
        .overlay_path(args.overlay_path.unwrap_or_default())
        .seed_path(args.seed_path.unwrap_or_default());
    let outcome = record(persist, with_common!(update, args.common, attempt)).await?;
    Ok((Subject::Vm(key), attempt, outcome))
}

async fn record(persist: &Persist, update: Update) -> Result<Outcome> {
    match update {
        Update::Job(update) => persist.record_job_state(update).await,
        Update::Vm(update) => persist.record_vm_event(update).await,
    }
}

fn sentence(subject: &Subject, attempt: Attempt, outcome: &Outcome) -> String {
    let stands = |current: &persist::Current| format!("it is {}, attempt {}", current.state, current.attempt);
    match outcome {
        Outcome::Applied { created: true } => format!("applied: {subject} is new, attempt {attempt}"),
        Outcome::Applied { created: false } => format!("applied: {subject} moved forward, attempt {attempt}"),
        Outcome::Late { current } => format!("late: noted for {subject}; {}", stands(current)),
        Outcome::Filled { current } => format!("filled: completed {subject}; {}", stands(current)),
        Outcome::Unchanged { current } => format!("unchanged: {subject} had it already; {}", stands(current)),
        Outcome::Refused { standing, current } => {
            format!(
                "refused: attempt {attempt} of {subject} stands as {standing}; {}",
                stands(current)
            )
        }
        other => format!("{other}: {subject}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use persist::Current;

    #[test]
    fn an_attempt_is_a_number_or_told_by_the_row() {
        let of = |text: &str, standing| text.parse::<Which>()?.of(standing).map(Attempt::get);
        let seven = Attempt::new(7).ok();
        assert_eq!(of("3", seven).unwrap(), 3);
        assert_eq!(
            (of("current", seven).unwrap(), of("next", seven).unwrap()),
            (7, 8)
        );
        assert_eq!((of("current", None).unwrap(), of("next", None).unwrap()), (1, 1));
        assert!(of("next", Some(Attempt::MAX)).is_err());
        for wrong in ["0", "-1", "last", ""] {
            assert!(of(wrong, None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn i10_a_refusal_tells_what_stands_and_escapes_the_name() {
        let subject = Subject::Vm(VmKey::new(Uuid::from_u128(1), "vm\u{1b}7"));
        let current = Current {
            state: VmState::Destroyed.into(),
            attempt: Attempt::FIRST,
        };
        let refused = Outcome::Refused {
            standing: VmState::Stopped.into(),
            current,
        };
        let text = sentence(&subject, Attempt::FIRST, &refused);
        assert!(
            text.contains("stands as stopped; it is destroyed, attempt 1"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
