//! `persist refusals`: what was tried of slots that held another state.

use clap::Args;
use comfy_table::Cell;
use persist::{Error, ErrorKind, PersistExt as _, Refusal, RefusalQuery, Subject};

use crate::args::PageArgs;
use crate::context::Context;
use crate::exit::{Code, Failure};
use crate::job;
use crate::listing::{self, Listed};
use crate::table::{self, Heading, Heading::Fixed, Heading::Text};

pub(crate) const AFTER_HELP: &str = "\
A slot never changes: whoever reports another ending of an attempt that has one is refused, and the first stands. To correct \
an ending, record the next attempt: persist record job ID STATE --attempt next

Examples:
  persist refusals                                 the last ones
  persist refusals --job 0190c2f4                  of one job and its VMs
  persist --format jsonl refusals --all            all, for a script";

#[derive(Args)]
pub(crate) struct RefusalsArgs {
    /// Only of this job and its VMs: its id, or as many of its first hex digits as make it unique
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

impl Listed for Refusal {
    const HEADINGS: &'static [Heading] = &[
        Fixed("JOB"),
        Text("VM"),
        Text("ATTEMPT"),
        Text("TRIED"),
        Text("STANDS"),
        Text("TIMES"),
        Fixed("LAST (UTC)"),
        Text("ACTOR"),
        Text("REASON"),
    ];

    fn cells(&self, colour: bool) -> Vec<Cell> {
        let subject: &Subject = self.claim.subject();
        vec![
            Cell::new(subject.request_id()),
            table::text(subject.vm_name()),
            Cell::new(self.claim.attempt()),
            table::state(self.claim.state(), colour),
            table::state(self.standing, colour),
            Cell::new(self.tries),
            table::moment(self.last_at),
            table::text(self.claim.actor()),
            table::text(self.claim.reason()),
        ]
    }
}

pub(crate) async fn run(args: RefusalsArgs, context: &mut Context) -> Result<Code, Failure> {
    let backend = context.database.for_reading().await?;
    let mut query = RefusalQuery::default().limit(args.page.limit);
    query.after = args.page.after();
    if let Some(job) = &args.job {
        query.request_id = Some(job::named(&*backend, job).await?);
    }
    if args.page.all {
        listing::all(context, backend.all_refusals(query)).await?;
    } else {
        let none = || Error::new(ErrorKind::Unsupported, "this backend keeps no refusals");
        let ledger = backend.ledger().ok_or_else(none)?;
        listing::page(context, &ledger.refusals(&query).await?)?;
    }
    backend.close().await?;
    Ok(Code::Ok)
}
