//! Update lines in the exchange format, for files that tests import.

use std::path::Path;

use persist_core::{Event, Seq, Slot, Update, jsonl};

use crate::sample;

/// One line for each update.
///
/// # Panics
/// If an update is outside of the limits.
pub fn of(updates: Vec<Update>) -> Vec<String> {
    let claims = sample::claims(updates).expect("samples are within the limits");
    let event = |claim| {
        let slot = Slot::claimed_by(&claim);
        Event::new(Seq::new(0), claim.at(), claim.subject().clone(), slot)
    };
    claims
        .into_iter()
        .map(|claim| jsonl::line(&event(claim)))
        .collect()
}

/// Writes lines into a file.
///
/// # Panics
/// If it can't be written.
pub fn write(path: &Path, lines: &[String]) {
    std::fs::write(path, lines.join("\n") + "\n").expect("the file is written");
}

/// So many jobs of a made-up day, a line for each update.
pub fn day(seed: u64, jobs: u64) -> Vec<String> {
    of(sample::day(seed, jobs))
}
