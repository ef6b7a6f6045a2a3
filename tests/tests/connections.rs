//! A server that is away, late, unknown, frozen or restarting. Numbers are those of the table of failures.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

mod certificates;
mod poolers;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use persist::{Error, ErrorKind, JobQuery, JobState, Mode, OnUnavailable, Outcome, Persist};
use persist_tests::cluster::{self, Cluster, Options, Stop};
use persist_tests::place::Place;
use persist_tests::process;
use persist_tests::sample;

/// How much longer than its deadline a call may take on a busy machine.
const SLACK: Duration = Duration::from_secs(10);

async fn connect(url: &str, policy: OnUnavailable, connect: Duration) -> (Result<Persist, Error>, Duration) {
    let begun = Instant::now();
    let builder = Persist::builder(Some(url.to_owned())).deadlines(sample::deadlines(connect));
    (builder.on_unavailable(policy).connect().await, begun.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_without_a_server_every_policy_ends_in_its_time() {
    let url = format!("postgres://ci:hunter2@127.0.0.1:{}/ci", cluster::free_port());
    let bound = Duration::from_millis(700);
    let (refused, took) = connect(&url, OnUnavailable::Fail, bound).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(took < bound + SLACK, "{took:?}");
    let within = Duration::from_millis(1_500);
    let (refused, took) = connect(&url, OnUnavailable::Retry { within }, bound).await;
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(took > bound && took < within + SLACK, "{took:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let (persist, took) = connect(&url, OnUnavailable::BestEffort, bound).await;
    let persist = persist.unwrap();
    assert!(took < bound + SLACK && !persist.is_enabled(), "{took:?}");
    let outcome = persist
        .record_job_state(sample::job(1, JobState::Queued))
        .await
        .unwrap();
    assert_eq!(outcome, Outcome::Dropped);
    // Never an empty list: somebody may act on it.
    assert_eq!(
        persist.jobs(&JobQuery::default()).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    let health = persist.health().await.unwrap();
    assert_eq!((health.mode, health.dropped), (Mode::Degraded, 1));
    persist.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_a_server_that_starts_later_is_waited_for() {
    let cluster = Cluster::start(&Options::default());
    let url = cluster.fresh_schema_url();
    cluster.stop(Stop::Fast);
    let policy = OnUnavailable::Retry {
        within: process::BOUND,
    };
    let waiting = tokio::spawn(async move { connect(&url, policy, process::BOUND).await });
    let best_effort = Persist::builder(Some(cluster.fresh_schema_url()));
    let mut short_only_to_connect = sample::deadlines(process::BOUND);
    short_only_to_connect.connect = Duration::from_secs(5);
    let best_effort = best_effort.deadlines(short_only_to_connect);
    let best_effort = best_effort
        .on_unavailable(OnUnavailable::BestEffort)
        .connect()
        .await
        .unwrap();
    assert!(!waiting.is_finished() && !best_effort.is_enabled());
    cluster.resume();
    let persist = waiting.await.unwrap().0.unwrap();
    assert_eq!(
        persist
            .record_job_state(sample::job(1, JobState::Queued))
            .await
            .unwrap(),
        sample::CREATED
    );
    // What had started without it turns itself on.
    process::until("it heals itself", async || best_effort.is_enabled()).await;
    assert_eq!(
        best_effort
            .record_job_state(sample::job(1, JobState::Queued))
            .await
            .unwrap(),
        sample::CREATED
    );
    best_effort.close().await.unwrap();
    persist.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_an_unknown_host_is_named_quickly_and_without_the_password() {
    let url = "postgres://ci:hunter2@no-such-host.invalid/ci";
    let bound = Duration::from_secs(2);
    let (refused, took) = connect(url, OnUnavailable::Fail, bound).await;
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(took < bound + SLACK, "{took:?}");
    let text = format!("{error}");
    assert!(text.contains("no-such-host.invalid"), "{text}");
    assert!(!format!("{error:?} {text}").contains("hunter2"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_wrong_password_database_and_role_end_at_once() {
    let cluster = Cluster::start(&Options::default().password("right word"));
    let wrong = [
        cluster.url_for("postgres", "hunter2", "postgres"),
        cluster.url_for("postgres", "", "postgres"),
        cluster.url_for("nobody_here", "hunter2", "postgres"),
        cluster.url_for("postgres", "right word", "no_such_database"),
    ];
    for url in &wrong {
        for policy in [
            OnUnavailable::Fail,
            OnUnavailable::Retry {
                within: process::BOUND,
            },
        ] {
            let (refused, took) = connect(url, policy, Duration::from_secs(10)).await;
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
            assert!(took < SLACK, "it does not heal by waiting: {took:?}");
            let text = format!("{error} {error:?}");
            assert!(
                !text.contains("hunter2") && !text.contains("right word"),
                "{text}"
            );
        }
        let begun = Instant::now();
        let persist = Persist::new(Some(url.clone())).await.unwrap();
        assert!(
            !persist.is_enabled() && begun.elapsed() < SLACK,
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(
            persist.health().await.unwrap().last_error.as_deref(),
            Some("auth")
        );
        let outcome = persist
            .record_job_state(sample::job(1, JobState::Queued))
            .await
            .unwrap();
        assert_eq!(outcome, Outcome::Dropped);
        persist.close().await.unwrap();
    }
    let right = cluster.url("postgres");
    connect(&right, OnUnavailable::Fail, process::BOUND)
        .await
        .0
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_a_peer_that_never_answers_is_given_up_at_the_connect_deadline() {
    // The kernel takes the connection, nobody else does.
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!(
        "postgres://ci:hunter2@127.0.0.1:{}/ci",
        silent.local_addr().unwrap().port()
    );
    let bound = Duration::from_millis(700);
    let (refused, took) = connect(&url, OnUnavailable::Fail, bound).await;
    let error = refused.unwrap_err();
    assert!(
        [ErrorKind::Unavailable, ErrorKind::Timeout].contains(&error.kind()),
        "{error:?}"
    );
    assert!(took < bound + SLACK, "{took:?}");
    let (persist, took) = connect(&url, OnUnavailable::BestEffort, bound).await;
    assert!(took < bound + SLACK && !persist.unwrap().is_enabled(), "{took:?}");
}

/// Where history is optional, what is missing afterwards is what was counted: an update that is told as dropped is in
/// `dropped`, and not there, or in `unknown`, and perhaps there.
#[tokio::test(flavor = "multi_thread")]
async fn c10_what_is_missing_of_a_best_effort_is_what_was_counted() {
    let cluster = Cluster::start(&Options::default());
    let url = cluster.fresh_schema_url();
    let place = Place::at(url.clone());
    let (persist, _) = connect(&url, OnUnavailable::BestEffort, Duration::from_secs(2)).await;
    let persist = persist.unwrap();
    process::until("it is on", async || persist.is_enabled()).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let callers: Vec<_> = (0..32u64)
        .map(|caller| {
            let (persist, stopped) = (persist.clone(), stopped.clone());
            tokio::spawn(async move {
                let (mut stored, mut dropped) = (Vec::new(), 0);
                for n in 1.. {
                    if *stopped.borrow() {
                        break;
                    }
                    let id = caller * 10_000_000 + n;
                    match persist
                        .record_job_state(sample::job(id, JobState::Queued))
                        .await
                        .unwrap()
                    {
                        // Dropped at once: others want the processor too.
                        Outcome::Dropped => {
                            dropped += 1;
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        outcome => {
                            assert_eq!(outcome, sample::CREATED);
                            stored.push(sample::id(id).to_string());
                        }
                    }
                }
                (stored, dropped)
            })
        })
        .collect();
    let ready = async |mode: Mode| {
        process::until("it notices by itself", async || {
            persist.health().await.is_ok_and(|health| health.mode == mode)
        })
        .await;
    };
    // Refused, and frozen in the middle of a call.
    cluster.stop(Stop::Immediate);
    ready(Mode::Degraded).await;
    cluster.resume();
    ready(Mode::Ready).await;
    // No new processes first, so that none is missed.
    let mut before = cluster::connect(&cluster.url("postgres")).await;
    process::signal(cluster.postmaster(), "STOP");
    let served =
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let served: Vec<i32> = sqlx::query_scalar(served).fetch_all(&mut before).await.unwrap();
    let mut frozen: Vec<u32> = served.iter().map(|pid| pid.unsigned_abs()).collect();
    for pid in &frozen {
        process::signal(*pid, "STOP");
    }
    frozen.push(cluster.postmaster());
    ready(Mode::Degraded).await;
    for pid in &frozen {
        // Some were given up, and have ended.
        if process::is_alive(*pid) {
            process::signal(*pid, "CONT");
        }
    }
    ready(Mode::Ready).await;
    stop.send(true).unwrap();
    let (mut stored, mut dropped) = (BTreeSet::new(), 0);
    for caller in callers {
        let (of_caller, dropped_of_caller) = caller.await.unwrap();
        stored.extend(of_caller);
        dropped += dropped_of_caller;
    }
    let health = persist.health().await.unwrap();
    assert_eq!(health.dropped + health.unknown, dropped, "{health:?}");
    assert!(
        health.dropped > 0 && health.unknown > 0,
        "both happened: {health:?}"
    );
    let there: BTreeSet<_> = place
        .texts("SELECT CAST(request_id AS text) FROM jobs")
        .await
        .into_iter()
        .collect();
    assert!(there.is_superset(&stored), "what was told is there");
    let extra = there.len() - stored.len();
    assert!(
        extra as u64 <= health.unknown,
        "{extra} more than told: {health:?}"
    );
    persist.close().await.unwrap();
}
