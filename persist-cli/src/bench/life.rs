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

    /// A new attempt of the job in this place, which all callers report.
    fn hot(&self, place: usize) -> Update {
        let nth = self.hot[place].fetch_add(1, Ordering::Relaxed);
        let job = nth / MOST_ATTEMPTS * self.hot.len() as u64 + place as u64;
        let attempt = nth % MOST_ATTEMPTS + 1;
        JobUpdate::new(self.range.id(job), JobState::Queued)
            .attempt(attempt as u32)
            .at(SystemClock.now())
            .actor("bench")
            .into()
    }
}

/// Where a caller is in the life of its job.
#[derive(Debug, Default)]
pub(crate) struct Life {
    job: Option<u64>,
    step: usize,
}

impl Life {
    /// The job that the caller is at.
    pub(crate) fn job(&self, jobs: &Jobs) -> Uuid {
        jobs.range.id(self.job.unwrap_or_default())
    }

    /// What the caller reports next, with its time; where jobs are hot, of that which chance picks.
    pub(crate) fn next(&mut self, jobs: &Jobs, chance: u64) -> Update {
        if !jobs.hot.is_empty() {
            return jobs.hot((chance % jobs.hot.len() as u64) as usize);
        }
        let job = *self
            .job
            .get_or_insert_with(|| jobs.next.fetch_add(1, Ordering::Relaxed));
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
        if last {
            self.job = None;
        }
        update
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

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
