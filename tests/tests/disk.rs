//! A disk that fails under a SQLite store: strace makes system calls fail. Numbers are those of the table of failures.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};

use persist::JobState;
use persist_core::Update;
use persist_tests::place::{self, Database, Place};
use persist_tests::{lines, process, sample};
use serde_json::Value;

const UPDATES: u64 = 12;

/// What came of a run in which one call failed.
struct Run {
    injected: usize,
    told: u64,
    stderr: String,
}

/// The `persist` program records one update after the other, waiting for each answer, while the nth of these calls on
/// the log or the file fails, in each of its threads. What it told is there afterwards, and the file is whole.
async fn run(call: &str, error: &str, nth: usize) -> Run {
    let place = Place::empty(Database::Sqlite);
    place.migrated().await.unwrap().close().await.unwrap();
    let file = place.file().path().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let persist = process::persist(["--database-url", place.url(), "import", "--outcomes"]);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-P", &file, "-P", &format!("{file}-wal"), "-e"]);
    strace.args([format!("trace={call}"), "-e".into()]);
    strace.arg(format!("inject={call}:error={error}:when={nth}"));
    strace.arg("-o").arg(&trace);
    strace.arg(persist.get_program()).args(persist.get_args());
    process::without_settings(&mut strace);
    let piped = strace
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told = BTreeSet::new();
    for n in 1..=UPDATES {
        let line = lines::of(vec![Update::from(sample::job(n, JobState::Queued))]).remove(0);
        // It may have given up.
        if writeln!(stdin, "{line}").is_err() {
            break;
        }
        let Some(answer) = answers.next() else { break };
        let answer: Value = serde_json::from_str(&answer.unwrap()).unwrap();
        assert!(
            ["applied", "unchanged"].contains(&answer["outcome"].as_str().unwrap()),
            "{answer}"
        );
        told.insert(n);
    }
    drop(stdin);
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    let ended = child.wait().unwrap();
    assert!(
        ended.code().is_some_and(|code| [0, 1, 5].contains(&code)),
        "{nth}: {ended}: {stderr}"
    );
    assert!(!stderr.contains("panicked"), "{nth}: {stderr}");

    let backend = place.migrated().await.unwrap();
    for n in &told {
        assert!(
            backend.job(sample::id(*n)).await.unwrap().is_some(),
            "{nth}: {n} was told: {stderr}"
        );
    }
    place::fold_holds(&backend).await;
    backend.close().await.unwrap();
    let checked = place.texts("PRAGMA integrity_check").await;
    assert_eq!(checked, ["ok"], "{nth}");
    let trace = std::fs::read_to_string(&trace).unwrap();
    Run {
        injected: trace.matches("INJECTED").count(),
        told: told.len() as u64,
        stderr,
    }
}

/// One call after the other fails, until none is left to fail.
async fn sweep(call: &str, error: &str, step: usize) {
    if !process::can_trace() {
        return;
    }
    let mut points = 0;
    for nth in (1..).step_by(step) {
        let run = run(call, error, nth).await;
        if run.injected == 0 {
            assert_eq!(run.told, UPDATES, "{}", run.stderr);
            break;
        }
        points += 1;
    }
    println!("{points} points at which {call} fails with {error}");
    assert!(points >= 5, "{points}");
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_whichever_sync_fails_what_was_told_is_there_and_the_file_is_whole() {
    sweep("fsync,fdatasync", "EIO", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_whichever_write_finds_no_space_what_was_told_is_there_and_the_file_is_whole() {
    sweep("pwrite64", "ENOSPC", 7).await;
}
