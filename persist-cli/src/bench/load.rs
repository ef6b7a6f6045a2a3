//! The callers of a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use persist::{Error, JobState, JobUpdate, Persist, Update, VmState, VmUpdate};
use tokio::task::JoinSet;

use super::Mix;
use super::latencies::Latencies;
use super::range::Range;
use crate::signals::Stop;
use crate::talk;

/// A caller whose calls fail one after the other gives up.
const MOST_FAILURES: u32 = 10;

pub(crate) struct Load {
    pub(crate) callers: u32,
    pub(crate) length: Duration,
    pub(crate) hot: Option<u32>,
    pub(crate) mix: Mix,
    pub(crate) read_share: f64,
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Latencies of updates, and of reads, after the warm-up: µs.
    pub(crate) updates: Histogram<u64>,
    pub(crate) reads: Histogram<u64>,
    /// From the end of the warm-up to the last answer.
    pub(crate) took: Duration,
    /// Of the whole run.
    pub(crate) tally: Tally,
}

/// What calls came to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Updates that are stored.
    pub(crate) acknowledged: u64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<Error>,
}

/// What all callers of a run share.
struct Shared {
    persist: Persist,
    range: Range,
    next_job: AtomicU64,
    /// The next attempt of each hot job.
    hot: Vec<AtomicU32>,
    is_over: AtomicBool,
    measures_from: Instant,
    updates: Latencies,
    reads: Latencies,
    mix: Mix,
    read_share: f64,
}

impl Load {
    pub(crate) async fn run(&self, persist: &Persist, range: Range, mut stop: Stop) -> Measured {
        let warm_up = (self.length / 5).min(Duration::from_secs(1));
        let hot = (0..self.hot.unwrap_or(0)).map(|_| AtomicU32::new(1));
        let shared = Arc::new(Shared {
            persist: persist.clone(),
            range,
            next_job: AtomicU64::new(0),
            hot: hot.collect(),
            is_over: AtomicBool::new(false),
            measures_from: Instant::now() + warm_up,
            updates: Latencies::new(),
            reads: Latencies::new(),
            mix: self.mix,
            read_share: self.read_share,
        });
        let mut callers = JoinSet::new();
        for number in 0..self.callers {
            callers.spawn(caller(Arc::clone(&shared), u64::from(number)));
        }
        let bar = talk::progress(None);
        tokio::select! {
            () = tokio::time::sleep(warm_up + self.length) => {}
            _ = stop.wait_for(Option::is_some) => {}
        }
        shared.is_over.store(true, Ordering::Relaxed);
        let mut tally = Tally::default();
        while let Some(joined) = callers.join_next().await {
            match joined {
                Ok(one) => tally.add(one),
                Err(_) => tally.errors += 1,
            }
        }
        bar.finish_and_clear();
        Measured {
            updates: shared.updates.of_all(),
            reads: shared.reads.of_all(),
            took: shared.measures_from.elapsed(),
            tally,
        }
    }
}

impl Tally {
    fn add(&mut self, one: Self) {
        self.acknowledged += one.acknowledged;
        self.errors += one.errors;
        self.first_error = self.first_error.take().or(one.first_error);
    }
}

async fn caller(shared: Arc<Shared>, number: u64) -> Tally {
    let mut mine = Tally::default();
    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut life = Life::default();
    let mut failures = 0;
    while !shared.is_over.load(Ordering::Relaxed) && failures < MOST_FAILURES {
        random = xorshift(random);
        let is_read = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let is_read = is_read < shared.read_share;
        let begun = Instant::now();
        let result = if is_read {
            let job = life.job.unwrap_or_default();
            shared.persist.job(shared.range.id(job)).await.map(|_| ())
        } else {
            let update = match shared.hot.len() as u64 {
                0 => life.next(&shared),
                jobs => hot(&shared, xorshift(random) % jobs),
            };
            shared.persist.record(vec![update]).await.map(|_| ())
        };
        match result {
            Ok(()) => failures = 0,
            Err(error) => {
                failures += 1;
                mine.errors += 1;
                mine.first_error.get_or_insert(error);
                continue;
            }
        }
        mine.acknowledged += u64::from(!is_read);
        if begun >= shared.measures_from {
            let latencies = if is_read { &shared.reads } else { &shared.updates };
            latencies.record(number, begun.elapsed());
        }
    }
    mine
}

/// A new attempt of a job that all callers report.
fn hot(shared: &Shared, job: u64) -> Update {
    let attempt = shared.hot[job as usize].fetch_add(1, Ordering::Relaxed);
    JobUpdate::new(shared.range.id(job), JobState::Queued)
        .attempt(attempt)
        .actor("bench")
        .into()
}

/// Where a caller is in the life of its job.
#[derive(Default)]
struct Life {
    job: Option<u64>,
    step: usize,
}

impl Life {
    fn next(&mut self, shared: &Shared) -> Update {
        let job = *self
            .job
            .get_or_insert_with(|| shared.next_job.fetch_add(1, Ordering::Relaxed));
        let id = shared.range.id(job);
        let of_job = |state| JobUpdate::new(id, state).actor("bench");
        let of_vm = |state| VmUpdate::new(id, format!("vm-{job}"), state).actor("bench");
        let queued = || {
            of_job(JobState::Queued)
                .repo_url("https://example.org/acme/app.git")
                .commit_sha("3f2a9c0d3f2a9c0d3f2a9c0d3f2a9c0d3f2a9c0d")
                .runs_on("ubuntu-24.04")
        };
        let (update, last) = match (shared.mix, self.step) {
            (_, 0) => (queued().into(), false),
            (Mix::Jobs, 1) => (of_job(JobState::Running).into(), false),
            (Mix::Jobs, _) => (of_job(JobState::Succeeded).into(), true),
            (Mix::Vms, 1) => (of_vm(VmState::Prepared).backend("libvirt").into(), false),
            (Mix::Vms, 2) => (of_vm(VmState::Running).into(), false),
            (Mix::Vms, 3) => (of_job(JobState::Running).into(), false),
            (Mix::Vms, 4) => (of_job(JobState::Succeeded).into(), false),
            (Mix::Vms, _) => (of_vm(VmState::Destroyed).into(), true),
        };
        self.step = if last { 0 } else { self.step + 1 };
        if last {
            self.job = None;
        }
        update
    }
}

fn xorshift(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ (state << 17)
}
