//! A server that freezes, restarts, refuses or has no connection left while it is in use. Numbers are those of the table of failures.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

mod retries;
mod spooled;

use std::time::{Duration, Instant};

use persist::{Error, ErrorKind, EventOrder, EventQuery, JobQuery, JobState, OnUnavailable, Persist};
use persist_tests::cluster::{self, Cluster, Options, Stop, shared};
use persist_tests::{process, sample, soak};

/// How much longer than its deadline a call may take on a busy machine.
const SLACK: Duration = Duration::from_secs(10);

async fn connect(url: &str, policy: OnUnavailable, connect: Duration) -> (Result<Persist, Error>, Duration) {
    let begun = Instant::now();
    let builder = Persist::builder(Some(url.to_owned())).deadlines(sample::deadlines(connect));
    (builder.on_unavailable(policy).connect().await, begun.elapsed())
}

/// A handle whose calls must succeed.
async fn patient(url: &str) -> Persist {
    connect(url, OnUnavailable::Fail, process::BOUND).await.0.unwrap()
}

/// A handle whose calls must end soon, onto a store that is migrated.
async fn hasty(url: &str, bound: Duration) -> Persist {
    let mut made = None;
    process::until("it connects within its short deadline", async || {
        made = connect(url, OnUnavailable::Fail, bound).await.0.ok();
        made.is_some()
    })
    .await;
    made.unwrap()
}

/// Ids of the server processes of a cluster that serve clients.
async fn serving(cluster: &Cluster) -> Vec<u32> {
    let mut connection = cluster::connect(&cluster.url("postgres")).await;
    let query =
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let pids: Vec<i32> = sqlx::query_scalar(query)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    pids.into_iter().map(i32::unsigned_abs).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn c6_calls_to_a_frozen_server_end_at_their_deadline() {
    let cluster = Cluster::start(&Options::default());
    let url = cluster.fresh_schema_url();
    let bound = Duration::from_millis(800);
    let patient = patient(&url).await;
    let persist = hasty(&url, bound).await;
    patient
        .record_job_state(sample::job(1, JobState::Queued))
        .await
        .unwrap();
    let frozen: Vec<_> = serving(&cluster)
        .await
        .into_iter()
        .chain([cluster.postmaster()])
        .collect();
    frozen.iter().for_each(|pid| process::signal(*pid, "STOP"));
    for n in 2..5 {
        let begun = Instant::now();
        let error = persist
            .record_job_state(sample::job(n, JobState::Queued))
            .await
            .unwrap_err();
        assert!(begun.elapsed() < bound + SLACK, "{:?}", begun.elapsed());
        let kinds = [
            ErrorKind::Timeout,
            ErrorKind::Busy,
            ErrorKind::Unavailable,
            ErrorKind::OutcomeUnknown,
        ];
        assert!(kinds.contains(&error.kind()), "{error:?}");
        let begun = Instant::now();
        assert!(
            persist.jobs(&JobQuery::default()).await.is_err(),
            "never an empty answer"
        );
        let health = persist.health().await;
        assert!(
            health.is_err() || health.is_ok_and(|health| health.last_error.is_some()),
            "health says so"
        );
        assert!(begun.elapsed() < bound * 2 + SLACK, "{:?}", begun.elapsed());
    }
    frozen.iter().rev().for_each(|pid| process::signal(*pid, "CONT"));
    process::until("it works again", async || {
        persist
            .record_job_state(sample::job(9, JobState::Queued))
            .await
            .is_ok()
    })
    .await;
    assert!(!patient.jobs(&JobQuery::default()).await.unwrap().items.is_empty());
    persist.close().await.unwrap();
    patient.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_the_next_call_after_an_idle_connection_was_ended_works() {
    let cluster = Cluster::start(&Options::default());
    let persist = patient(&cluster.fresh_schema_url()).await;
    for n in 1..6 {
        assert_eq!(
            persist
                .record_job_state(sample::job(n, JobState::Queued))
                .await
                .unwrap(),
            sample::CREATED
        );
        let page = persist.jobs(&JobQuery::default()).await.unwrap();
        assert_eq!(page.items.len() as u64, n);
        for pid in serving(&cluster).await {
            cluster.sql(&format!("SELECT pg_terminate_backend({pid})")).await;
        }
        process::until("all connections were ended", async || {
            serving(&cluster).await.is_empty()
        })
        .await;
    }
    persist.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn c10_restarts_under_load_give_only_retryable_errors() {
    let cluster = Cluster::start(&Options::default());
    let persist = patient(&cluster.fresh_schema_url()).await;
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let writer = tokio::spawn({
        let persist = persist.clone();
        async move {
            let mut applied = Vec::new();
            for n in 1.. {
                if *stopped.borrow_and_update() {
                    break;
                }
                match persist.record_job_state(sample::job(n, JobState::Queued)).await {
                    Ok(_) => applied.push(n),
                    Err(error) => {
                        assert!(error.is_retryable(), "{error:?}");
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }
            applied
        }
    });
    for how in [Stop::Fast, Stop::Immediate]
        .into_iter()
        .cycle()
        .take(soak::or(4, 50))
    {
        cluster.restart(how);
        process::until("it works again without a new client", async || {
            persist
                .record_job_state(sample::job(1_000_000, JobState::Queued))
                .await
                .is_ok()
        })
        .await;
    }
    stop.send(true).unwrap();
    for n in writer.await.unwrap() {
        assert!(
            persist.job(sample::id(n)).await.unwrap().is_some(),
            "job {n} was acknowledged and is gone"
        );
    }
    persist.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn c11_a_server_that_became_read_only_is_waited_for() {
    let cluster = Cluster::start(&Options::default());
    let url = cluster.fresh_schema_url();
    let patient = patient(&url).await;
    let persist = hasty(&url, Duration::from_millis(800)).await;
    assert_eq!(
        patient
            .record_job_state(sample::job(1, JobState::Queued))
            .await
            .unwrap(),
        sample::CREATED
    );
    cluster
        .sql("ALTER SYSTEM SET default_transaction_read_only = on")
        .await;
    cluster.sql("SELECT pg_reload_conf()").await;
    let mut refused = None;
    process::until("writes are refused", async || {
        let written = persist.record_job_state(sample::job(2, JobState::Queued)).await;
        refused = written.err();
        refused.is_some()
    })
    .await;
    let error = refused.unwrap();
    let kinds = [
        ErrorKind::ReadOnly,
        ErrorKind::Unavailable,
        ErrorKind::Timeout,
        ErrorKind::Busy,
    ];
    assert!(kinds.contains(&error.kind()), "{error:?}");
    // The connection that ALTER SYSTEM needs is the superuser's own.
    let mut connection = cluster::connect(&cluster.url("postgres")).await;
    for statement in [
        "SET default_transaction_read_only = off",
        "ALTER SYSTEM SET default_transaction_read_only = off",
        "SELECT pg_reload_conf()",
    ] {
        sqlx::Executor::execute(&mut connection, statement).await.unwrap();
    }
    process::until("it works again", async || {
        persist
            .record_job_state(sample::job(3, JobState::Queued))
            .await
            .is_ok()
    })
    .await;
    persist.close().await.unwrap();
    patient.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn t4_a_lock_that_others_hold_ends_the_call_at_its_deadline() {
    let url = shared().fresh_schema_url();
    let patient = patient(&url).await;
    let bound = Duration::from_millis(800);
    let persist = hasty(&url, bound).await;
    let schema = persist_tests::place::Place::at(url.clone()).schema();
    let mut other = cluster::connect(&url).await;
    let lock = format!("BEGIN; LOCK TABLE {schema}.events IN ACCESS EXCLUSIVE MODE");
    sqlx::Executor::execute(&mut other, sqlx::raw_sql(sqlx::AssertSqlSafe(lock)))
        .await
        .unwrap();
    let begun = Instant::now();
    let error = persist
        .record_job_state(sample::job(1, JobState::Queued))
        .await
        .unwrap_err();
    assert!(
        [ErrorKind::Busy, ErrorKind::Timeout].contains(&error.kind()),
        "{error:?}"
    );
    assert!(begun.elapsed() < bound + SLACK, "{:?}", begun.elapsed());
    sqlx::Executor::execute(&mut other, "ROLLBACK").await.unwrap();
    assert_eq!(
        patient
            .record_job_state(sample::job(1, JobState::Queued))
            .await
            .unwrap(),
        sample::CREATED
    );
    persist.close().await.unwrap();
    patient.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_a_server_without_a_connection_left_is_waited_for() {
    let options = Options::default().setting("max_connections", "6");
    let cluster = Cluster::start(&options.setting("superuser_reserved_connections", "2"));
    cluster
        .sql("CREATE ROLE ci LOGIN; CREATE SCHEMA ci AUTHORIZATION ci")
        .await;
    let url = format!("{}?persist_schema=ci", cluster.url_for("ci", "", "postgres"));
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.push(cluster::connect(&url).await);
    }
    let bound = Duration::from_secs(2);
    let (refused, took) = connect(&url, OnUnavailable::Fail, bound).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(took < bound + SLACK, "{took:?}");
    let policy = OnUnavailable::Retry {
        within: process::BOUND,
    };
    let waiting = tokio::spawn(async move { connect(&url, policy, process::BOUND).await.0 });
    tokio::task::yield_now().await;
    for connection in taken {
        sqlx::Connection::close(connection).await.unwrap();
    }
    let persist = waiting.await.unwrap().unwrap();
    // More callers than the server takes connections: all get through.
    let calls = (1..=32).map(|n| {
        let persist = persist.clone();
        tokio::spawn(async move { persist.record_job_state(sample::job(n, JobState::Queued)).await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().unwrap().name(), "applied");
    }
    persist.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn r1_more_callers_than_connections_all_get_through() {
    let url = shared().fresh_schema_url();
    let builder = || Persist::builder(Some(url.clone())).on_unavailable(OnUnavailable::Fail);
    let persist = builder()
        .deadlines(sample::deadlines(process::BOUND))
        .connections(1);
    let persist = persist.connect().await.unwrap();
    let record = |persist: &Persist, n| {
        let persist = persist.clone();
        tokio::spawn(async move { persist.record_job_state(sample::job(n, JobState::Queued)).await })
    };
    for call in (1..=64).map(|n| record(&persist, n)).collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().unwrap(), sample::CREATED);
    }
    persist.close().await.unwrap();
    // While a read holds the only connection, others wait no longer than it may take to get one, and updates do
    // not wait at all: theirs are of their own.
    let mut short = sample::deadlines(process::BOUND);
    short.connect = Duration::from_secs(3);
    let persist = builder().deadlines(short).connections(1);
    let persist = persist.connect().await.unwrap();
    let schema = persist_tests::place::Place::at(url.clone()).schema();
    let mut other = cluster::connect(&url).await;
    let lock = format!("BEGIN; LOCK TABLE {schema}.persist_meta IN ACCESS EXCLUSIVE MODE");
    sqlx::Executor::execute(&mut other, sqlx::raw_sql(sqlx::AssertSqlSafe(lock)))
        .await
        .unwrap();
    let reader = persist.clone();
    let history = EventQuery::default().order(EventOrder::BySeq);
    let holder = tokio::spawn(async move { reader.events(&history).await });
    let waits = format!(
        "SELECT count(*) FROM pg_locks WHERE relation = '{schema}.persist_meta'::regclass AND NOT granted"
    );
    process::until("the read holds the connection", async || {
        let waits = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(waits.clone()));
        waits.fetch_one(&mut other).await.unwrap() > 0
    })
    .await;
    assert_eq!(record(&persist, 65).await.unwrap().unwrap(), sample::CREATED);
    let error = persist.jobs(&JobQuery::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error:?}");
    assert!(
        error.to_string().contains("pool of 1, all in use, 1 waiting"),
        "{error}"
    );
    sqlx::Executor::execute(&mut other, "ROLLBACK").await.unwrap();
    assert_eq!(holder.await.unwrap().unwrap().items.len(), 50);
    persist.close().await.unwrap();
}
