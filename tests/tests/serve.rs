//! `persist serve` as a process: how it starts, what it refuses, a database that goes and comes back, how it ends.

#[path = "serve/asked.rs"]
mod asked;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use asked::get;
use persist::{JobState, JobUpdate, OnUnavailable, Persist};
use persist_tests::cluster::{Cluster, Options, Stop};
use persist_tests::place::{Database, Place};
use persist_tests::process::{self, Running, persist};
use persist_tests::sample;

fn serving(url: &str) -> (Running, String) {
    let running = Running::start(&mut persist([
        "--database-url",
        url,
        "serve",
        "--listen",
        "127.0.0.1:0",
    ]));
    let address = running.line().expect("it tells its address");
    (running, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_pages_json_and_metrics_and_ends_in_order_with_streams_open() {
    for database in Database::BOTH {
        let place = Place::empty(database);
        let backend = place.migrated().await.unwrap();
        backend
            .apply(&[sample::job(1, JobState::Running)
                .check(&persist::SystemClock)
                .unwrap()])
            .await
            .unwrap();
        for signal in ["TERM", "INT"] {
            let (running, address) = serving(place.url());
            assert!(
                get(&address, "").contains(&sample::id(1).to_string()),
                "{database:?}"
            );
            assert!(
                get(&address, "readyz").starts_with("HTTP/1.1 200"),
                "{database:?}"
            );
            let printed = process::run(&mut persist([
                "--database-url",
                place.url(),
                "--format",
                "json",
                "jobs",
            ]))
            .ok();
            let answered = get(&address, "api/v1/jobs");
            assert!(
                answered.ends_with(printed.stdout.trim_end()),
                "as the program prints it: {answered}"
            );
            let metrics = get(&address, "metrics");
            let operations = "persist_operation_duration_seconds_count";
            assert!(metrics.contains(operations), "{database:?}: {metrics}");
            assert!(metrics.contains("operation=\"jobs\""), "{database:?}: {metrics}");

            let host = address.trim_start_matches("http://").trim_end_matches('/');
            let mut stream = TcpStream::connect(host).unwrap();
            stream.set_read_timeout(Some(process::BOUND)).unwrap();
            write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
            let mut first = [0; 12];
            stream.read_exact(&mut first).unwrap();
            assert_eq!(&first, b"HTTP/1.1 200");
            process::signal(running.id(), signal);
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap();
            assert!(rest.ends_with(b"0\r\n\r\n"), "the stream has its end");
            running.end().ok();
        }
        backend.close().await.unwrap();
    }
}

/// The store goes while it is looked at, and comes back: an error that says so, and then the rows again.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stops_is_told_and_one_that_comes_back_is_read_again() {
    let cluster = Cluster::start(&Options::default());
    let url = cluster.fresh_schema_url();
    let made = Persist::builder(Some(url.clone())).on_unavailable(OnUnavailable::Fail);
    let made = made.connect().await.unwrap();
    made.record_job_state(JobUpdate::new(sample::id(1), JobState::Running))
        .await
        .unwrap();
    made.close().await.unwrap();
    let (running, address) = serving(&url);
    assert!(get(&address, "api/v1/jobs").starts_with("HTTP/1.1 200"));
    cluster.stop(Stop::Immediate);
    for path in ["", "vms", "api/v1/jobs", "readyz"] {
        let answer = get(&address, path);
        assert!(answer.starts_with("HTTP/1.1 503"), "{path}: {answer}");
        assert!(
            !answer.contains("The store is empty") && !answer.contains("\"items\":[]"),
            "{path}: {answer}"
        );
    }
    assert!(get(&address, "healthz").starts_with("HTTP/1.1 200"));
    cluster.resume();
    process::until("it is read again", async || {
        let answer = get(&address, "");
        answer.starts_with("HTTP/1.1 200") && answer.contains(&sample::id(1).to_string())
    })
    .await;
    process::signal(running.id(), "TERM");
    let ran = running.end().ok();
    assert!(!ran.stderr.contains("password"), "{}", ran.stderr);
}

#[test]
fn what_others_reach_must_be_meant() {
    let refused = |listen: &str| {
        process::run(&mut persist([
            "--database-url",
            "memory:",
            "serve",
            "--listen",
            listen,
        ]))
    };
    let ran = refused("0.0.0.0:0").exits(2);
    assert!(ran.stderr.contains("--public"), "{}", ran.stderr);
    let ran = process::run(&mut persist([
        "--database-url",
        "postgres://me:hunter2@[",
        "serve",
        "--listen",
        "127.0.0.1:0",
    ]))
    .exits(2);
    assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    let running = Running::start(&mut persist([
        "--database-url",
        "memory:",
        "serve",
        "--listen",
        "0.0.0.0:0",
        "--public",
    ]));
    let address = running.line().unwrap().replace("0.0.0.0", "127.0.0.1");
    assert!(get(&address, "").starts_with("HTTP/1.1 200"));
    process::signal(running.id(), "TERM");
    let ran = running.end().ok();
    assert!(
        ran.stderr.contains("WARNING") && ran.stderr.contains("no authentication"),
        "{}",
        ran.stderr
    );
}

#[test]
fn an_address_that_is_taken_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ran = process::run(&mut persist([
        "--database-url",
        "memory:",
        "serve",
        "--listen",
        &address,
    ]))
    .exits(1);
    assert!(ran.stderr.contains("can't listen"), "{}", ran.stderr);
}
