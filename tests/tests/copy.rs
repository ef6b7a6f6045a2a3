//! `persist copy` between the databases: killed and run again, beside writers, with what differs told.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use persist_core::JobState::{self, Failed, Queued, Succeeded};
use persist_core::PersistBackend;
use persist_tests::place::{Database, Place};
use persist_tests::process::{self, Ran, Running};
use persist_tests::sample::{claims, id, job};
use persist_tests::soak;
use serde_json::Value;

fn copy(from: &Place, to: &Place) -> Ran {
    process::run(&mut process::persist([
        "--format",
        "json",
        "copy",
        from.url(),
        to.url(),
    ]))
}

fn one(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

fn directions() -> [(Place, Place); 2] {
    let place = Place::empty;
    [
        (place(Database::Sqlite), place(Database::Postgres)),
        (place(Database::Postgres), place(Database::Sqlite)),
    ]
}

async fn lives(backend: &Arc<dyn PersistBackend>, jobs: std::ops::Range<u64>) {
    let updates = jobs.flat_map(|n| {
        [
            job(n, Queued).runs_on("large"),
            job(n, JobState::Running),
            job(n, Succeeded),
        ]
    });
    backend.apply(&claims(updates).unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_beside_a_writer_is_killed_twice_and_ends_equal() {
    let jobs = soak::or(8_000, 330_000);
    for (from, to) in directions() {
        let source = from.migrated().await.unwrap();
        to.migrated().await.unwrap().close().await.unwrap();
        for first in (1..=jobs).step_by(1_000) {
            lives(&source, first..(first + 1_000).min(jobs + 1)).await;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicU64::new(0));
        let writer = {
            let (source, stop, written) = (Arc::clone(&source), Arc::clone(&stop), Arc::clone(&written));
            tokio::spawn(async move {
                let mut n = 1_000_000;
                while !stop.load(Ordering::Relaxed) {
                    // Among those that were read already, and behind them.
                    let before = n % jobs + 1;
                    let updates = [
                        job(before, Queued).attempt(2),
                        job(n, Queued),
                        job(before, JobState::Running).actor("late"),
                    ];
                    source.apply(&claims(updates).unwrap()).await.unwrap();
                    written.fetch_add(1, Ordering::Relaxed);
                    n += 1;
                }
            })
        };
        let mark = "SELECT value FROM persist_meta WHERE key LIKE 'mark:copy:%'";
        for _ in 0..2 {
            let before = to.texts(mark).await;
            let mut child = Running::start(&mut process::persist(["copy", from.url(), to.url()]));
            process::until("the place of the copy moves on", async || {
                to.texts(mark).await != before
            })
            .await;
            child.kill();
        }
        let before = written.load(Ordering::Relaxed);
        let live = one(&copy(&from, &to).ok());
        assert_eq!(live["proven"], true, "{live}");
        process::until("the writer goes on", async || {
            written.load(Ordering::Relaxed) > before
        })
        .await;
        stop.store(true, Ordering::Relaxed);
        writer.await.unwrap();
        source.close().await.unwrap();

        let quiet = one(&copy(&from, &to).ok());
        assert_eq!(
            (&quiet["equal"], &quiet["proven"]),
            (&true.into(), &true.into()),
            "{quiet}"
        );
        if jobs == 8_000 {
            assert_eq!(from.export().await.unwrap(), to.export().await.unwrap());
        }
        let ids = "SELECT value FROM persist_meta WHERE key = 'instance_id'";
        assert_ne!(
            from.texts(ids).await,
            to.texts(ids).await,
            "the identity is not copied"
        );
        assert_eq!(to.strays().await, [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_is_listed_and_left_and_the_rest_is_copied() {
    for (from, to) in directions() {
        let (source, target) = (from.migrated().await.unwrap(), to.migrated().await.unwrap());
        source
            .apply(&claims([job(1, Failed), job(2, Failed)]).unwrap())
            .await
            .unwrap();
        target.apply(&claims([job(1, Succeeded)]).unwrap()).await.unwrap();
        source.close().await.unwrap();
        target.close().await.unwrap();
        let told = one(&copy(&from, &to).exits(4));
        let conflicts = told["conflicts"].as_array().unwrap();
        assert_eq!(conflicts.len(), 1, "{told}");
        assert_eq!(conflicts[0]["request_id"], id(1).to_string());
        assert_eq!(
            (&conflicts[0]["state"], &conflicts[0]["column"]),
            (&"failed".into(), &"state".into())
        );
        let table = process::run(&mut process::persist(["copy", from.url(), to.url()])).exits(4);
        assert!(
            table.stdout.contains("DIFFERS IN") && table.stdout.contains("1 differ"),
            "{}",
            table.stdout
        );
        assert_eq!(to.export().await.unwrap().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_not_copied_onto_itself_and_a_missing_one_is_not_made() {
    let (from, missing) = (Place::empty(Database::Sqlite), Place::empty(Database::Sqlite));
    from.migrated().await.unwrap().close().await.unwrap();
    let same = copy(&from, &from).exits(1);
    assert!(
        same.stderr.contains("is the store that is copied"),
        "{}",
        same.stderr
    );
    let none = copy(&missing, &from).exits(5);
    assert!(none.stderr.contains("does not exist"), "{}", none.stderr);
    let variable = process::run(&mut process::persist([
        "copy",
        "env:NO_SUCH_VARIABLE",
        from.url(),
    ]))
    .exits(2);
    assert!(
        variable.stderr.contains("NO_SUCH_VARIABLE"),
        "{}",
        variable.stderr
    );
    let mut by_variable = process::persist(["copy", "env:FROM_URL", missing.url()]);
    process::run(by_variable.env("FROM_URL", from.url())).ok();
}

/// Each of them writes all the time, so that there is always something that changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_beside_many_writers_comes_to_its_end() {
    for (from, to) in directions() {
        let source = from.migrated().await.unwrap();
        to.migrated().await.unwrap().close().await.unwrap();
        lives(&source, 1..500).await;
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let writers: Vec<_> = (0..32)
            .map(|writer| {
                let (source, stop, written) = (Arc::clone(&source), Arc::clone(&stop), Arc::clone(&written));
                tokio::spawn(async move {
                    let mut n = (writer + 1) << 32;
                    while !stop.load(Ordering::Relaxed) {
                        // A machine that is too slow for it writes less.
                        let applied = source.apply(&claims([job(n, Queued)]).unwrap()).await;
                        written.fetch_add(u64::from(applied.is_ok()), Ordering::Relaxed);
                        n += 1;
                        // So that what is to be copied does not grow with the time that it takes.
                        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                    }
                })
            })
            .collect();
        let (from, to) = (from.url().to_owned(), to.url().to_owned());
        let before = written.load(Ordering::Relaxed);
        let copied = tokio::task::spawn_blocking(move || {
            process::run(&mut process::persist(["--format", "json", "copy", &from, &to]))
        });
        let copied = tokio::time::timeout(std::time::Duration::from_secs(120), copied).await;
        let beside = written.load(Ordering::Relaxed) - before;
        assert!(beside >= 32, "{beside} updates were written while it copied");
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
        let copied = one(&copied.expect("it ends while they write").unwrap().ok());
        assert_eq!(
            (&copied["proven"], &copied["conflicting"]),
            (&Value::from(true), &0.into())
        );
        source.close().await.unwrap();
    }
}
