//! Several processes on one store, and processes that are killed. Numbers are those of the table of failures.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

mod ended;
mod peer;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use persist::{
    Clock as _, Deadlines, ErrorKind, JobState, JobUpdate, OnUnavailable, Outbox as _, Persist, SqliteOutbox,
    SystemClock, time,
};
use persist_tests::cluster::{Cluster, Options, Stop};
use persist_tests::place::{self, Database, Place};
use persist_tests::process::{self, Running};
use persist_tests::{lines, sample, soak};
use rand::Rng as _;

use peer::peer;

#[tokio::test(flavor = "multi_thread")]
async fn x3_rows_are_the_fold_while_two_processes_write_one_postgres() {
    two_writers(Database::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x3_x7_rows_are_the_fold_while_two_processes_write_one_sqlite_file() {
    two_writers(Database::Sqlite).await;
}

async fn two_writers(database: Database) {
    const ROUNDS: &str = "1000";
    let place = Place::empty(database);
    let backend = place.migrated().await.unwrap();
    let mut inputs = Vec::new();
    let mut writers = Vec::new();
    for seed in ["1", "2"] {
        let mut command = peer(["write", place.url(), seed, ROUNDS]);
        let (input, go) = std::io::pipe().unwrap();
        let writer = Running::start(command.stdin(Stdio::from(input)));
        assert_eq!(writer.line().as_deref(), Some("ready"));
        inputs.push(go);
        writers.push(writer);
    }
    for go in &mut inputs {
        go.write_all(b"\n").unwrap();
    }
    let mut looks = 0;
    while writers.iter_mut().all(Running::is_running) {
        assert_eq!(
            place.strays().await,
            [""; 0],
            "in the middle, after {looks} looks"
        );
        looks += 1;
    }
    for writer in writers {
        assert_eq!(writer.end().ok().stdout, "done\n");
    }
    assert!(looks > 0, "they were watched");
    assert_eq!(place.strays().await, [""; 0]);
    assert!(place.count("FROM events").await > 1_000);
    place::fold_holds(&backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_sigkill_of_an_import_loses_no_acknowledged_line_on_postgres() {
    killed_import(Database::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_sigkill_of_an_import_loses_no_acknowledged_line_on_sqlite() {
    killed_import(Database::Sqlite).await;
}

/// Numbers of the lines that the program says are in the store.
fn acknowledged(outcomes: &[String]) -> BTreeSet<usize> {
    let number = |line: &String| {
        // The last line may be cut by the kill: then it was not said.
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        assert!(
            ["applied", "unchanged", "late", "filled"].contains(&line["outcome"].as_str()?),
            "{line}"
        );
        Some(line["line"].as_u64()? as usize)
    };
    outcomes.iter().filter_map(number).collect()
}

async fn killed_import(database: Database) {
    let place = Place::empty(database);
    place.migrated().await.unwrap().close().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("day.jsonl");
    let lines = lines::day(5, 600);
    lines::write(&input, &lines);
    let import = || {
        let mut arguments = vec![
            "--database-url".into(),
            place.url().into(),
            "import".into(),
            "--outcomes".into(),
        ];
        arguments.push(input.clone().into_os_string());
        process::persist(arguments)
    };
    let mut acknowledged_so_far = BTreeSet::new();
    let rounds = soak::or(8, 1_000);
    for round in 0..rounds {
        let mut running = Running::start(&mut import());
        let wanted = rand::rng().random_range(0..lines.len() / 2);
        let mut outcomes: Vec<_> = std::iter::from_fn(|| running.line()).take(wanted).collect();
        tokio::time::sleep(Duration::from_micros(rand::rng().random_range(0..20_000))).await;
        outcomes.extend(running.kill());
        acknowledged_so_far.extend(acknowledged(&outcomes));
        let stored: BTreeSet<_> = place.export().await.unwrap().into_iter().collect();
        for number in &acknowledged_so_far {
            assert!(
                stored.contains(&lines[number - 1]),
                "round {round}: line {number} was acknowledged and is gone"
            );
        }
        assert_eq!(place.strays().await, [""; 0], "round {round}");
    }
    assert!(!acknowledged_so_far.is_empty(), "some were acknowledged");
    println!(
        "{database:?}: {rounds} kills, {} lines acknowledged",
        acknowledged_so_far.len()
    );
    // The next run completes it, and nothing is there twice.
    let summary = process::run(&mut import()).ok();
    assert_eq!(summary.stdout.lines().count(), lines.len());
    let stored = place.export().await.unwrap();
    assert_eq!(stored.len(), lines.len());
    assert_eq!(
        stored.into_iter().collect::<BTreeSet<_>>(),
        lines.into_iter().collect()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_sigkill_of_a_spooling_process_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool.db");
    let path = path.to_str().unwrap();
    let away = format!(
        "postgres://ci@127.0.0.1:{}/ci",
        persist_tests::cluster::free_port()
    );
    let mut told = BTreeSet::new();
    for round in 0..6 {
        let mut running = Running::start(&mut peer(["spool", &away, path]));
        let wanted = rand::rng().random_range(1..300);
        let mut lines = take(&running, wanted);
        lines.extend(running.kill());
        // The last line may be cut by the kill: then it was not said.
        let whole = lines.iter().filter_map(|line| line.strip_suffix(" spooled ."));
        let before = told.len();
        told.extend(whole.map(|number| number.parse::<u64>().unwrap()));
        assert!(round > 0 || told.len() > before);
        let (outbox, holder) = SqliteOutbox::look(path).await.unwrap();
        assert_eq!(holder, None, "the lock of a killed process is free");
        let entries = outbox.waiting(0, u32::MAX).await.unwrap();
        let kept: BTreeSet<_> = entries
            .iter()
            .map(|entry| entry.claim().unwrap().subject().request_id())
            .collect();
        for number in &told {
            assert!(
                kept.contains(&sample::id(*number)),
                "round {round}: {number} was acknowledged and is gone"
            );
        }
    }
    // The next process gets them into the store.
    let place = Place::empty(Database::Sqlite);
    let backend = place.migrated().await.unwrap();
    let arguments = ["--database-url", place.url(), "spool", "replay", "--spool", path];
    process::run(&mut process::persist(arguments)).ok();
    for number in &told {
        assert!(backend.job(sample::id(*number)).await.unwrap().is_some());
    }
    assert_eq!(place.strays().await, [""; 0]);
    place::fold_holds(&backend).await;
}

/// A bench that goes on for longer than the test, and tells what was acknowledged.
fn bench_of(place: &Place) -> Running {
    let arguments = [
        "--callers",
        "64",
        "--mix",
        "vms",
        "--seconds",
        "600",
        "--outcomes",
    ];
    let fixed = ["--database-url", place.url(), "bench"];
    Running::start(&mut process::persist([&fixed[..], &arguments].concat()))
}

/// The next so many lines of a process.
fn take(running: &Running, lines: usize) -> Vec<String> {
    let taken: Vec<_> = std::iter::from_fn(|| running.line()).take(lines).collect();
    assert_eq!(taken.len(), lines, "it goes on");
    taken
}

/// Kills the bench; each update that it had told of is in the store, to the letter, and every row is its history's.
async fn nothing_told_is_lost(place: &Place, mut bench: Running, mut told: Vec<String>) {
    told.extend(bench.kill());
    // The last line may be cut by the kill: then it was not said.
    told.pop_if(|line| !line.ends_with("}}"));
    let stored: BTreeSet<_> = place.export().await.unwrap().into_iter().collect();
    for line in &told {
        assert!(stored.contains(line), "was acknowledged and is gone: {line}");
    }
    assert_eq!(place.strays().await, [""; 0]);
    let backend = place.open().await.unwrap();
    place::fold_holds(&backend).await;
    backend.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_sigkill_of_a_bench_loses_no_acknowledged_update_and_the_next_one_cleans_up() {
    for database in Database::BOTH {
        let place = Place::empty(database);
        let bench = bench_of(&place);
        let told = take(&bench, 2_000);
        tokio::time::sleep(Duration::from_micros(rand::rng().random_range(0..20_000))).await;
        nothing_told_is_lost(&place, bench, told).await;
        assert!(place.count("FROM events").await >= 2_000);
        let arguments = ["--database-url", place.url(), "bench", "--seconds", "1"];
        process::run(&mut process::persist(arguments)).ok();
        for table in ["jobs", "vms", "events"] {
            assert_eq!(place.count(&format!("FROM {table}")).await, 0, "{table}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_sigkill_of_the_server_under_a_bench_loses_no_acknowledged_update() {
    let cluster = Cluster::start(&Options::default());
    let place = Place::at(cluster.fresh_schema_url());
    let bench = bench_of(&place);
    let mut told = take(&bench, 2_000);
    let is_back = |told: &mut Vec<String>| {
        let now = time::format(SystemClock.now());
        loop {
            let line = bench.line().expect("it goes on");
            let update: serde_json::Value = serde_json::from_str(&line).unwrap();
            told.push(line);
            let at = |kind: &str| update[kind]["at"].as_str().is_some_and(|at| *at > *now);
            if at("job") || at("vm") {
                return;
            }
        }
    };
    let rounds = soak::or(1, 25);
    for _ in 0..rounds {
        cluster.kill();
        cluster.resume();
        is_back(&mut told);
        told.extend(take(&bench, 1_000));
        cluster.restart(Stop::Immediate);
        is_back(&mut told);
    }
    println!(
        "{rounds} kills and as many immediate stops, {} updates acknowledged",
        told.len()
    );
    nothing_told_is_lost(&place, bench, told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_sigkill_of_a_server_process_and_of_the_server_loses_nothing() {
    let cluster = Cluster::start(&Options::default());
    let place = Place::at(cluster.fresh_schema_url());
    let mut deadlines = Deadlines::default();
    deadlines.write = process::BOUND;
    let builder = Persist::builder(Some(place.url().into())).deadlines(deadlines);
    let builder = builder.on_unavailable(OnUnavailable::Retry {
        within: process::BOUND,
    });
    let persist = builder.connect().await.unwrap();
    let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(1)));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let (persist, stop, next) = (persist.clone(), Arc::clone(&stop), Arc::clone(&next));
            let acknowledged = Arc::clone(&acknowledged);
            tokio::spawn(async move {
                let mut applied = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    match persist.record_job_state(sample::job(n, JobState::Queued)).await {
                        Ok(outcome) => {
                            assert!(["applied", "unchanged"].contains(&outcome.name()), "{outcome}");
                            applied.push(n);
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => {
                            assert!(error.is_retryable(), "{error:?}");
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                    }
                }
                applied
            })
        })
        .collect();
    let grows = async |what: &str| {
        let begun = acknowledged.load(Ordering::Relaxed);
        process::until(what, async || acknowledged.load(Ordering::Relaxed) > begun + 20).await;
    };
    grows("updates are written").await;
    let backend = "SELECT CAST(pid AS text) FROM pg_stat_activity WHERE backend_type = 'client backend' \
                   AND pid <> pg_backend_pid()";
    let victim: u32 = place.texts(backend).await[0].parse().unwrap();
    process::signal(victim, "KILL");
    grows("updates are written after the crash of a server process").await;
    cluster.kill();
    cluster.resume();
    grows("updates are written after the crash of the server").await;
    stop.store(true, Ordering::Relaxed);
    let mut applied = BTreeMap::new();
    for writer in writers {
        applied.extend(
            writer
                .await
                .unwrap()
                .into_iter()
                .map(|n| (sample::id(n).to_string(), n)),
        );
    }
    let stored = place.texts("SELECT CAST(request_id AS text) FROM events").await;
    let unique: BTreeSet<_> = stored.iter().collect();
    assert_eq!(unique.len(), stored.len(), "nothing is there twice");
    for id in applied.keys() {
        assert!(unique.contains(id), "{id} was acknowledged and is gone");
    }
    assert_eq!(place.strays().await, [""; 0]);
    persist.close().await.unwrap();
    let closed = persist
        .record_job_state(JobUpdate::new(sample::id(1), JobState::Queued))
        .await;
    assert_eq!(closed.unwrap_err().kind(), ErrorKind::Closed);
}
