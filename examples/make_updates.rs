//! Makes update lines to measure `persist import` with: so many jobs, three adjacent lines each.
//!
//! ```text
//! cargo run --release --example make_updates -- 100000 > updates.jsonl            # ids that ascend (version 7)
//! cargo run --release --example make_updates -- 100000 random > updates.jsonl     # random ids (version 4)
//! ```

use std::error::Error;
use std::io::{BufWriter, Write as _};

use persist::{Event, JobState, JobUpdate, Seq, Slot, SystemClock, jsonl, time};
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};

/// 2026-11-01T00:00:00Z, in milliseconds since 1970; a job every 300 ms.
const BEGIN: i64 = 1_793_491_200_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let jobs: i64 = arguments.next().as_deref().unwrap_or("1000").parse()?;
    let random_ids = arguments.next().is_some_and(|word| word == "random");
    let mut random = StdRng::seed_from_u64(1);
    let mut out = BufWriter::new(std::io::stdout().lock());
    for n in 0..jobs {
        let millis = BEGIN + n * 300;
        let mut bytes = [0; 16];
        random.fill_bytes(&mut bytes);
        let id = if random_ids {
            uuid::Builder::from_random_bytes(bytes).into_uuid()
        } else {
            let tail = bytes[..10].try_into()?;
            uuid::Builder::from_unix_timestamp_millis(u64::try_from(millis)?, &tail).into_uuid()
        };
        let at = |state, seconds: i64| {
            let at = time::from_micros((millis + seconds * 1_000) * 1_000).ok_or("too many jobs")?;
            Ok::<_, Box<dyn Error>>(JobUpdate::new(id, state).at(at))
        };
        let repository = format!("https://git.example.org/acme/app{}.git", n % 20);
        let queued = at(JobState::Queued, 0)?
            .repo_url(repository)
            .commit_sha(format!(
                "{:032x}{:08x}",
                random.random::<u128>(),
                random.random::<u32>()
            ))
            .runs_on("ubuntu-24.04")
            .actor("webhook");
        for update in [queued, at(JobState::Running, 5)?, at(JobState::Succeeded, 65)?] {
            let claim = update.check(&SystemClock)?;
            let slot = Slot::claimed_by(&claim);
            let event = Event::new(Seq::new(0), claim.at(), claim.subject().clone(), slot);
            writeln!(out, "{}", jsonl::line(&event))?;
        }
    }
    Ok(())
}
