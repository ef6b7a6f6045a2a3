//! How many jobs, how long they wait and run.

use askama::Template;
use axum::extract::{RawQuery, State};
use chrono::TimeDelta;
use persist::{Group, JobState, PersistExt as _, StateTable, Stats, StatsQuery, TimeRange, time};

use super::{Shell, page};
use crate::app::App;
use crate::chart::{Measured, TimesChart};
use crate::failure::Answer;
use crate::filter;
use crate::params::{Params, address};
use crate::shown::{Badge, Repository};

/// What is looked at where nothing else is asked for.
const WINDOW: TimeDelta = TimeDelta::hours(24);
/// Groups that are told, the largest first.
const GROUPS: u32 = 20;
/// Most that an address may ask for.
const MOST_GROUPS: u32 = 1_000;

/// What an address asks for, with how many groups.
pub(crate) fn asked(app: &App, params: &Params) -> Answer<(StatsQuery, usize)> {
    let mut created = filter::range(params, &*app.options.clock)?;
    if created.from.is_none() {
        created = TimeRange::new(
            created
                .until
                .unwrap_or_else(|| app.now())
                .checked_sub_signed(WINDOW),
            created.until,
        );
    }
    let mut query = StatsQuery::default()
        .created(created)
        .most(app.options.stats_jobs);
    for word in params.words("by") {
        match word {
            "repo" => query.by_repo = true,
            "runner" => query.by_runner = true,
            _ => return Err(persist::Error::invalid("by", "known are repo, runner").into()),
        }
    }
    Ok((query, params.limit(GROUPS, MOST_GROUPS)? as usize))
}

pub(crate) const PARAMETERS: [&str; 4] = ["since", "until", "by", "limit"];

/// A group with its name, and its times on the axes of all.
struct Line {
    name: String,
    jobs_of: Option<String>,
    jobs: u64,
    waited: Option<Measured>,
    ran: Option<Measured>,
}

/// A state of the window, as a bar.
struct Bar {
    state: Badge,
    count: u64,
    width: f64,
    y: usize,
}

#[derive(Template)]
#[template(path = "stats.html")]
struct StatsPage {
    shell: Shell,
    since: String,
    until: String,
    by_repo: bool,
    by_runner: bool,
    live: Vec<(Badge, u64)>,
    more_live: bool,
    jobs: u64,
    more: bool,
    bars: Vec<Bar>,
    bars_height: usize,
    waits: TimesChart,
    runs: TimesChart,
    lines: Vec<Line>,
    left_out: usize,
}

const BAR: usize = 26;

pub(crate) async fn stats(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let params = Params::parse(query.as_deref(), &PARAMETERS)?;
    let (query, groups) = asked(&app, &params)?;
    let stats = app.backend.stats(&query).await?;
    let since = params.text("since")?.unwrap_or_default();
    let until = params.text("until")?.unwrap_or_default();
    // A link of a group leads to what was counted, though nothing was said of the beginning.
    let from = match query.created.from {
        Some(_) if since.is_empty() && until.is_empty() => "24h".to_owned(),
        Some(from) if since.is_empty() => time::format(from),
        _ => since.clone(),
    };
    let told = || std::iter::once(&stats.all).chain(stats.groups.iter().take(groups));
    let (waits, waited) = TimesChart::of(told().map(|group| &group.waited));
    let (runs, ran) = TimesChart::of(told().map(|group| &group.ran));
    let times = waited.into_iter().zip(ran);
    let lines = told().zip(times).enumerate();
    let lines =
        lines.map(|(n, (group, (waited, ran)))| line(group, n == 0, &query, (&from, &until), waited, ran));
    let bars = bars(&stats);
    page(&StatsPage {
        shell: Shell::new(&app, "Stats", "stats"),
        since,
        until: until.clone(),
        by_repo: query.by_repo,
        by_runner: query.by_runner,
        live: states(|word| stats.live.get(word).copied()),
        more_live: stats.more_live,
        jobs: stats.all.jobs,
        more: stats.more,
        bars_height: bars.len() * BAR,
        bars,
        waits,
        runs,
        lines: lines.collect(),
        left_out: stats.groups.len().saturating_sub(groups),
    })
}

fn line(
    group: &Group,
    is_all: bool,
    query: &StatsQuery,
    within: (&str, &str),
    waited: Option<Measured>,
    ran: Option<Measured>,
) -> Line {
    let repo = group.repo_url.as_deref();
    let runner = group.runs_on.as_deref();
    let mut names = Vec::new();
    if query.by_repo {
        names.push(repo.map_or_else(
            || "unknown repository".to_owned(),
            |url| Repository::new(url).short,
        ));
    }
    if query.by_runner {
        names.push(runner.unwrap_or("unknown runner").to_owned());
    }
    let (since, until) = within;
    let of = [
        ("repo_url", repo.unwrap_or_default()),
        ("runs_on", runner.unwrap_or_default()),
        ("since", since),
        ("until", until),
    ];
    Line {
        name: if is_all {
            "all jobs".to_owned()
        } else {
            names.join(" · ")
        },
        jobs_of: (!is_all && (repo.is_some() || runner.is_some())).then(|| address("/", of)),
        jobs: group.jobs,
        waited,
        ran,
    }
}

/// In the order of the table, those that there are.
fn states(count: impl Fn(&str) -> Option<u64>) -> Vec<(Badge, u64)> {
    let table = JobState::TABLE.iter();
    table
        .filter_map(|line| count(line.name).map(|count| (Badge::new(line.state), count)))
        .collect()
}

fn bars(stats: &Stats) -> Vec<Bar> {
    let counted = states(|word| stats.all.states.get(word).copied());
    let most = counted.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
    let share = |count: u64| {
        // A bar shows three digits of it, and leaves room for its number.
        let thousandths = count.saturating_mul(500) / most;
        f64::from(u32::try_from(thousandths).unwrap_or(500)) / 10.0
    };
    let counted = counted.into_iter().enumerate();
    counted
        .map(|(n, (state, count))| Bar {
            state,
            count,
            width: share(count).max(0.5),
            y: n * BAR,
        })
        .collect()
}
