//! `persist stats`: how many jobs there are, how long they wait and run.

use chrono::TimeDelta;
use clap::{Args, ValueEnum};
use comfy_table::Cell;
use persist::{
    Clock as _, Group, PersistExt as _, Stats, StatsQuery, SystemClock, TimeRange, Times, Timestamp,
};

use serde::Serialize;

use crate::args::Format;
use crate::context::Context;
use crate::exit::{Code, Failure};
use crate::span::{human, parse_moment};
use crate::table::{self, Heading::Text};
use crate::talk;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  persist stats                     the last day
  persist stats --since 7d --by repo
  persist stats --since 2026-11-01T00:00:00Z --until 2026-11-08T00:00:00Z --by runner --format json

Waiting and running are of attempts whose both ends were reported. Percentiles are true to three digits.";

/// What is looked at where nothing else is asked for.
const WINDOW: TimeDelta = TimeDelta::hours(24);

#[derive(Args)]
pub(crate) struct StatsArgs {
    /// Jobs created at or after this: RFC 3339, or an age such as 30m, 2h, 7d; 24h unless set
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    since: Option<Timestamp>,
    /// Jobs created before this
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    until: Option<Timestamp>,
    /// A group for each of these, repeated or with commas
    #[arg(long, value_enum, value_delimiter = ',')]
    by: Vec<By>,
    /// Most groups that are told, the largest first
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Repo,
    Runner,
}

pub(crate) async fn run(args: StatsArgs, context: &mut Context) -> Result<Code, Failure> {
    let since = args.since.or_else(|| {
        // A window that ends is asked for as it is.
        let now = args.until.unwrap_or_else(|| SystemClock.now());
        now.checked_sub_signed(WINDOW)
    });
    let query = StatsQuery::default()
        .created(TimeRange::new(since, args.until))
        .by_repo(args.by.contains(&By::Repo))
        .by_runner(args.by.contains(&By::Runner));
    let backend = context.database.for_reading().await?;
    let bar = talk::spinner("counting");
    let stats = backend.stats(&query).await;
    bar.finish_and_clear();
    let mut stats = stats?;
    backend.close().await?;
    let left_out = stats.groups.len().saturating_sub(args.limit as usize);
    stats.groups.truncate(args.limit as usize);
    match context.format {
        Format::Table => print(context, &stats, &query)?,
        Format::Json => context.out.json(&stats)?,
        Format::Jsonl => {
            let all = std::iter::once(("all", &stats.all));
            let others = Some(("others", &stats.others)).filter(|(_, others)| others.jobs > 0);
            for (group, counts) in all
                .chain(stats.groups.iter().map(|one| ("one", one)))
                .chain(others)
            {
                context.out.json(&Line { group, counts })?;
            }
        }
    }
    context.out.flush()?;
    if left_out > 0 {
        talk::say(&format!(
            "{left_out} smaller groups are not shown; --limit shows more"
        ));
    }
    Ok(Code::Ok)
}

/// A line of `jsonl`: what it counts is not told by its columns, as a group may lack repository and runner.
#[derive(Serialize)]
struct Line<'g> {
    /// `all`, `one` of the groups, or the `others` that are not told one by one.
    group: &'static str,
    #[serde(flatten)]
    counts: &'g Group,
}

fn print(context: &mut Context, stats: &Stats, query: &StatsQuery) -> Result<(), Failure> {
    let words = |counts: &std::collections::BTreeMap<&'static str, u64>| {
        let words: Vec<_> = counts
            .iter()
            .map(|(state, count)| format!("{count} {state}"))
            .collect();
        if words.is_empty() {
            "none".to_owned()
        } else {
            words.join(", ")
        }
    };
    context.out.line(&format!("live now: {}", words(&stats.live)))?;
    let all = &stats.all;
    context.out.line(&format!(
        "created in that time: {} jobs: {}",
        all.jobs,
        words(&all.states)
    ))?;
    context.out.line("")?;
    let mut rows = table::table(&[
        Text("JOBS"),
        Text("WAITED p50"),
        Text("p90"),
        Text("p99"),
        Text("RAN p50"),
        Text("p90"),
        Text("p99"),
        Text("REPOSITORY"),
        Text("RUNS ON"),
    ]);
    for group in std::iter::once(all).chain(&stats.groups) {
        rows.add_row(cells(group, std::ptr::eq(group, all), query));
    }
    if stats.others.jobs > 0 {
        let mut cells = cells(&stats.others, true, query);
        cells.truncate(7);
        cells.push(Cell::new("of further groups"));
        rows.add_row(cells);
    }
    table::print(context, rows)
}

fn cells(group: &Group, is_all: bool, query: &StatsQuery) -> Vec<Cell> {
    let times = |times: &Times| {
        [times.p50_ms, times.p90_ms, times.p99_ms].map(|millis| {
            let span = i64::try_from(millis).map_or(TimeDelta::MAX, TimeDelta::milliseconds);
            Cell::new(if times.count == 0 {
                "–".to_owned()
            } else {
                human(span)
            })
        })
    };
    let name = |by: bool, name: Option<&str>| match (is_all || !by, name) {
        (true, _) => Cell::new("all"),
        (false, name) => table::text(name),
    };
    let mut cells = vec![Cell::new(group.jobs)];
    cells.extend(times(&group.waited));
    cells.extend(times(&group.ran));
    cells.push(name(query.by_repo, group.repo_url.as_deref()));
    cells.push(name(query.by_runner, group.runs_on.as_deref()));
    cells
}
