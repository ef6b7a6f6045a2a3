//! `persist bench` from end to end.

use std::sync::Arc;

use persist_core::JobState::Queued;
use persist_core::JobUpdate;
use persist_tests::place::{Database, Place};
use persist_tests::{process, sample};
use serde_json::Value;

use crate::load::opened;

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
