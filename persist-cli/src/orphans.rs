//! `persist orphans`: what is live and nobody seems to see to.

use std::time::Duration;

use clap::Args;
use comfy_table::Cell;
use persist::{Error, ErrorKind, Orphan, OrphanKind, OrphanQuery, PersistExt as _, Subject};

use crate::args::{PageArgs, parse_filter};
use crate::context::Context;
use crate::exit::{Code, Failure};
use crate::listing::{self, Listed};
use crate::span::parse_span;
use crate::table::{self, Heading, Heading::Fixed, Heading::Text};

pub(crate) const AFTER_HELP: &str = "\
Kinds:
  owner_gone      who reported it last has stopped beating, or was started anew since
  vm_without_job  a live VM whose job has ended, or never came
  job_without_vm  a running job that had VMs, of which none is live

Example: what orchestrator-1 left behind at least five minutes ago, for a script
  persist --format jsonl orphans --kind owner_gone --actor orchestrator-1 --grace 5m --all";

/// Which orphans.
#[derive(Args)]
pub(crate) struct WhichOrphans {
    /// Only these kinds, repeated or with commas: owner_gone, vm_without_job, job_without_vm
    #[arg(long, value_delimiter = ',', value_parser = OrphanKind::parse)]
    kind: Vec<OrphanKind>,
    /// Only what this actor reported last
    #[arg(long, value_name = "NAME", value_parser = parse_filter)]
    actor: Option<String>,
    /// Only what was reported at least this long ago, such as 30s, 5m, 2h: VMs and their jobs are reported one after the other
    #[arg(long, value_name = "SPAN", default_value = "1m", value_parser = parse_span)]
    grace: Duration,
}

impl WhichOrphans {
    pub(crate) fn query(self) -> OrphanQuery {
        let mut query = OrphanQuery::default().kinds(self.kind).grace(self.grace);
        query.actor = self.actor;
        query
    }
}

#[derive(Args)]
pub(crate) struct OrphansArgs {
    #[command(flatten)]
    which: WhichOrphans,
    #[command(flatten)]
    page: PageArgs,
}

impl Listed for Orphan {
    const HEADINGS: &'static [Heading] = &[
        Fixed("JOB"),
        Text("VM"),
        Text("STATE"),
        Text("WHY"),
        Fixed("SINCE (UTC)"),
        Text("ACTOR"),
        Text("ATTEMPT"),
    ];

    fn cells(&self, colour: bool) -> Vec<Cell> {
        let name = match &self.subject {
            Subject::Job(_) => None,
            Subject::Vm(key) => Some(key.domain_name.as_str()),
        };
        let why: Vec<_> = self.kinds.iter().map(|kind| kind.name()).collect();
        vec![
            Cell::new(self.subject.request_id()),
            table::text(name),
            table::state(self.state, colour),
            Cell::new(why.join(", ")),
            table::moment(self.recorded_at),
            table::text(self.actor.as_deref()),
            Cell::new(self.attempt),
        ]
    }
}

pub(crate) async fn run(args: OrphansArgs, context: &mut Context) -> Result<Code, Failure> {
    let query = args.which.query().limit(args.page.limit);
    let query = query.after(args.page.after());
    let backend = context.database.for_reading().await?;
    if args.page.all {
        listing::all(context, backend.all_orphans(query)).await?;
    } else {
        let none = || Error::new(ErrorKind::Unsupported, "this backend knows of no owners");
        let owners = backend.owners().ok_or_else(none)?;
        listing::page(context, &owners.orphans(&query).await?)?;
    }
    backend.close().await?;
    Ok(Code::Ok)
}
