//! The updates that every contender makes.

use persist::{JobState, JobUpdate, SystemClock};
use uuid::Uuid;

/// Jobs of the uniform workload: so many that no two callers often meet, and so few that, as in life, most updates
/// are not the first of their job.
pub const JOBS: u64 = 10_000;
/// Attempts of a job in the uniform workload.
pub const ATTEMPTS: u64 = 1_000_000;
/// Hot jobs.
pub const HOT: u64 = 100;

/// What each update brings.
pub const REPO_URL: &str = "https://example.org/acme/app.git";
/// A commit.
pub const COMMIT: &str = "3f2a9c0d3f2a9c0d3f2a9c0d3f2a9c0d3f2a9c0d";
/// A label.
pub const RUNS_ON: &str = "ubuntu-24.04";

/// A number that looks random, by its seed: splitmix64.
pub fn random(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A new attempt of some job: the job, and the attempt.
pub fn uniform(caller: u64, nth: u64) -> (Uuid, u32) {
    let seed = random(caller << 32 | nth);
    let attempt = random(seed) % ATTEMPTS + 1;
    (job(seed % JOBS), attempt as u32)
}

/// An id of the workload.
pub fn job(number: u64) -> Uuid {
    Uuid::from_u64_pair(0, number + 1)
}

/// The update of a new attempt.
///
/// # Panics
/// Never: attempts are above 0.
pub fn queued(id: Uuid, attempt: u32) -> JobUpdate {
    JobUpdate::new(id, JobState::Queued)
        .attempt(attempt)
        .repo_url(REPO_URL)
        .commit_sha(COMMIT)
        .runs_on(RUNS_ON)
        .actor("bench")
}

/// The life of a job of a caller, one update after the other: queued, running, succeeded, the next job.
pub fn life(caller: u64, nth: u64) -> JobUpdate {
    let id = Uuid::from_u64_pair(caller + 1, nth / 3 + 1);
    match nth % 3 {
        0 => queued(id, 1),
        1 => JobUpdate::new(id, JobState::Running).actor("bench"),
        _ => JobUpdate::new(id, JobState::Succeeded).actor("bench"),
    }
}

/// The rank of a state of an attempt, as the column has it.
///
/// # Panics
/// If there is no such attempt.
pub fn rank(state: JobState, attempt: u32) -> i64 {
    let update = JobUpdate::new(job(0), state).attempt(attempt);
    update.check(&SystemClock).expect("it is valid").rank().get()
}
