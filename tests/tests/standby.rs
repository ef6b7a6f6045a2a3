//! A second server that follows the first. Numbers are those of the table of failures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use persist::{ErrorKind, JobState, OnUnavailable, Persist};
use persist_tests::cluster::{Cluster, Options, Stop};
use persist_tests::place::{self, Place};
use persist_tests::proxy::Proxy;
use persist_tests::{process, sample};

/// A standby answers queries, with what was true some time ago: whoever wrote a job and asks for it there would be told
/// that there is none.
#[tokio::test(flavor = "multi_thread")]
async fn x9_a_standby_that_is_behind_is_not_read() {
    let cluster = Cluster::start(&Options::default());
    let url = cluster.fresh_schema_url();
    let place = Place::at(url.clone());
    let backend = place.migrated().await.unwrap();
    // From now on, so that it lacks the rows alone: without tables it would not be read anyway.
    let standby = cluster.standby(Duration::from_secs(3_600));
    let claims = sample::claims([sample::job(1, JobState::Queued)]).unwrap();
    backend.apply(&claims).await.unwrap();
    assert!(backend.job(sample::id(1)).await.unwrap().is_some());
    backend.close().await.unwrap();

    let mut url = url::Url::parse(&url).unwrap();
    url.set_port(Some(standby.port())).unwrap();
    let refused = Persist::builder(Some(url.to_string()))
        .on_unavailable(OnUnavailable::Fail)
        .migrate(false)
        .connect()
        .await;
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error:?}");
    assert!(error.to_string().contains("standby"), "{error}");
}

/// The primary is lost and the standby takes its place behind the same address: whoever waited for an answer gets one, and
/// what was told by the first server is in the second.
#[tokio::test(flavor = "multi_thread")]
async fn c11_a_failover_to_a_synchronous_standby_loses_nothing_that_was_told() {
    let cluster = Cluster::start(&Options::default());
    let standby = cluster.standby(Duration::ZERO);
    cluster
        .sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        .await;
    cluster.sql("SELECT pg_reload_conf()").await;
    let proxy = Proxy::start(cluster.port()).await;
    let url = cluster.fresh_schema_url();
    let persist = Persist::builder(Some(proxy.url(&url)))
        .on_unavailable(OnUnavailable::Retry {
            within: process::BOUND,
        })
        .connect()
        .await
        .unwrap();
    let (told, goal) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(u64::MAX)));
    let callers: Vec<_> = (0..16u64)
        .map(|caller| {
            let (persist, told, goal) = (persist.clone(), Arc::clone(&told), Arc::clone(&goal));
            tokio::spawn(async move {
                let mut mine = 0;
                while told.load(Ordering::SeqCst) < goal.load(Ordering::SeqCst) {
                    let job = sample::job(caller * 100_000 + mine + 1, JobState::Queued);
                    persist.record_job_state(job).await.unwrap();
                    mine += 1;
                    told.fetch_add(1, Ordering::SeqCst);
                }
                (caller, mine)
            })
        })
        .collect();
    process::until("it is at work", async || told.load(Ordering::SeqCst) > 200).await;
    cluster.stop(Stop::Immediate);
    standby.promote();
    // Nobody waits for a standby of the new primary.
    proxy.lead_to(standby.port());
    goal.store(told.load(Ordering::SeqCst) + 500, Ordering::SeqCst);
    for caller in callers {
        let (caller, recorded) = caller.await.unwrap();
        for n in 0..recorded {
            let id = sample::id(caller * 100_000 + n + 1);
            assert!(persist.job(id).await.unwrap().is_some(), "{caller}: {n}");
        }
    }
    place::fold_holds(&persist.backend()).await;
    persist.close().await.unwrap();
}
