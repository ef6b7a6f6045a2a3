//! A disk that fails under a SQLite store, and a process that ends in the middle of a call: strace makes both. Numbers
//! are those of the table of failures.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::Stdio;

use persist::JobState;
use persist_core::Update;
use persist_tests::place::{self, Database, Place};
use persist_tests::process::{self, Ran, Running};
use persist_tests::trace::{self, Asked};
use persist_tests::{lines, sample, soak};
use serde_json::Value;

const UPDATES: u64 = 12;

/// What becomes of one system call.
#[derive(Clone, Copy)]
struct Injection {
    /// The calls that count.
    calls: &'static str,
    /// What becomes of the nth of them, in the words of strace.
    becomes: &'static str,
    /// Whether only those on the files of the store count; what is told is not in the trace then.
    only_files: bool,
}

/// What came of a run in which one call failed.
struct Run {
    injected: usize,
    told: u64,
    ran: Ran,
    asked: Vec<Asked>,
}

/// The `persist` program records one update after the other, waiting for each answer, while it happens to the nth call of
/// each of its threads. What it told is there afterwards, and the file is whole.
async fn run(injection: Injection, nth: usize) -> Run {
    let place = Place::empty(Database::Sqlite);
    place.migrated().await.unwrap().close().await.unwrap();
    let file = place.file().path().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let Injection {
        calls,
        becomes,
        only_files,
    } = injection;
    let mut options = vec![
        "-e".into(),
        format!("inject={calls}:{becomes}:when={nth}"),
        "-e".into(),
    ];
    if only_files {
        options.push(format!("trace={calls}"));
        for end in ["", "-wal", "-shm"] {
            options.extend(["-P".into(), format!("{file}{end}")]);
        }
    } else {
        options.push(format!("trace={calls},write"));
    }
    let persist = process::persist(["--database-url", place.url(), "import", "--outcomes"]);
    let mut command = trace::traced(&persist, &trace, options);
    let mut child = Running::start(command.stdin(Stdio::piped()));
    let mut stdin = child.stdin().unwrap();
    let mut told = BTreeSet::new();
    for n in 1..=UPDATES {
        let line = lines::of(vec![Update::from(sample::job(n, JobState::Queued))]).remove(0);
        // It may have given up.
        if writeln!(stdin, "{line}").is_err() {
            break;
        }
        // It may try again for as long as that by itself.
        let Some(answer) = child.line_within(2 * process::BOUND) else {
            break;
        };
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(
            ["applied", "unchanged"].contains(&answer["outcome"].as_str().unwrap()),
            "{answer}"
        );
        told.insert(n);
    }
    drop(stdin);
    let ran = child.end();
    assert!(!ran.stderr.contains("panicked"), "{nth}: {ran:?}");

    let backend = place.migrated().await.unwrap();
    for n in &told {
        assert!(
            backend.job(sample::id(*n)).await.unwrap().is_some(),
            "{nth}: {n} was told: {ran:?}"
        );
    }
    place::fold_holds(&backend).await;
    backend.close().await.unwrap();
    let checked = place.texts("PRAGMA integrity_check").await;
    assert_eq!(checked, ["ok"], "{nth}");
    let text = std::fs::read_to_string(&trace).unwrap();
    let happened = ["INJECTED", "killed by SIGKILL"].map(|mark| text.matches(mark).count());
    Run {
        injected: happened.iter().sum(),
        told: told.len() as u64,
        ran,
        asked: trace::asked(&trace),
    }
}

/// It happens to one call after the other from the first of these on, until none is left.
async fn sweep(injection: Injection, first: usize, step: usize, check: impl Fn(usize, &Run)) {
    if !trace::is_possible() {
        return;
    }
    let mut points = 0;
    for nth in (first..).step_by(step) {
        let run = run(injection, nth).await;
        if run.injected == 0 {
            assert_eq!(run.told, UPDATES, "{:?}", run.ran);
            break;
        }
        check(nth, &run);
        points += 1;
    }
    println!("{points} points: {} of {}", injection.becomes, injection.calls);
    assert!(points >= 5, "{points}");
}

/// It goes on, or it says why not.
fn ends_by_itself(nth: usize, run: &Run) {
    let code = run.ran.code();
    assert!([0, 1, 5].contains(&code), "{nth}: {:?}", run.ran);
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_whichever_sync_fails_what_was_told_is_there_and_the_file_is_whole() {
    let injection = Injection {
        calls: "fsync,fdatasync",
        becomes: "error=EIO",
        only_files: false,
    };
    sweep(injection, 1, 1, |nth, run| {
        ends_by_itself(nth, run);
        // What a failed sync was for is still in memory, so that it would be found afterwards: it must not be told.
        let mut is_synced = true;
        for asked in &run.asked {
            match asked {
                Asked::FailedSync => is_synced = false,
                Asked::Sync => is_synced = true,
                Asked::Tell => assert!(is_synced, "{nth}: told after a sync that failed: {:?}", run.asked),
                Asked::Log => {}
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_whichever_write_finds_no_space_what_was_told_is_there_and_the_file_is_whole() {
    let injection = Injection {
        calls: "pwrite64",
        becomes: "error=ENOSPC",
        only_files: true,
    };
    // The writes of opening come first. Each attempt to open has a thread of its own, which meets the fault again, until
    // the command gives up after 30 s.
    sweep(injection, soak::or(15, 1), soak::or(7, 1), ends_by_itself).await;
}

/// At any system call on the files, reading and locking too.
#[tokio::test(flavor = "multi_thread")]
async fn d3_killed_at_whichever_call_what_was_told_is_there_and_the_file_is_whole() {
    let injection = Injection {
        calls: "all",
        becomes: "signal=SIGKILL",
        only_files: true,
    };
    sweep(injection, 1, soak::or(23, 1), |_, _| {}).await;
}
