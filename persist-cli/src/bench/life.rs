//! What callers report.

use std::sync::atomic::{AtomicU64, Ordering};

use persist::{Clock as _, JobState, JobUpdate, SystemClock, Update, VmState, VmUpdate};
use uuid::Uuid;

use super::Mix;
use super::range::Range;

/// A hot job that has so many gives its place to the next one. A job is removed as a whole, in one transaction: with
/// all the slots of an hour it would not fit into a deadline.
const MOST_ATTEMPTS: u64 = 100_000;

/// The jobs of a run.
#[derive(Debug)]
pub(crate) struct Jobs {
    range: Range,
    mix: Mix,
    next: AtomicU64,
    /// Attempts so far in the place of each hot job.
    hot: Vec<AtomicU64>,
}

impl Jobs {
    /// With so many hot jobs, or none.
    pub(crate) fn new(range: Range, mix: Mix, hot: u32) -> Self {
        Self {
            range,
            mix,
            next: AtomicU64::new(0),
            hot: (0..hot).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// A new attempt of that job among the hot ones, which all callers report, which chance picks.
    fn hot(&self, chance: u64) -> Update {
        let place = self.place(chance);
        let nth = self.hot[place].fetch_add(1, Ordering::Relaxed);
        let attempt = nth % MOST_ATTEMPTS + 1;
        JobUpdate::new(self.range.id(self.in_place(place, nth)), JobState::Queued)
            .attempt(attempt as u32)
            .at(SystemClock.now())
            .actor("bench")
            .into()
    }

    fn place(&self, chance: u64) -> usize {
        (chance % self.hot.len() as u64) as usize
    }

    /// The job that has the place when so many attempts were made there.
    fn in_place(&self, place: usize, attempts: u64) -> u64 {
        attempts / MOST_ATTEMPTS * self.hot.len() as u64 + place as u64
    }
}

/// Where a caller is in the life of its job.
#[derive(Debug, Default)]
pub(crate) struct Life {
    /// Its last job, also when that has ended.
    job: Option<u64>,
    step: usize,
}

impl Life {
    /// The job that the caller reads next: its own, or a hot one; the first job as long as it has none.
    pub(crate) fn job(&self, jobs: &Jobs, chance: u64) -> Uuid {
        if jobs.hot.is_empty() {
            return jobs.range.id(self.job.unwrap_or_default());
        }
        let place = jobs.place(chance);
        let attempts = jobs.hot[place].load(Ordering::Relaxed);
        jobs.range.id(jobs.in_place(place, attempts.saturating_sub(1)))
    }

    /// What the caller reports next, with its time; where jobs are hot, of that which chance picks.
    pub(crate) fn next(&mut self, jobs: &Jobs, chance: u64) -> Update {
        if !jobs.hot.is_empty() {
            return jobs.hot(chance);
        }
        let job = match self.job {
            Some(job) if self.step > 0 => job,
            _ => jobs.next.fetch_add(1, Ordering::Relaxed),
        };
        self.job = Some(job);
        let (id, now) = (jobs.range.id(job), SystemClock.now());
        let of_job = |state| JobUpdate::new(id, state).at(now).actor("bench");
        let of_vm = |state| {
            VmUpdate::new(id, format!("vm-{job}"), state)
                .at(now)
                .actor("bench")
        };
        let queued = || {
            of_job(JobState::Queued)
                .repo_url("https://example.org/acme/app.git")
                .commit_sha("3f2a9c0d3f2a9c0d3f2a9c0d3f2a9c0d3f2a9c0d")
                .runs_on("ubuntu-24.04")
        };
        let (update, last) = match (jobs.mix, self.step) {
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
        update
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn reads_are_of_the_caller_s_own_job_or_of_all_hot_ones() {
        let jobs = Jobs::new(Range::new(0), Mix::Jobs, 0);
        let (mut other, mut life) = (Life::default(), Life::default());
        let _ = other.next(&jobs, 0);
        for nth in 0..9 {
            let claim = life.next(&jobs, nth).check(&SystemClock).unwrap();
            assert_eq!(life.job(&jobs, nth), claim.subject().request_id(), "{nth}");
        }
        let hot = Jobs::new(Range::new(0), Mix::Jobs, 4);
        let read: HashSet<_> = (0..40).map(|chance| life.job(&hot, chance)).collect();
        assert_eq!(read.len(), 4);
    }

    #[test]
    fn no_hot_job_has_more_attempts_than_a_clean_up_can_remove_at_once() {
        let jobs = Jobs::new(Range::new(0), Mix::Jobs, 2);
        let mut life = Life::default();
        let mut attempts = HashMap::<_, Vec<u32>>::new();
        for nth in 0..5 * MOST_ATTEMPTS {
            let claim = life.next(&jobs, nth).check(&SystemClock).unwrap();
            let of_job = attempts.entry(claim.subject().request_id()).or_default();
            of_job.push(claim.attempt().get());
        }
        let mut numbers: Vec<_> = attempts.values().map(Vec::len).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [50_000, 50_000, 100_000, 100_000, 100_000, 100_000]);
        for of_job in attempts.values() {
            assert!(
                of_job.iter().copied().eq(1..=of_job.len() as u32),
                "each slot once"
            );
        }
    }
}
