//! The seeds of the fuzz targets, and small changes of them, as plain tests.

use std::panic::{AssertUnwindSafe, catch_unwind};

use persist_tests::fuzz::{TARGETS, mutate, seeds};
use persist_tests::soak;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// Fewer seeds than this is a folder that was not found whole.
const LEAST: usize = 20;

fn holds(target: &str, changes: (u32, u32)) {
    let (_, new) = TARGETS
        .into_iter()
        .find(|(name, _)| *name == target)
        .expect("is a target");
    let mut check = new();
    let mut run = |what: &str, bytes: &[u8]| {
        let held = catch_unwind(AssertUnwindSafe(|| check(bytes)));
        assert!(
            held.is_ok(),
            "{target} breaks on {what}: b\"{}\"",
            bytes.escape_ascii()
        );
    };
    let seeds = seeds(target);
    assert!(seeds.len() >= LEAST, "{} seeds of {target}", seeds.len());
    for (name, bytes) in &seeds {
        run(name, bytes);
    }
    let mut random = StdRng::seed_from_u64(6);
    let changes = soak::or(changes.0, changes.1);
    for _ in 0..changes {
        run("a change of a seed", &mutate::changed(&mut random, &seeds));
    }
    println!("{target}: {} seeds, {changes} changes of them", seeds.len());
}

#[test]
fn a_cursor_of_any_bytes_is_a_position_or_refused() {
    holds("cursor", (4_000, 400_000));
}

#[test]
fn a_file_of_any_bytes_is_updates_or_told_line_by_line() {
    holds("jsonl", (4_000, 400_000));
}

#[test]
fn i8_a_repo_url_of_any_bytes_is_stored_without_credentials() {
    holds("repo_url", (4_000, 400_000));
}

#[test]
fn a_row_of_any_values_is_read_or_told_as_damage() {
    holds("row", (150, 10_000));
}

#[test]
fn a_database_url_of_any_bytes_shows_no_secret() {
    holds("url", (4_000, 400_000));
}
