//! Programs that end while they are at work: asked to by SIGTERM, or killed.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use futures_util::{StreamExt as _, TryStreamExt as _};
use persist::{JobQuery, JobState, PersistExt as _, VmQuery, VmState};
use persist_core::Update;
use persist_tests::place::{self, Database, Place};
use persist_tests::process::{self, Ran, Running};
use persist_tests::{cluster, lines, sample};
use serde_json::json;

use super::{bench_of, take};

/// It stops calling, lets what is in flight end, says so by its exit code, and takes its rows away.
#[tokio::test(flavor = "multi_thread")]
async fn p3_sigterm_ends_a_bench_in_order() {
    for database in Database::BOTH {
        let place = Place::empty(database);
        let bench = bench_of(&place);
        take(&bench, 500);
        process::signal(bench.id(), "TERM");
        let ran = bench.end().exits(143);
        assert!(ran.stderr.contains("stopping"), "{database:?}: {}", ran.stderr);
        for table in ["jobs", "vms", "events"] {
            let left = place.count(&format!("FROM {table}")).await;
            assert_eq!(left, 0, "{database:?}: {table}");
        }
    }
}

/// Whoever only reads ends by the signal itself, also where nobody takes what it writes.
#[tokio::test(flavor = "multi_thread")]
async fn p3_sigterm_ends_an_export_at_once() {
    for database in Database::BOTH {
        let place = Place::empty(database);
        let backend = place.migrated().await.unwrap();
        // Far more than a pipe holds.
        let jobs = (1..=2_000).map(|n| sample::job(n, JobState::Queued));
        backend.apply(&sample::claims(jobs).unwrap()).await.unwrap();
        let arguments = ["--database-url", place.url(), "export"];
        let mut command = process::persist(arguments);
        let (mut output, input) = std::io::pipe().unwrap();
        let mut child = command.stdout(input).spawn().unwrap();
        drop(command);
        output.read_exact(&mut [0]).unwrap();
        process::signal(child.id(), "TERM");
        process::until("it ends", async || child.try_wait().unwrap().is_some()).await;
        assert_eq!(child.wait().unwrap().signal(), Some(15), "{database:?}");
        assert_eq!(place.strays().await, [""; 0], "{database:?}");
        assert_eq!(place.count("FROM events").await, 2_000);
        backend.close().await.unwrap();
    }
}

/// Whoever waits for more input, which would never come, ends with what it was given.
#[tokio::test(flavor = "multi_thread")]
async fn p3_sigterm_ends_an_import_that_waits_for_more() {
    for database in Database::BOTH {
        let place = Place::empty(database);
        let backend = place.migrated().await.unwrap();
        let arguments = ["--database-url", place.url(), "import", "--outcomes", "-"];
        let mut child = Running::start(process::persist(arguments).stdin(Stdio::piped()));
        let mut stdin = child.stdin().unwrap();
        let update = Update::from(sample::job(1, JobState::Queued));
        writeln!(stdin, "{}", lines::of(vec![update])[0]).unwrap();
        assert!(child.line().unwrap().contains("applied"));
        process::signal(child.id(), "TERM");
        let ran = child.end().exits(143);
        assert!(
            ran.stderr.contains("after 1 line"),
            "{database:?}: {}",
            ran.stderr
        );
        drop(stdin);
        assert!(backend.job(sample::id(1)).await.unwrap().is_some());
        backend.close().await.unwrap();
    }
}

/// What was given and has no answer yet when the signal comes is stored, and told.
#[tokio::test(flavor = "multi_thread")]
async fn p3_sigterm_lets_an_import_end_what_is_in_flight() {
    let place = Place::empty(Database::Postgres);
    let backend = place.migrated().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("stderr");
    let arguments = ["--database-url", place.url(), "import", "--outcomes", "-"];
    let mut command = process::persist(arguments);
    let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = streams.stderr(File::create(&told).unwrap()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut other = cluster::connect(place.url()).await;
    let lock = format!(
        "BEGIN; LOCK TABLE {}.events IN ACCESS EXCLUSIVE MODE",
        place.schema()
    );
    let lock = sqlx::raw_sql(sqlx::AssertSqlSafe(lock));
    sqlx::Executor::execute(&mut other, lock).await.unwrap();
    let update = Update::from(sample::job(1, JobState::Queued));
    writeln!(stdin, "{}", lines::of(vec![update])[0]).unwrap();
    let waits = format!(
        "FROM pg_locks WHERE NOT granted AND relation = to_regclass('{}.events')",
        place.schema()
    );
    process::until("the line waits", async || place.count(&waits).await > 0).await;
    process::signal(child.id(), "TERM");
    process::until("it has heard", async || {
        std::fs::read_to_string(&told).unwrap().contains("stopping")
    })
    .await;
    sqlx::Executor::execute(&mut other, "ROLLBACK").await.unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap()).exits(143);
    drop(stdin);
    assert!(ran.stdout.contains("applied"), "{}", ran.stdout);
    assert!(backend.job(sample::id(1)).await.unwrap().is_some());
    backend.close().await.unwrap();
}

/// How long the example counts as alive after its last beat.
const HEARTBEAT_MS: &str = "4000";

fn example(place: &Place) -> Command {
    let mut command = process::example("orchestrator");
    command
        .env("DATABASE_URL", place.url())
        .env("HEARTBEAT_MS", HEARTBEAT_MS);
    command
}

/// The example orchestrator, some jobs running for so long, and more than it runs at a time accepted.
async fn orchestrator(place: &Place, takes_ms: u32) -> (Running, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let requests = folder.path().join("requests.jsonl");
    let request = |n| {
        let (id, repo_url) = (sample::id(n), "https://example.org/acme/app.git");
        json!({"request_id": id, "repo_url": repo_url, "commit_sha": "abcd", "runs_on": "debian-13", "takes_ms": takes_ms})
    };
    let all: Vec<_> = (1..=12).map(|n| request(n).to_string()).collect();
    lines::write(&requests, &all);
    let running = Running::start(example(place).arg(requests));
    process::until("it runs some, and others wait", async || {
        let is_running = place.count("FROM events WHERE state = 'running'").await > 0;
        is_running && place.count("FROM jobs").await > 8
    })
    .await;
    (running, folder)
}

const LIVE: &str = "FROM jobs WHERE state IN ('queued', 'running')";

/// The example: running jobs finish, waiting ones are cancelled, all is recorded.
#[tokio::test(flavor = "multi_thread")]
async fn p3_sigterm_ends_the_orchestrator_with_nothing_left_open() {
    let place = Place::empty(Database::Sqlite);
    let backend = place.migrated().await.unwrap();
    let (orchestrator, _folder) = orchestrator(&place, 2_000).await;
    process::signal(orchestrator.id(), "TERM");
    let ran = orchestrator.end().ok();
    assert!(ran.stderr.contains("shutting down"), "{}", ran.stderr);
    assert_eq!(place.count(LIVE).await, 0);
    for ended in ["= 'cancelled'", "<> 'cancelled'"] {
        let ended = format!("FROM jobs WHERE state {ended}");
        assert!(place.count(&ended).await > 0, "{ended}");
    }
    assert_eq!(place.count("FROM vms WHERE state <> 'destroyed'").await, 0);
    place::fold_holds(&backend).await;
    backend.close().await.unwrap();
}

/// What a killed orchestrator left running is listed, and can be ended by hand.
#[tokio::test(flavor = "multi_thread")]
async fn p4_what_a_killed_orchestrator_left_running_is_listed_and_can_be_ended() {
    for database in Database::BOTH {
        let place = Place::empty(database);
        let backend = place.migrated().await.unwrap();
        let (mut orchestrator, _folder) = orchestrator(&place, 60_000).await;
        orchestrator.kill();
        let persist = |arguments: &[&str]| {
            let arguments = [&["--database-url", place.url()], arguments].concat();
            process::run(&mut process::persist(arguments)).ok().stdout
        };
        let listed = persist(&[
            "--format", "jsonl", "jobs", "--state", "queued", "--state", "running", "--all",
        ]);
        let live: Vec<serde_json::Value> = listed
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(live.len() as u64, place.count(LIVE).await, "{database:?}");
        assert!(!live.is_empty(), "{database:?}: it was killed at work");
        for job in live {
            let id = job["request_id"].as_str().unwrap();
            persist(&[
                "record",
                "job",
                id,
                "lost",
                "--attempt",
                "current",
                "--actor",
                "on-call",
                "--reason",
                "the host died",
            ]);
        }
        assert_eq!(place.count(LIVE).await, 0, "{database:?}");
        place::fold_holds(&backend).await;
        backend.close().await.unwrap();
    }
}

/// What `persist orphans` lists of the example, by key.
fn orphans(place: &Place) -> Vec<String> {
    let arguments = [
        "--database-url",
        place.url(),
        "--format",
        "jsonl",
        "orphans",
        "--kind",
        "owner_gone",
        "--actor",
        "orchestrator-1",
        "--grace",
        "0s",
        "--all",
    ];
    let listed = process::run(&mut process::persist(arguments)).ok().stdout;
    let key = |line: &str| {
        let orphan: serde_json::Value = serde_json::from_str(line).unwrap();
        let name = orphan["domain_name"].as_str().unwrap_or_default();
        format!("{}/{name}", orphan["request_id"].as_str().unwrap())
    };
    listed.lines().map(key).collect()
}

async fn a_killed_orchestrator(database: Database) {
    let place = Place::empty(database);
    let backend = place.migrated().await.unwrap();
    let (mut orchestrator, _folder) = orchestrator(&place, 60_000).await;
    process::until("what it runs is seen to", async || orphans(&place).is_empty()).await;
    orchestrator.kill();
    let live = async || {
        let jobs = backend.all_jobs(JobQuery::default().states([JobState::Queued, JobState::Running]));
        let vms = backend.all_vms(VmQuery::default().states([VmState::Prepared, VmState::Running]));
        let jobs = jobs.map_ok(|job| format!("{}/", job.request_id));
        let vms = vms.map_ok(|vm| format!("{}/{}", vm.request_id, vm.domain_name));
        let mut keys: Vec<_> = jobs.chain(vms).try_collect().await.unwrap();
        keys.sort();
        keys
    };
    let left = live().await;
    assert!(
        left.iter().any(|key| key.ends_with('/')),
        "{database:?}: {left:?}"
    );
    assert!(
        left.iter().any(|key| !key.ends_with('/')),
        "{database:?}: {left:?}"
    );
    process::until("its heartbeat ends", async || orphans(&place) == left).await;

    let requests = tempfile::tempdir().unwrap();
    let none = requests.path().join("none.jsonl");
    lines::write(&none, &[]);
    let ran = process::run(example(&place).arg(&none)).ok();
    assert!(
        ran.stderr.contains("ended what an earlier run left"),
        "{}",
        ran.stderr
    );
    assert_eq!(live().await, [""; 0], "{database:?}");
    assert_eq!(orphans(&place), [""; 0], "{database:?}");
    let told = "WHERE actor = 'orchestrator-1' AND reason = 'the orchestrator was started anew'";
    let ended = place.count(&format!("FROM events {told}")).await;
    assert_eq!(ended, left.len() as u64, "{database:?}: each once");
    place::fold_holds(&backend).await;
    backend.close().await.unwrap();
}

/// What a killed orchestrator left running is listed as orphans once its heartbeat has ended, and its next start ends it.
#[tokio::test(flavor = "multi_thread")]
async fn p4_what_a_killed_orchestrator_left_is_orphaned_and_its_next_start_recovers_it() {
    let [sqlite, postgres] = Database::BOTH.map(a_killed_orchestrator);
    tokio::join!(sqlite, postgres);
}
