//! Servers that go away, stay away or come back as another one, under a spool; and its commands.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use persist::{
    ErrorKind, JobQuery, JobState, Mode, OnUnavailable, Outbox as _, OutboxConfig, Outcome, Persist, Spool,
    SpoolHealth, SqliteOutbox, Update, jsonl,
};
use persist_tests::cluster::{self, Cluster, Options, Stop, shared};
use persist_tests::place::{self, Database, Place};
use persist_tests::process::{self, Ran};
use persist_tests::{sample, soak};
use serde_json::{Value, json};
use tokio::task::JoinSet;

async fn spooling(url: &str, path: &Path, bound: Duration) -> persist::Result<Persist> {
    let builder = Persist::builder(Some(url.to_owned())).deadlines(sample::deadlines(bound));
    builder
        .on_unavailable(OnUnavailable::Spool(Spool::new(path)))
        .connect()
        .await
}

async fn held(persist: &Persist) -> Option<SpoolHealth> {
    persist.health().await.ok()?.spool
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool.db");
    (folder, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn c10_a_server_that_stops_under_64_callers_costs_a_spool_nothing() {
    let cluster = Cluster::start(&Options::default());
    let url = cluster.fresh_schema_url();
    let (_folder, path) = place();
    let persist = spooling(&url, &path, process::BOUND).await.unwrap();
    let next = Arc::new(AtomicU64::new(1));
    let (direct, spooled) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let caller = || {
        let (persist, next, stop) = (persist.clone(), Arc::clone(&next), Arc::clone(&stop));
        let (direct, spooled) = (Arc::clone(&direct), Arc::clone(&spooled));
        tokio::spawn(async move {
            let mut told = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                for state in [JobState::Queued, JobState::Succeeded] {
                    // An error would be an update that is lost.
                    let outcome = persist
                        .record_job_state(sample::job(number, state))
                        .await
                        .unwrap();
                    let count = if outcome == Outcome::Spooled {
                        &spooled
                    } else {
                        &direct
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                    told.push((number, state));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            told
        })
    };
    let callers: Vec<_> = (0..64).map(|_| caller()).collect();
    let reaches = async |count: &AtomicU64, many: u64| {
        let goal = count.load(Ordering::Relaxed) + many;
        process::until("updates are recorded", async || {
            count.load(Ordering::Relaxed) >= goal
        })
        .await;
    };
    reaches(&direct, 300).await;
    for how in [Stop::Immediate, Stop::Fast] {
        cluster.stop(how);
        reaches(&spooled, 500).await;
        let error = persist.jobs(&JobQuery::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "never an empty answer");
        cluster.resume();
        // It heals while it is written to: new ones go direct, and what waits beside them.
        process::until("it drains under load", async || {
            held(&persist).await.is_some_and(|spool| spool.held.waiting == 0)
                && persist.health().await.unwrap().mode == Mode::Ready
        })
        .await;
        reaches(&direct, 300).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut told = Vec::new();
    for caller in callers {
        told.extend(caller.await.unwrap());
    }
    process::until("the spool is empty", async || {
        held(&persist).await.is_some_and(|spool| spool.held.waiting == 0)
    })
    .await;
    let spool = held(&persist).await.unwrap();
    assert_eq!((spool.rejected, spool.refused, spool.held.dead), (0, 0, 0));
    assert_eq!(spool.replayed, spool.spooled);
    let place = Place::at(url);
    assert_eq!(place.strays().await, [""; 0]);
    assert_eq!(
        place.count("FROM events").await,
        told.len() as u64,
        "none is missing, none twice"
    );
    let backend = persist.backend();
    for (number, state) in told {
        let job = persist
            .job(sample::id(number))
            .await
            .unwrap()
            .expect("was acknowledged");
        assert!(job.state == JobState::Succeeded || job.state == state);
    }
    place::fold_holds(&backend).await;
    persist.close().await.unwrap();
}

/// With `make soak` for a minute.
#[tokio::test(flavor = "multi_thread")]
async fn c10_1000_updates_a_second_to_a_spool_while_the_server_is_stopped_are_all_there() {
    const A_SECOND: usize = 1_000;
    let seconds = soak::or(3, 60);
    let cluster = Cluster::start(&Options::default());
    let url = cluster.fresh_schema_url();
    let (_folder, path) = place();
    let persist = spooling(&url, &path, process::BOUND).await.unwrap();
    let updates = sample::day(1_000, (seconds as u64 + 2) * 200);
    let mut clock = tokio::time::interval(Duration::from_millis(1));
    let (mut calls, mut next) = (JoinSet::new(), updates.iter().cloned());
    let mut say = async |count: usize| {
        for update in next.by_ref().take(count) {
            clock.tick().await;
            let persist = persist.clone();
            calls.spawn(async move {
                match update {
                    Update::Job(update) => persist.record_job_state(update).await,
                    Update::Vm(update) => persist.record_vm_event(update).await,
                }
            });
        }
    };
    say(A_SECOND / 2).await;
    cluster.stop(Stop::Immediate);
    say(A_SECOND * seconds).await;
    cluster.resume();
    say(A_SECOND / 2).await;
    let said = A_SECOND * (seconds + 1);
    let mut spooled = 0;
    while let Some(told) = calls.join_next().await {
        // An error would be an update that is lost.
        spooled += usize::from(told.unwrap().unwrap() == Outcome::Spooled);
    }
    assert!(
        spooled >= A_SECOND * seconds * 9 / 10,
        "{spooled} of {said} were spooled"
    );
    // After a long outage it looks again once a minute.
    let mut modes = persist.mode_changes();
    let heals = modes.wait_for(|mode| *mode == Mode::Ready);
    let healed = tokio::time::timeout(Duration::from_secs(75), heals).await;
    healed.expect("it heals by itself").unwrap();
    process::until("the spool is empty", async || {
        held(&persist).await.is_some_and(|spool| spool.held.waiting == 0)
    })
    .await;
    let spool = held(&persist).await.unwrap();
    assert_eq!((spool.rejected, spool.refused, spool.held.dead), (0, 0, 0));
    println!("{said} updates, {spooled} spooled, the server stopped for {seconds} s");
    let expected = Place::empty(Database::Sqlite);
    let claims = sample::claims(updates.into_iter().take(said)).unwrap();
    let oracle = expected.migrated().await.unwrap();
    oracle.apply(&claims).await.unwrap();
    oracle.close().await.unwrap();
    assert_eq!(
        Place::at(url).export().await.unwrap(),
        expected.export().await.unwrap(),
        "each as if it had gone straight to the store"
    );
    let backend = persist.backend();
    place::fold_holds(&backend).await;
    persist.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_a_misconfiguration_ends_a_spooling_start_at_once() {
    let (_folder, path) = place();
    for wrong in [
        "postgres://postgres@127.0.0.1:{port}/nowhere",
        "postgres://nobody@127.0.0.1:{port}/postgres",
    ] {
        let url = wrong.replace("{port}", &shared().port().to_string());
        let error = spooling(&url, &path, process::BOUND).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
    }
    // And lets go of the spool.
    let away = format!("postgres://postgres@127.0.0.1:{}/ci", cluster::free_port());
    let persist = spooling(&away, &path, process::BOUND).await.unwrap();
    let recorded = persist.record_job_state(sample::job(1, JobState::Queued)).await;
    assert_eq!(recorded.unwrap(), Outcome::Spooled);
    let error = spooling(&away, &path, process::BOUND).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "one at a time has it");
    persist.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn m12_a_new_database_behind_the_same_url_gets_nothing_of_the_spool() {
    let url = shared().fresh_schema_url();
    let (folder, path) = place();
    let (place, bound) = (Place::at(url.clone()), Duration::from_secs(2));
    let persist = spooling(&url, &path, process::BOUND).await.unwrap();
    let record = async |persist: &Persist, number| {
        let recorded = persist
            .record_job_state(sample::job(number, JobState::Queued))
            .await;
        recorded.unwrap()
    };
    assert_eq!(record(&persist, 1).await, sample::CREATED);
    persist.close().await.unwrap();
    // What others keep locked till its deadline goes to the spool, and closing does not get it out in time.
    let persist = spooling(&url, &path, bound).await.unwrap();
    let mut other = cluster::connect(&url).await;
    let lock = format!("BEGIN; LOCK TABLE {}.events", place.schema());
    sqlx::Executor::execute(&mut other, sqlx::raw_sql(sqlx::AssertSqlSafe(lock)))
        .await
        .unwrap();
    assert_eq!(record(&persist, 2).await, Outcome::Spooled);
    persist.close().await.unwrap();
    sqlx::Executor::execute(&mut other, "ROLLBACK").await.unwrap();
    shared()
        .sql(&format!("DROP SCHEMA {} CASCADE", place.schema()))
        .await;

    let persist = spooling(&url, &path, process::BOUND).await.unwrap();
    assert_eq!(record(&persist, 3).await, Outcome::Spooled, "nothing is lost");
    let health = persist.health().await.unwrap();
    let spool = health.spool.unwrap();
    assert_eq!((health.mode, spool.held.waiting), (Mode::Degraded, 2));
    let (found, bound_to) = (spool.foreign.unwrap(), spool.held.bound_to.unwrap());
    assert_ne!(found, bound_to);
    let told = replay(&url, &path).exits(5).stderr;
    assert!(
        told.contains(&format!("process {}", std::process::id())),
        "{told}"
    );
    persist.close().await.unwrap();
    let told = replay(&url, &path).exits(5).stderr;
    assert!(
        told.contains(&found.to_string()) && told.contains(&bound_to.to_string()),
        "{told}"
    );
    assert_eq!(place.count("FROM events").await, 0, "nothing went there");
    // The way out: by hand.
    let lines = spool_command("export", &path, &[]).ok().stdout;
    let file = folder.path().join("spool.jsonl");
    std::fs::write(&file, lines).unwrap();
    let file = file.to_str().unwrap();
    process::run(&mut process::persist(["--database-url", &url, "import", file])).ok();
    assert_eq!(place.count("FROM events").await, 2);
}

fn replay(url: &str, path: &Path) -> Ran {
    let path = path.to_str().unwrap();
    let arguments = [
        "--database-url",
        url,
        "--format",
        "json",
        "spool",
        "replay",
        "--spool",
        path,
    ];
    process::run(&mut process::persist(arguments))
}

fn spool_command(command: &str, path: &Path, more: &[&str]) -> Ran {
    let path = path.to_str().unwrap();
    let fixed = ["--format", "jsonl", "spool", command, "--spool", path];
    process::run(&mut process::persist([&fixed[..], more].concat()))
}

fn object(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("one object ({error}): {}", ran.stdout))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_is_looked_at_replayed_and_cleaned_by_hand() {
    let (_folder, path) = place();
    spool_command("status", &path, &[]).exits(5);
    let outbox = SqliteOutbox::open(OutboxConfig::new(&path)).await.unwrap();
    let claims = sample::claims((1..=3).map(|number| sample::job(number, JobState::Queued))).unwrap();
    outbox.push(&claims, sample::at(0)).await.unwrap();
    let status = object(&spool_command("status", &path, &[]).ok());
    assert_eq!(
        (&status["waiting"], &status["oldest"]),
        (&json!(3), &json!("2026-11-01T08:00:00.000000Z"))
    );
    assert!(status["held_by"].as_str().unwrap().contains("process "));
    spool_command("discard-dead", &path, &["--yes"]).exits(5);
    outbox.close().await;
    let edited = rusqlite::Connection::open(&path).unwrap();
    edited
        .execute(
            "INSERT INTO outbox (claim, created_at) VALUES ('{\"job\":{}}', 0)",
            [],
        )
        .unwrap();
    drop(edited);
    let exported = spool_command("export", &path, &[]).ok().stdout;
    let lines: Vec<_> = claims.iter().map(jsonl::claim_line).collect();
    assert_eq!(exported.lines().take(3).collect::<Vec<_>>(), lines);
    let listed = spool_command("list", &path, &["--limit", "2"]).ok();
    let first: Value = serde_json::from_str(listed.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(first["update"], serde_json::from_str::<Value>(&lines[0]).unwrap());
    assert!(listed.stderr.contains("2 more follow"), "{}", listed.stderr);

    let without = process::run(&mut process::persist([
        "spool",
        "replay",
        "--spool",
        path.to_str().unwrap(),
    ]));
    assert!(without.exits(2).stderr.contains("--database-url"));
    // That ends with the program that replays.
    assert!(replay("memory:", &path).exits(2).stderr.contains("into nothing"));
    let place = Place::empty(Database::Sqlite);
    let backend = place.migrated().await.unwrap();
    // One that nobody can read is put aside; the rest goes on.
    let ran = replay(place.url(), &path).exits(1);
    let expected = json!({"replayed": 3, "refused": 0, "dead": 1, "passed_over": 0, "left": 0});
    assert_eq!(object(&ran), expected);
    place::fold_holds(&backend).await;
    assert_eq!(place.count("FROM events").await, 3);
    assert_eq!(object(&replay(place.url(), &path).ok())["replayed"], 0);
    let dead = object(&spool_command("list", &path, &["--dead"]).ok());
    assert!(
        dead["last_error"].as_str().unwrap().contains("request_id"),
        "{dead}"
    );
    assert_eq!(
        spool_command("export", &path, &["--dead"]).ok().stdout,
        "{\"job\":{}}\n"
    );
    assert!(
        spool_command("discard-dead", &path, &[])
            .exits(2)
            .stderr
            .contains("--yes")
    );
    let discarded = spool_command("discard-dead", &path, &["--yes"]).ok();
    assert_eq!(object(&discarded), json!({"discarded": 1}));
    let status = object(&spool_command("status", &path, &[]).ok());
    assert_eq!((&status["dead"], &status["held_by"]), (&json!(0), &Value::Null));
}
