//! `persist bench` from end to end.

use std::sync::Arc;

use persist_core::JobState::Queued;
use persist_core::{JobUpdate, VmState, VmUpdate};
use persist_tests::place::{Database, Place};
use persist_tests::{process, sample, soak};
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
                "littles_law_us",
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

/// More callers than a commit has updates, to as many as fill half of the queue: all are served, and nothing fails.
#[tokio::test(flavor = "multi_thread")]
async fn the_bench_has_no_errors_with_thousands_of_callers() {
    let asked = soak::or("256,4096", "64,256,1024,4096");
    for database in Database::BOTH {
        let place = Place::empty(database);
        let fixed = ["--database-url", place.url(), "--format", "jsonl", "bench"];
        let load = ["--seconds", "1", "--callers", asked];
        let ran = process::run(&mut process::persist([&fixed[..], &load].concat())).ok();
        let runs: Vec<Value> = ran
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let callers: Vec<_> = runs.iter().map(|run| run["callers"].to_string()).collect();
        assert_eq!(callers.join(","), asked);
        for run in runs {
            assert_eq!(run["errors"], 0, "{run}");
            let figure = |name: &str| run[name].as_f64().unwrap();
            let by_law = figure("callers") / figure("updates_per_second") * 1e6;
            assert!((figure("littles_law_us") / by_law - 1.0).abs() < 0.001, "{run}");
        }
    }
}

/// A row of another job that nobody can read is no business of the benchmark's.
#[tokio::test(flavor = "multi_thread")]
async fn the_bench_reads_no_history_of_others() {
    for database in Database::BOTH {
        let place = Place::empty(database);
        let persist = opened(&place).await;
        persist.record_job_state(sample::job(1, Queued)).await.unwrap();
        persist.close().await.unwrap();
        let allow = match database {
            Database::Postgres => "ALTER TABLE events DROP CONSTRAINT events_state; ",
            Database::Sqlite => "PRAGMA ignore_check_constraints = ON; ",
        };
        place
            .execute(&format!("{allow}UPDATE events SET state = 'paused'"))
            .await;
        assert!(place.export().await.is_err(), "who reads it fails");
        assert_eq!(bench(&place, &["--callers", "4", "--yes"])["errors"], 0);
    }
}

/// Its figures come first, then what is left and what to do; the next run removes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_bench_that_cannot_clean_up_tells_its_figures_and_what_is_left() {
    let place = Place::empty(Database::Postgres);
    place.migrated().await.unwrap().close().await.unwrap();
    let forbid = "CREATE FUNCTION stays() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                  RAISE EXCEPTION 'stays' USING ERRCODE = '42501'; END $$; \
                  CREATE TRIGGER stays BEFORE DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION stays()";
    place.execute(forbid).await;
    let fixed = ["--database-url", place.url(), "--format", "json", "bench"];
    let run = || {
        let load = ["--seconds", "1", "--callers", "4,8"];
        process::run(&mut process::persist([&fixed[..], &load].concat()))
    };
    let ran = run().exits(5);
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(told["callers"], 4, "the first run alone");
    for part in ["0 jobs are gone", "left; persist bench removes them before"] {
        assert!(ran.stderr.contains(part), "{part} is not in: {}", ran.stderr);
    }
    assert!(place.count("FROM jobs").await > 0);
    run().exits(5);
    place.execute("DROP TRIGGER stays ON jobs").await;
    run().ok();
    assert_eq!(place.count("FROM events").await, 0);
}

/// As a run leaves it that was killed between the updates of a VM and of its job.
#[tokio::test(flavor = "multi_thread")]
async fn the_bench_removes_its_vms_whose_job_never_came() {
    let id = uuid::uuid!("be9cbec4-be9c-8000-8000-000000000005");
    for database in Database::BOTH {
        let place = Place::empty(database);
        let persist = opened(&place).await;
        let alone = VmUpdate::new(id, "vm-4", VmState::Running);
        persist.record_vm_event(alone).await.unwrap();
        persist.close().await.unwrap();
        assert_eq!(bench(&place, &["--callers", "4"])["errors"], 0);
        assert_eq!(place.count("FROM vms").await, 0);
        assert_eq!(place.count("FROM events").await, 0);
    }
}

#[test]
fn the_bench_needs_a_store() {
    let mut command = process::persist(["--database-url", "none:", "bench", "--seconds", "1"]);
    process::run(&mut command).exits(2);
}
