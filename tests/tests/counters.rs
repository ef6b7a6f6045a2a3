//! Counters of the write path that do not depend on how fast the machine is, and `persist bench` from end to end.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::sync::Arc;

use futures_util::future::join_all;
use persist::{OnUnavailable, Persist};
use persist_core::JobState::{Queued, Running, Succeeded};
use persist_core::JobUpdate;
use persist_tests::place::{Database, Place};
use persist_tests::{process, sample};
use serde_json::Value;

const CALLERS: u64 = 64;
const JOBS_OF_EACH: u64 = 20;

/// Every caller leads jobs of its own through their lives, three updates each.
async fn lives(persist: &Persist) -> u64 {
    let caller = |caller: u64| {
        let persist = persist.clone();
        tokio::spawn(async move {
            for nth in 0..JOBS_OF_EACH {
                let id = sample::id(caller * 1_000 + nth + 1);
                for state in [Queued, Running, Succeeded] {
                    persist.record_job_state(JobUpdate::new(id, state)).await.unwrap();
                }
            }
        })
    };
    for ended in join_all((0..CALLERS).map(caller)).await {
        ended.unwrap();
    }
    CALLERS * JOBS_OF_EACH * 3
}

async fn opened(place: &Place) -> Persist {
    let persist = Persist::builder(Some(place.url().to_owned())).on_unavailable(OnUnavailable::Fail);
    persist.connect().await.unwrap()
}

/// Sixty-four callers share commits: at most one for ten updates.
async fn commits_are_shared(database: Database) {
    let place = Place::empty(database);
    let persist = opened(&place).await;
    let updates = lives(&persist).await;
    let health = persist.backend().health().await.unwrap();
    assert_eq!(health.flushed, updates);
    let share = health.flushes as f64 / health.flushed as f64;
    assert!(share <= 0.1, "{share} commits per update");
    persist.close().await.unwrap();
    assert_eq!(place.count("FROM events").await, updates);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_has_at_most_a_tenth_of_a_commit_per_update() {
    commits_are_shared(Database::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_has_at_most_a_tenth_of_a_commit_per_update() {
    commits_are_shared(Database::Sqlite).await;
}

/// Updates that end nothing stay on their page: no index is touched.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_updates_rows_in_place() {
    let place = Place::empty(Database::Postgres);
    let persist = opened(&place).await;
    let updates = lives(&persist).await as f64;
    persist.close().await.unwrap();
    // Of each three one makes the row, one ends the job, which moves it from an index to another.
    let (all_updates, that_end_nothing) = (updates / 3.0 * 2.0, updates / 3.0);
    // Of the connections that are closed now, the server has written down what they did.
    let read = format!(
        "SELECT n_tup_upd::text || ' ' || n_tup_hot_upd::text FROM pg_stat_user_tables \
         WHERE relname = 'jobs' AND schemaname = '{}'",
        place.schema()
    );
    let (mut updated, mut in_place) = (0.0, 0.0);
    for _ in 0..100 {
        let line = place.texts(&read).await.remove(0);
        let (all, hot) = line.split_once(' ').unwrap();
        (updated, in_place) = (all.parse::<f64>().unwrap(), hot.parse::<f64>().unwrap());
        if updated >= all_updates {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(updated >= all_updates, "{updated} updates are counted");
    assert!(
        in_place / that_end_nothing >= 0.9,
        "{in_place} of {that_end_nothing} in place"
    );
}

/// One object, as the last line.
fn bench(place: &Place, arguments: &[&str]) -> Value {
    let fixed = [
        "--database-url",
        place.url(),
        "--format",
        "json",
        "bench",
        "--seconds",
        "1",
    ];
    let ran = process::run(&mut process::persist([&fixed, arguments].concat()));
    let ran = ran.ok();
    serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bench_tells_its_figures_and_leaves_nothing_behind() {
    for database in [Database::Sqlite, Database::Postgres] {
        let place = Arc::new(Place::empty(database));
        for arguments in [
            &["--callers", "1,16"][..],
            &["--callers", "16", "--jobs", "5"],
            &["--callers", "16", "--mix", "vms", "--read-share", "0.5"],
        ] {
            let told = bench(&place, arguments);
            for figure in [
                "callers",
                "seconds",
                "updates",
                "updates_per_second",
                "p50_us",
                "p90_us",
                "p99_us",
                "p999_us",
                "max_us",
                "flushes",
                "mean_batch",
                "commits_per_update",
            ] {
                assert!(
                    told[figure].as_f64().unwrap() > 0.0,
                    "{figure} of {arguments:?}: {told}"
                );
            }
            assert_eq!((&told["callers"], &told["errors"]), (&16.into(), &0.into()));
            assert_eq!(
                place.count("FROM events").await,
                0,
                "{arguments:?} cleans up after itself"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bench_leaves_rows_of_others_alone() {
    let place = Place::empty(Database::Sqlite);
    let persist = opened(&place).await;
    persist
        .record_job_state(JobUpdate::new(sample::id(1), Queued))
        .await
        .unwrap();
    persist.close().await.unwrap();
    let run = |more: &[&str]| {
        let fixed = [
            "--database-url",
            place.url(),
            "bench",
            "--seconds",
            "1",
            "--callers",
            "4",
        ];
        process::run(&mut process::persist([&fixed, more].concat()))
    };
    let refused = run(&[]);
    let refused = refused.exits(4);
    assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
    run(&["--yes"]).ok();
    assert_eq!(place.count("FROM events").await, 1, "that row alone is left");
}

#[test]
fn the_bench_needs_a_store() {
    let mut command = process::persist(["--database-url", "none:", "bench", "--seconds", "1"]);
    process::run(&mut command).exits(2);
}
