//! `persist vms`: which VMs there are.

use clap::Args;
use persist::{IdRange, PersistExt as _, StateTable, VmQuery, VmState};

use crate::args::{ListArgs, parse_filter, state_words};
use crate::context::Context;
use crate::exit::{Code, Failure};
use crate::listing;

pub(crate) const AFTER_HELP: &str = "Examples:
  persist vms --state prepared,running
  persist vms --job 0190c2f4-0000-7000-8000-000000000001";

#[derive(Args)]
pub(crate) struct VmsArgs {
    /// VMs of jobs whose id is or begins with this
    #[arg(long, value_name = "ID", value_parser = IdRange::of_prefix)]
    job: Option<IdRange>,
    /// VMs of this name
    #[arg(long, value_parser = parse_filter)]
    name: Option<String>,
    #[arg(long, value_delimiter = ',', value_parser = VmState::parse, help = state_words::<VmState>("Any of these, repeated or with commas"))]
    state: Vec<VmState>,
    /// This hypervisor back end, such as libvirt
    #[arg(long, value_parser = parse_filter)]
    backend: Option<String>,
    #[command(flatten)]
    list: ListArgs,
}

pub(crate) async fn run(args: VmsArgs, context: &mut Context) -> Result<Code, Failure> {
    let mut query = VmQuery::default().states(args.state).created(args.list.created());
    query = query.order(args.list.order()).limit(args.list.page.limit);
    query = query.after(args.list.page.after());
    match args.job {
        Some(IdRange { from, to, .. }) if from == to => query.request_id = from,
        ids => query.ids = ids.unwrap_or_default(),
    }
    query.domain_name = args.name;
    query.backend = args.backend;
    let backend = context.database.for_reading().await?;
    if args.list.page.all {
        listing::all(context, backend.all_vms(query)).await?;
    } else {
        listing::page(context, &backend.vms(&query).await?)?;
    }
    backend.close().await?;
    Ok(Code::Ok)
}
