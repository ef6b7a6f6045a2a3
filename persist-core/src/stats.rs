//! How many jobs there are and were, how long they waited, and how long they ran.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use futures_util::{StreamExt as _, TryStreamExt as _};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::backend::PersistBackend;
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventQuery;
use crate::ext::PersistExt as _;
use crate::job::{Job, JobQuery};
use crate::page::{Order, TimeRange};
use crate::state::{JobState, StateTable as _};
use crate::story::Story;

/// Histories that are read at once: enough to hide a round trip, few enough to leave connections to others.
const AT_ONCE: usize = 4;
/// Groups that are kept apart; what more there are is told as one.
const MOST_GROUPS: usize = 1_000;
/// Longest time that is told apart, seconds: 400 days.
const LONGEST: u64 = 400 * 24 * 3_600;

/// Which jobs, and by what they are grouped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StatsQuery {
    /// Jobs that were created in this time; all if it is open.
    pub created: TimeRange,
    /// A group for each repository.
    pub by_repo: bool,
    /// A group for each runner label.
    pub by_runner: bool,
    /// At most this many of those jobs, the newest, and at most so many live ones; all if `None`.
    pub most: Option<u32>,
}

impl StatsQuery {
    /// Of jobs that were created in this time.
    #[must_use]
    pub fn created(mut self, created: TimeRange) -> Self {
        self.created = created;
        self
    }

    /// A group for each repository.
    #[must_use]
    pub fn by_repo(mut self, by_repo: bool) -> Self {
        self.by_repo = by_repo;
        self
    }

    /// A group for each runner label.
    #[must_use]
    pub fn by_runner(mut self, by_runner: bool) -> Self {
        self.by_runner = by_runner;
        self
    }

    /// At most this many of those jobs, the newest, and at most so many live ones: what it costs is then bounded.
    #[must_use]
    pub fn most(mut self, most: u32) -> Self {
        self.most = Some(most);
        self
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Jobs that are live now, whenever they were created, by state.
    pub live: BTreeMap<&'static str, u64>,
    /// Jobs of the query.
    pub all: Group,
    /// The same by repository, runner label or both, the largest first: the thousand that came first.
    pub groups: Vec<Group>,
    /// Jobs of any more groups.
    pub others: Group,
    /// Whether there are more jobs than the query asked for: those that are told are the newest.
    pub more: bool,
    /// Whether there are more live ones.
    pub more_live: bool,
}

/// Jobs of one group.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Group {
    /// The repository; `None` where it is unknown, or where the group is not of one.
    pub repo_url: Option<String>,
    /// The runner label; `None` where it is unknown, or where the group is not of one.
    pub runs_on: Option<String>,
    /// How many jobs.
    pub jobs: u64,
    /// Those by their current state.
    pub states: BTreeMap<&'static str, u64>,
    /// How long attempts were queued before they ran.
    pub waited: Times,
    /// How long attempts ran.
    pub ran: Times,
}

/// Percentiles of a time, true to three digits, milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Times {
    /// How many were measured: attempts of which both ends were reported.
    pub count: u64,
    /// Half took no longer.
    pub p50_ms: u64,
    /// Nine in ten took no longer.
    pub p90_ms: u64,
    /// 99 in a hundred took no longer.
    pub p99_ms: u64,
    /// None took longer.
    pub max_ms: u64,
}

impl Times {
    fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        Self {
            count: histogram.len(),
            p50_ms: histogram.value_at_quantile(0.5),
            p90_ms: histogram.value_at_quantile(0.9),
            p99_ms: histogram.value_at_quantile(0.99),
            max_ms: histogram.max(),
        }
    }
}

/// A group while its jobs come.
struct Counting {
    jobs: u64,
    states: BTreeMap<&'static str, u64>,
    waited: Histogram<u64>,
    ran: Histogram<u64>,
}

impl Counting {
    fn new() -> Result<Self> {
        let histogram = || {
            // Small: it grows with what it holds, and most groups hold little.
            let made = Histogram::new_with_bounds(1, 2, 3);
            made.map_err(|error| Error::new(ErrorKind::Internal, "no histogram").caused_by(error))
        };
        let (mut waited, mut ran) = (histogram()?, histogram()?);
        waited.auto(true);
        ran.auto(true);
        Ok(Self {
            jobs: 0,
            states: BTreeMap::new(),
            waited,
            ran,
        })
    }

    fn add(&mut self, job: &Job, story: Option<&Story>) {
        self.jobs += 1;
        *self.states.entry(job.state.name()).or_default() += 1;
        for run in story.into_iter().flat_map(|story| &story.attempts) {
            record(&mut self.waited, run.waited);
            record(&mut self.ran, run.ran);
        }
    }

    fn group(self, repo_url: Option<String>, runs_on: Option<String>) -> Group {
        Group {
            repo_url,
            runs_on,
            jobs: self.jobs,
            states: self.states,
            waited: Times::of(&self.waited),
            ran: Times::of(&self.ran),
        }
    }
}

fn record(histogram: &mut Histogram<u64>, span: Option<TimeDelta>) {
    if let Some(span) = span.and_then(|span| span.to_std().ok()) {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        // It resizes, and of what is clamped nothing is out of its range.
        let _ = histogram.record(millis.min(LONGEST * 1_000));
    }
}

/// Reads the live jobs, the jobs of the query by the index of their creation, and the history of each of those by its key.
pub(crate) async fn stats<B: PersistBackend + ?Sized>(backend: &B, query: &StatsQuery) -> Result<Stats> {
    let live = JobState::TABLE
        .iter()
        .filter(|spec| !spec.ended)
        .map(|spec| spec.state);
    let most = query.most.map_or(u64::MAX, u64::from);
    let mut live_jobs = std::pin::pin!(backend.all_jobs(JobQuery::default().states(live)));
    let mut live: BTreeMap<_, u64> = BTreeMap::new();
    let (mut counted, mut more_live) = (0, false);
    while let Some(job) = live_jobs.try_next().await? {
        if counted == most {
            more_live = true;
            break;
        }
        counted += 1;
        *live.entry(job.state.name()).or_default() += 1;
    }

    let (mut all, mut others) = (Counting::new()?, Counting::new()?);
    let mut groups: BTreeMap<(Option<String>, Option<String>), Counting> = BTreeMap::new();
    let jobs = JobQuery::default()
        .created(query.created)
        .order(if query.most.is_some() {
            Order::NewestFirst
        } else {
            Order::OldestFirst
        });
    // One more than are wanted, to know of it.
    let jobs = backend
        .all_jobs(jobs)
        .take(query.most.map_or(usize::MAX, |most| most as usize + 1));
    let stories = jobs.map(|job| async move {
        let job = job?;
        let events = backend.all_events(EventQuery::default().request_id(job.request_id));
        let events = events.try_collect::<Vec<_>>().await?;
        let story = Story::of(job.request_id, events, None);
        Ok::<_, Error>((job, story))
    });
    let mut stories = std::pin::pin!(stories.buffered(AT_ONCE));
    let mut more = false;
    while let Some((job, story)) = stories.try_next().await? {
        if all.jobs == most {
            more = true;
            break;
        }
        all.add(&job, story.as_ref());
        if !(query.by_repo || query.by_runner) {
            continue;
        }
        let key = (
            job.repo_url.clone().filter(|_| query.by_repo),
            job.runs_on.clone().filter(|_| query.by_runner),
        );
        if groups.len() >= MOST_GROUPS && !groups.contains_key(&key) {
            others.add(&job, story.as_ref());
            continue;
        }
        let group = match groups.entry(key) {
            std::collections::btree_map::Entry::Occupied(held) => held.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => free.insert(Counting::new()?),
        };
        group.add(&job, story.as_ref());
    }
    let groups = groups.into_iter();
    let mut groups: Vec<_> = groups
        .map(|((repo_url, runs_on), counting)| counting.group(repo_url, runs_on))
        .collect();
    // Stable: those of one size stay by name.
    groups.sort_by_key(|group| std::cmp::Reverse(group.jobs));
    Ok(Stats {
        live,
        all: all.group(None, None),
        groups,
        others: others.group(None, None),
        more,
        more_live,
    })
}
