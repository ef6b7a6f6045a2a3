//! `persist recover`: ends what nobody sees to any more.

use clap::{Args, ValueEnum};
use persist::{Recovered, Recovery};
use serde_json::json;

use crate::args::{Format, parse_filter};
use crate::context::Context;
use crate::exit::{Code, Failure};
use crate::orphans::WhichOrphans;

/// Who reports, where nobody is named.
const REPORTER: &str = "persist:recover";

pub(crate) const AFTER_HELP: &str = "\
Jobs become lost, VMs failed, in their current attempts. What is reported later all the same \
heals a job, and a VM still becomes destroyed. Only what is stored changes: a VM that runs on is \
to be destroyed by hand. After an outage of the database let the orchestrators beat again first.

Example: look, then end what a host that burned down has left
  persist orphans --kind owner_gone --actor orchestrator-1
  persist recover --mark lost --kind owner_gone --actor orchestrator-1 --reason 'host 7 burned'";

#[derive(Clone, Copy, ValueEnum)]
enum Mark {
    /// Jobs as lost, and VMs as failed
    Lost,
}

#[derive(Args)]
pub(crate) struct RecoverArgs {
    /// As what to end them
    #[arg(long, value_enum)]
    mark: Mark,
    #[command(flatten)]
    which: WhichOrphans,
    /// Only count them
    #[arg(long)]
    dry_run: bool,
    /// Who reports
    #[arg(long, value_name = "NAME", default_value = REPORTER, value_parser = parse_filter)]
    by: String,
    /// Why
    #[arg(long, value_name = "TEXT", value_parser = parse_filter)]
    reason: String,
}

pub(crate) async fn run(args: RecoverArgs, context: &mut Context) -> Result<Code, Failure> {
    let recovery = Recovery::of(args.which.query())
        .actor(args.by)
        .reason(args.reason)
        .dry_run(args.dry_run);
    let Mark::Lost = args.mark;
    let persist = context.database.for_writing(false).await?;
    let recovered = persist.recover(&recovery).await?;
    persist.close().await?;
    match context.format {
        Format::Table => context.out.line(&sentence(recovered, args.dry_run))?,
        Format::Json | Format::Jsonl => context.out.json(&json!({
            "jobs": recovered.jobs, "vms": recovered.vms, "passed": recovered.passed, "dry_run": args.dry_run,
        }))?,
    }
    Ok(Code::Ok)
}

fn sentence(recovered: Recovered, dry_run: bool) -> String {
    let Recovered {
        jobs, vms, passed, ..
    } = recovered;
    let of = |count: u64, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let (jobs, vms) = (of(jobs, "job"), of(vms, "VM"));
    let mut text = if dry_run {
        format!("{jobs} would be marked lost, and {vms} failed")
    } else {
        format!("{jobs} marked lost, and {vms} failed")
    };
    if passed > 0 {
        text.push_str(&format!("; {passed} went on by themselves meanwhile"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_is_told_in_a_sentence() {
        let mut recovered = Recovered::default();
        (recovered.jobs, recovered.vms) = (1, 2);
        assert_eq!(sentence(recovered, false), "1 job marked lost, and 2 VMs failed");
        recovered.passed = 3;
        let told = "1 job would be marked lost, and 2 VMs failed; 3 went on by themselves meanwhile";
        assert_eq!(sentence(recovered, true), told);
    }
}
