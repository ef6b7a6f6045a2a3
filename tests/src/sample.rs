//! Ids, times, updates and outcomes in few words, and a made-up day of CI.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use persist_core::{
    Attempt, Claim, Current, Deadlines, FixedClock, JobState, JobUpdate, Outcome, Result, State, Timestamp,
    Update, VmState, VmUpdate,
};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use uuid::Uuid;

/// 2026-11-01T08:00:00Z, when everything begins.
pub const BEGIN_MICROS: i64 = 1_793_520_000_000_000;

/// Deadlines that all are this, but for the wait for somebody else's migration.
pub fn deadlines(time: Duration) -> Deadlines {
    let mut deadlines = Deadlines::default();
    for deadline in [
        &mut deadlines.connect,
        &mut deadlines.write,
        &mut deadlines.read,
        &mut deadlines.health,
    ] {
        *deadline = time;
    }
    deadlines
}

/// The n-th id; ids ascend with n.
pub fn id(n: u64) -> Uuid {
    Uuid::from_u128(0x0190_c2f4_0000_7000_8000_0000_0000_0000 + u128::from(n))
}

/// The beginning, and so many seconds.
pub fn at(seconds: i64) -> Timestamp {
    micros(seconds * 1_000_000)
}

/// The beginning, and so many microseconds.
pub fn micros(micros: i64) -> Timestamp {
    DateTime::<Utc>::UNIX_EPOCH + TimeDelta::microseconds(BEGIN_MICROS + micros)
}

/// An update of the n-th job, ten seconds a phase and a minute an attempt after the beginning.
pub fn job(n: u64, state: JobState) -> JobUpdate {
    JobUpdate::new(id(n), state).at(at(i64::from(State::Job(state).phase()) * 10))
}

/// An update of a VM of the n-th job, ten seconds a phase after the beginning.
pub fn vm(n: u64, name: &str, state: VmState) -> VmUpdate {
    VmUpdate::new(id(n), name, state).at(at(i64::from(State::Vm(state).phase()) * 10))
}

/// Checks updates; those without a time are of the beginning.
///
/// # Errors
/// As `check`.
pub fn claims<U: Into<Update>>(updates: impl IntoIterator<Item = U>) -> Result<Vec<Claim>> {
    updates
        .into_iter()
        .map(|update| update.into().check(&FixedClock(at(0))))
        .collect()
}

/// A row's state and attempt.
pub fn current(state: impl Into<State>, attempt: u32) -> Current {
    Current {
        state: state.into(),
        attempt: Attempt::new(attempt).expect("attempts of cases are in range"),
    }
}

/// `Applied` that made the row.
pub const CREATED: Outcome = Outcome::Applied { created: true };
/// `Applied` to a row that was there.
pub const MOVED: Outcome = Outcome::Applied { created: false };

/// `Late` below this row.
pub fn late(state: impl Into<State>, attempt: u32) -> Outcome {
    Outcome::Late {
        current: current(state, attempt),
    }
}

/// `Filled`, with this row.
pub fn filled(state: impl Into<State>, attempt: u32) -> Outcome {
    Outcome::Filled {
        current: current(state, attempt),
    }
}

/// `Unchanged`, with this row.
pub fn unchanged(state: impl Into<State>, attempt: u32) -> Outcome {
    Outcome::Unchanged {
        current: current(state, attempt),
    }
}

/// `Refused` by what stands, with this row.
pub fn refused(standing: impl Into<State>, state: impl Into<State>, attempt: u32) -> Outcome {
    Outcome::Refused {
        standing: standing.into(),
        current: current(state, attempt),
    }
}

/// So many jobs of a made-up day, with VMs, retries, cancellations, lost hosts, blanks and odd characters; in
/// the order in which they happened. The same seed gives the same day.
pub fn day(seed: u64, jobs: u64) -> Vec<Update> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut updates: Vec<(i64, Update)> = Vec::new();
    let repos = [
        "https://example.org/acme/app.git",
        "git@example.org:acme/lib.git",
        "https://example.org/é/ü.git",
    ];
    for n in 0..jobs {
        let mut clock = random.random_range(0..80_000_000_000_i64);
        let mut step = |random: &mut StdRng| {
            clock += random.random_range(1..90_000_000);
            (clock, micros(clock))
        };
        let (when, time) = step(&mut random);
        let queued = JobUpdate::new(id(n), JobState::Queued)
            .at(time)
            .repo_url(*repos.choose(&mut random).expect("not empty"))
            .commit_sha(format!("{:040x}", random.random::<u128>()))
            .actor("webhook");
        updates.push((when, queued.into()));
        if random.random_bool(0.1) {
            let (when, time) = step(&mut random);
            let cancelled = JobUpdate::new(id(n), JobState::Cancelled)
                .at(time)
                .reason("superseded; \"newer\" push\n");
            updates.push((when, cancelled.into()));
            continue;
        }
        let attempts = if random.random_bool(0.2) { 2 } else { 1 };
        for attempt in 1..=attempts {
            let name = format!("vm-{n}-{attempt}");
            let vm = |state| VmUpdate::new(id(n), name.clone(), state).actor("scheduler");
            let (when, time) = step(&mut random);
            let prepared = vm(VmState::Prepared)
                .at(time)
                .backend("libvirt")
                .overlay_path(format!("/var/vm/{name}"));
            updates.push((when, prepared.into()));
            let (when, time) = step(&mut random);
            updates.push((when, vm(VmState::Running).at(time).into()));
            let running = JobUpdate::new(id(n), JobState::Running)
                .attempt(attempt)
                .at(time)
                .runs_on("ubuntu-24.04");
            updates.push((when, running.into()));
            let (when, time) = step(&mut random);
            let last = attempt == attempts;
            let ending = *if last {
                [JobState::Succeeded, JobState::Failed]
            } else {
                [JobState::Lost, JobState::TimedOut]
            }
            .choose(&mut random)
            .expect("not empty");
            updates.push((
                when,
                JobUpdate::new(id(n), ending).attempt(attempt).at(time).into(),
            ));
            let stopped = *[VmState::Stopped, VmState::Failed]
                .choose(&mut random)
                .expect("not empty");
            updates.push((when, vm(stopped).at(time).reason("ended 🦀").into()));
            let (when, time) = step(&mut random);
            updates.push((when, vm(VmState::Destroyed).at(time).into()));
        }
    }
    updates.sort_by_key(|(when, _)| *when);
    updates.into_iter().map(|(_, update)| update).collect()
}

/// The same, in another order. The same seed gives the same order.
pub fn shuffled<T>(seed: u64, mut items: Vec<T>) -> Vec<T> {
    items.shuffle(&mut StdRng::seed_from_u64(seed));
    items
}
