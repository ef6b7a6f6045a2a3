//! `persist jobs`: which jobs there are.

use clap::Args;
use persist::{JobQuery, JobState, PersistExt as _, StateTable};

use crate::args::{ListArgs, parse_filter, state_words};
use crate::context::Context;
use crate::exit::{Code, Failure};
use crate::listing;

pub(crate) const AFTER_HELP: &str = "Examples:
  persist jobs --state queued,running
  persist jobs --repo-url https://example.org/acme/app.git --since 7d
  persist --format jsonl jobs --all | jq -r .request_id";

#[derive(Args)]
pub(crate) struct JobsArgs {
    #[arg(long, value_delimiter = ',', value_parser = JobState::parse, help = state_words::<JobState>("Any of these, repeated or with commas"))]
    state: Vec<JobState>,
    /// This repository; credentials in it are ignored
    #[arg(long, value_name = "URL", value_parser = parse_filter)]
    repo_url: Option<String>,
    /// Commits that begin so
    #[arg(long, value_name = "HEX", value_parser = parse_filter)]
    commit_sha: Option<String>,
    /// This runner label
    #[arg(long, value_name = "LABEL", value_parser = parse_filter)]
    runs_on: Option<String>,
    #[command(flatten)]
    list: ListArgs,
}

pub(crate) async fn run(args: JobsArgs, context: &mut Context) -> Result<Code, Failure> {
    let mut query = JobQuery::default()
        .states(args.state)
        .created(args.list.created());
    query = query.order(args.list.order()).limit(args.list.page.limit);
    query = query.after(args.list.page.after());
    query.repo_url = args.repo_url;
    query.commit_sha = args.commit_sha;
    query.runs_on = args.runs_on;
    let backend = context.database.for_reading().await?;
    if args.list.page.all {
        listing::all(context, backend.all_jobs(query)).await?;
    } else {
        listing::page(context, &backend.jobs(&query).await?)?;
    }
    backend.close().await?;
    Ok(Code::Ok)
}
