//! Makes `examples/ci-day.jsonl`: a day of CI that never was, the same at every run.
//!
//! ```text
//! cargo run --example make_ci_day > examples/ci-day.jsonl
//! ```
//!
//! Five hundred jobs arrive as people work, wait for a place on four hosts, and run in a VM each. One host loses
//! power in the afternoon, newer pushes cancel older jobs, some jobs run again. Lines stand in the order in which
//! they would reach an orchestrator: now and then late, twice, or against another ending that stands already.

use std::error::Error;

use persist::{
    Event, JobState, JobUpdate, Seq, Slot, SystemClock, Timestamp, Update, VmState, VmUpdate, jsonl, time,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use uuid::Uuid;

const JOBS: u64 = 500;
/// 2026-11-02T00:00:00Z, a Monday, in seconds since 1970.
const MIDNIGHT: i64 = 1_793_577_600;
const HOSTS: [&str; 4] = ["hv-1", "hv-2", "hv-3", "hv-4"];
const VMS_OF_A_HOST: usize = 3;
/// When hv-3 loses power, and when it is back: 14:07 and 15:30.
const OUTAGE: (i64, i64) = (50_820, 55_800);
/// A job that takes longer is ended: an hour.
const LIMIT: i64 = 3_600;
const REPOSITORIES: [(&str, &str, i64); 6] = [
    // Where from, on what, and how many seconds it usually takes.
    ("https://git.example.org/acme/web.git", "debian-13", 240),
    ("https://git.example.org/acme/api.git", "debian-13", 420),
    ("https://git.example.org/acme/firmware.git", "ubuntu-24.04", 1_500),
    ("https://git.example.org/lab/solver.git", "ubuntu-24.04", 900),
    ("git@git.example.org:acme/infra.git", "debian-13", 150),
    ("https://git.example.org/acme/docs.git", "alpine-3.22", 60),
];

/// A place for one VM on a host.
struct Place {
    host: &'static str,
    free_at: i64,
}

/// Updates with the second at which they reach the orchestrator.
struct Day {
    random: StdRng,
    places: Vec<Place>,
    updates: Vec<(i64, Update)>,
}

/// What is known of a job from its request.
#[derive(Clone, Copy)]
struct Job {
    id: Uuid,
    kind: usize,
    sha: u128,
}

/// How a run in a VM ended.
enum Ending {
    Reported(JobState),
    HostLost,
}

fn main() -> Result<(), Box<dyn Error>> {
    let places = HOSTS
        .iter()
        .flat_map(|host| std::iter::repeat_n(host, VMS_OF_A_HOST));
    let mut day = Day {
        random: StdRng::seed_from_u64(20_261_102),
        places: places.map(|host| Place { host, free_at: 0 }).collect(),
        updates: Vec::new(),
    };
    let mut arrivals: Vec<i64> = (0..JOBS).map(|_| day.arrival()).collect();
    arrivals.sort_unstable();
    for arrived in arrivals {
        day.job(arrived)?;
    }
    // Stable, so that what comes in one second stays in the order in which it was said.
    day.updates.sort_by_key(|(reached, _)| *reached);
    for (_, update) in day.updates {
        let claim = update.check(&SystemClock)?;
        let slot = Slot::claimed_by(&claim);
        println!(
            "{}",
            jsonl::line(&Event::new(
                Seq::new(0),
                claim.at(),
                claim.subject().clone(),
                slot
            ))
        );
    }
    Ok(())
}

fn at(second: i64) -> Timestamp {
    time::from_micros((MIDNIGHT + second) * 1_000_000).expect("a second of this century")
}

impl Day {
    /// People push from eight to seven, most of all before lunch and in the afternoon; nightly jobs at two.
    fn arrival(&mut self) -> i64 {
        let (middle, spread) = *[
            (7_200, 600),
            (38_000, 7_000),
            (38_000, 7_000),
            (54_000, 9_000),
            (54_000, 9_000),
        ]
        .choose(&mut self.random)
        .expect("not empty");
        let sum: i64 = (0..4).map(|_| self.random.random_range(-spread..=spread)).sum();
        (middle + sum / 2).clamp(0, 80_000)
    }

    /// Says something now, or some seconds after it happened.
    fn say(&mut self, happened: i64, delay: i64, update: impl Into<Update>) {
        self.updates.push((happened + delay, update.into()));
    }

    fn job(&mut self, arrived: i64) -> Result<(), Box<dyn Error>> {
        let mut bytes = [0; 10];
        self.random.fill_bytes(&mut bytes);
        let millis = u64::try_from((MIDNIGHT + arrived) * 1_000)?;
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid();
        let kind = *[0, 0, 0, 1, 1, 2, 3, 4, 5]
            .choose(&mut self.random)
            .expect("not empty");
        let job = Job {
            id,
            kind,
            sha: self.random.random(),
        };
        let queued = queued(job, arrived, 1).actor("webhook").reason("push");
        self.say(arrived, 0, queued.clone());
        if self.random.random_bool(0.02) {
            // The forge did not hear our answer and calls again.
            self.say(arrived, 10, queued);
        }
        if self.random.random_bool(0.06) {
            let at_second = arrived + self.random.random_range(1..20);
            let cancelled = JobUpdate::new(id, JobState::Cancelled)
                .at(at(at_second))
                .actor("webhook");
            self.say(at_second, 0, cancelled.reason("superseded by a newer push"));
            return Ok(());
        }
        let mut from = arrived;
        for attempt in 1..=3 {
            if attempt > 1 {
                self.say(from, 0, queued_again(job, from, attempt));
            }
            let (ended, ending) = self.run(job, from, attempt);
            match ending {
                Ending::HostLost => from = ended + 45,
                Ending::Reported(JobState::Failed) if self.random.random_bool(0.25) => {
                    from = ended + self.random.random_range(60..900);
                }
                Ending::Reported(_) => break,
            }
        }
        Ok(())
    }

    /// One attempt in the VM that is free first.
    fn run(&mut self, job: Job, from: i64, attempt: u32) -> (i64, Ending) {
        let up = |place: &Place| {
            if place.host == "hv-3" && from >= OUTAGE.0 {
                OUTAGE.1
            } else {
                0
            }
        };
        let place = (0..self.places.len())
            .min_by_key(|index| self.places[*index].free_at.max(up(&self.places[*index])))
            .expect("there are hosts");
        let host = self.places[place].host;
        let begun = from.max(self.places[place].free_at).max(up(&self.places[place])) + 2;
        let booted = begun + self.random.random_range(6..25);
        let usual = REPOSITORIES[job.kind].2;
        let mut takes = self.random.random_range(usual / 2..usual * 2);
        if self.random.random_bool(0.012) {
            takes = LIMIT * 2;
        }
        let ended = booted + takes.min(LIMIT);
        let name = format!("{host}-{}-{attempt}", &job.id.simple().to_string()[24..]);
        let vm = |state, second| {
            VmUpdate::new(job.id, &name, state)
                .attempt(1)
                .at(at(second))
                .actor(host)
        };
        let prepared = vm(VmState::Prepared, begun).backend(if host == "hv-4" { "bhyve" } else { "libvirt" });
        let prepared = prepared.overlay_path(format!("/var/lib/ci/overlays/{name}.qcow2"));
        self.say(
            begun,
            0,
            prepared.seed_path(format!("/var/lib/ci/seeds/{name}.iso")),
        );
        self.say(booted, 1, vm(VmState::Running, booted));
        let step = |state, second| JobUpdate::new(job.id, state).attempt(attempt).at(at(second));
        let running = step(JobState::Running, booted).actor("scheduler");
        // Now and then an agent's report is overtaken by what comes after it.
        let delay = if self.random.random_bool(0.03) {
            takes.min(LIMIT) + 5
        } else {
            1
        };
        self.say(booted, delay, running);
        if host == "hv-3" && (begun..ended).contains(&OUTAGE.0) {
            self.places[place].free_at = OUTAGE.1;
            let failed = vm(VmState::Failed, OUTAGE.0)
                .actor("scheduler")
                .reason("host hv-3 lost power");
            self.say(OUTAGE.0, 30, failed);
            let lost = step(JobState::Lost, OUTAGE.0)
                .actor("scheduler")
                .reason("host hv-3 lost power");
            self.say(OUTAGE.0, 30, lost);
            self.say(
                OUTAGE.1,
                60,
                vm(VmState::Destroyed, OUTAGE.1).reason("found after the outage"),
            );
            return (OUTAGE.0, Ending::HostLost);
        }
        self.places[place].free_at = ended + 8;
        let state = if takes > LIMIT {
            JobState::TimedOut
        } else {
            *[
                (JobState::Succeeded, 84),
                (JobState::Failed, 14),
                (JobState::Cancelled, 2),
            ]
            .choose_weighted(&mut self.random, |(_, weight)| *weight)
            .map(|(state, _)| state)
            .expect("weights are positive")
        };
        self.say(ended, 1, step(state, ended).actor("agent"));
        if state == JobState::Cancelled && self.random.random_bool(0.5) {
            // The job was through when it was cancelled; what stands, stands.
            self.say(ended, 3, step(JobState::Succeeded, ended).actor("agent"));
        }
        self.say(ended, 2, vm(VmState::Stopped, ended));
        if !self.random.random_bool(0.004) {
            self.say(ended, 8, vm(VmState::Destroyed, ended + 7));
        }
        (ended, Ending::Reported(state))
    }
}

fn queued(job: Job, second: i64, attempt: u32) -> JobUpdate {
    let (repository, runs_on, _) = REPOSITORIES[job.kind];
    JobUpdate::new(job.id, JobState::Queued)
        .attempt(attempt)
        .at(at(second))
        .repo_url(repository)
        .commit_sha(format!("{:032x}{:08x}", job.sha, job.sha as u32))
        .runs_on(runs_on)
}

fn queued_again(job: Job, second: i64, attempt: u32) -> JobUpdate {
    JobUpdate::new(job.id, JobState::Queued)
        .attempt(attempt)
        .at(at(second))
        .actor("scheduler")
        .reason("run again")
}
