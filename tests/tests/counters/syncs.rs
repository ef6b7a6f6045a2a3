//! Syncs of a SQLite file to the disk, as the kernel is asked for them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use persist_core::JobState::{Queued, Running, Succeeded};
use persist_core::Update;
use persist_tests::place::{Database, Place};
use persist_tests::trace::{self, Asked};
use persist_tests::{lines, process, sample};
use serde_json::Value;

/// Most syncs of the log that belong to no commit: the log's own head, and those before the log is moved into the
/// file, when it is idle for a second and when it is closed. 2 were seen (2026-11-26).
const BESIDE_COMMITS: u64 = 4;

/// The `persist` program at work in a store, with the trace of its syncs and writes as a file.
fn traced(place: &Place, file: &Path, arguments: &[&str]) -> Command {
    let persist = process::persist([&["--database-url", place.url()][..], arguments].concat());
    trace::traced(
        &persist,
        file,
        ["-e", "trace=fsync,fdatasync,write,pwrite64,pwritev"],
    )
}

fn syncs(asked: &[Asked]) -> u64 {
    asked.iter().filter(|asked| **asked == Asked::Sync).count() as u64
}

async fn migrated() -> Place {
    let place = Place::empty(Database::Sqlite);
    place.migrated().await.unwrap().close().await.unwrap();
    place
}

/// A lone caller that waits for each answer: the log is synced once for each update, and before it is told.
#[tokio::test(flavor = "multi_thread")]
async fn d4_an_update_is_synced_once_and_before_it_is_told() {
    if !trace::is_possible() {
        return;
    }
    let place = migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace");
    let mut child = traced(&place, &file, &["import", "--outcomes"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut updates = 0;
    for n in 1..40 {
        for state in [Queued, Running, Succeeded] {
            let line = lines::of(vec![Update::from(sample::job(n, state))]).remove(0);
            writeln!(stdin, "{line}").unwrap();
            let outcome = told.next().unwrap().unwrap();
            assert!(outcome.contains("applied"), "{outcome}");
            updates += 1;
        }
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
    let asked = trace::asked(&file);
    let synced = syncs(&asked);
    assert!(
        (updates..=updates + BESIDE_COMMITS).contains(&synced),
        "{synced} syncs for {updates} commits"
    );
    let mut is_synced = true;
    let mut answers = 0;
    for what in asked {
        match what {
            Asked::Log | Asked::FailedSync => is_synced = false,
            Asked::Sync => is_synced = true,
            Asked::Tell => {
                answers += 1;
                assert!(is_synced, "answer {answers} was told before the log was synced");
            }
        }
    }
    assert!(answers >= updates, "{answers} answers are in the trace");
}

/// Many callers: as many syncs of the log as there are flushes, which share updates.
#[tokio::test(flavor = "multi_thread")]
async fn d4_a_flush_of_many_callers_is_synced_once() {
    if !trace::is_possible() {
        return;
    }
    let place = migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace");
    let arguments = ["--format", "json", "bench", "--seconds", "1", "--callers", "64"];
    let ran = process::run(&mut traced(&place, &file, &arguments)).ok();
    let told: Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
    let number = |name: &str| told[name].as_f64().unwrap();
    let flushes = number("flushes") as u64;
    // Afterwards it removes its jobs, each of three updates at most: twice as many at a time as the time before, from 4
    // to 1,000, but fewer where one takes long.
    let jobs = number("flushes") * number("mean_batch") / 3.0 + number("callers");
    let removals = (jobs / 250.0).ceil() as u64 + 10;
    let synced = syncs(&trace::asked(&file));
    assert!(
        (flushes..=flushes + removals + BESIDE_COMMITS).contains(&synced),
        "{synced} syncs for {flushes} flushes and at most {removals} removals"
    );
    assert!(number("commits_per_update") <= 0.1, "{told}");
}
