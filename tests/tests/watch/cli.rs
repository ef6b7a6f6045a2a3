//! `persist watch`: its lines, how it goes on, and how it ends.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use persist_core::JobState::{Failed, Queued, Running as RunningJob};
use persist_core::{Prune, VmState};
use persist_tests::place::{Database, Place};
use persist_tests::process::{self, Ran, Running};
use persist_tests::sample::{self, id, job, vm};
use serde_json::Value;

async fn store(database: Database) -> Place {
    let place = Place::empty(database);
    place.migrated().await.unwrap().close().await.unwrap();
    place
}

async fn apply<U: Into<persist_core::Update>>(place: &Place, updates: impl IntoIterator<Item = U>) {
    let backend = place.open().await.unwrap();
    for update in updates {
        backend.apply(&sample::claims([update]).unwrap()).await.unwrap();
    }
    backend.close().await.unwrap();
}

fn command(place: &Place, arguments: &[&str]) -> Command {
    process::persist([&["--database-url", place.url(), "watch"], arguments].concat())
}

/// The program at work, once it watches: the queued job of this number was seen.
async fn watching(place: &Place, arguments: &[&str], number: u64) -> Running {
    let running = Running::start(&mut command(place, &[arguments, &["--from", "start"]].concat()));
    apply(place, [job(number, Queued)]).await;
    while !running.line().unwrap().contains(&id(number).to_string()) {}
    running
}

fn values(ran: &Ran) -> Vec<Value> {
    ran.stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn told(value: &Value) -> String {
    format!(
        "{} {}",
        value["request_id"].as_str().unwrap(),
        value["state"].as_str().unwrap()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_a_line_at_once_and_a_cursor_goes_on_after_it() {
    for database in Database::BOTH {
        let place = store(database).await;
        apply(&place, [job(1, Queued)]).await;
        let mut running = watching(&place, &["--format", "jsonl"], 100).await;
        let mut lines = Vec::new();
        for update in [job(1, RunningJob), job(2, Queued), job(1, Queued).reason("push")] {
            let expected = format!("{} {}", update_id(&update), update_state(&update));
            apply(&place, [update]).await;
            let line: Value = serde_json::from_str(&running.line().unwrap()).unwrap();
            assert_eq!(told(&line), expected);
            lines.push(line);
        }
        assert_eq!(lines[2]["reason"], "push");
        assert!(running.is_running());
        process::signal(running.id(), "TERM");
        let ran = running.end().exits(143);
        assert_eq!(ran.stdout, "", "nothing is told twice");
        let mut rest = Running::start(&mut command(
            &place,
            &["--format", "json", "--from", lines[0]["cursor"].as_str().unwrap()],
        ));
        for expected in &lines[1..] {
            let line: Value = serde_json::from_str(&rest.line().unwrap()).unwrap();
            assert_eq!(line["seq"], expected["seq"]);
        }
        assert!(rest.is_running());
        process::signal(rest.id(), "INT");
        assert_eq!(rest.end().exits(130).stdout, "");
    }
}

fn update_id(update: &persist_core::JobUpdate) -> String {
    let claims = sample::claims([update.clone()]).unwrap();
    claims[0].subject().request_id().to_string()
}

fn update_state(update: &persist_core::JobUpdate) -> &'static str {
    let claims = sample::claims([update.clone()]).unwrap();
    claims[0].state().name()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_asked_for_is_told() {
    let place = store(Database::Sqlite).await;
    apply(
        &place,
        [
            job(1, Queued),
            job(1, RunningJob),
            job(2, RunningJob),
            job(2, Failed),
        ],
    )
    .await;
    apply(
        &place,
        [
            vm(1, "a\u{1b}[31m", VmState::Running),
            vm(1, "a", VmState::Failed),
        ],
    )
    .await;
    let [one, two] = [id(1), id(2)].map(|id| id.to_string());
    let ask = async |arguments: &[&str]| {
        let arguments = [&["--format", "jsonl", "--from", "start"], arguments].concat();
        let running = Running::start(&mut command(&place, &arguments));
        // In its own time: of a state that all of these ask for, and of a job that all of these mean.
        apply(&place, [job(2, RunningJob).attempt(9)]).await;
        let mut lines = Vec::new();
        loop {
            let line: Value = serde_json::from_str(&running.line().unwrap()).unwrap();
            if line["attempt"] == 9 {
                break;
            }
            lines.push(told(&line));
        }
        lines
    };
    assert_eq!(
        ask(&["--state", "running"]).await,
        [
            format!("{one} running"),
            format!("{two} running"),
            format!("{one} running")
        ]
    );
    assert_eq!(
        ask(&["--job", &two]).await,
        [format!("{two} running"), format!("{two} failed")]
    );
    assert_eq!(
        ask(&["--job", &two[..35], "--state", "failure,running"])
            .await
            .len(),
        5,
        "ids that begin so"
    );
    // For a terminal, with nothing that moves it.
    let running = Running::start(&mut command(&place, &["--from", "start", "--state", "running"]));
    let lines: Vec<_> = (0..3).map(|_| running.line().unwrap()).collect();
    assert!(
        lines[2].contains("VM a\\u{1b}[31m") && lines[0].contains("running    attempt 1"),
        "{lines:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn now_is_where_it_begins_unless_it_is_told_otherwise() {
    let place = store(Database::Sqlite).await;
    apply(&place, [job(1, Queued)]).await;
    let running = Running::start(&mut command(&place, &["--format", "jsonl"]));
    // It says nothing of having begun: what is written until the first line comes is more than enough.
    let mut number = 1;
    let first = loop {
        number += 1;
        assert!(number < 10_000, "no line came");
        apply(&place, [job(number, Queued)]).await;
        if let Some(line) = running.line_if_any() {
            break line;
        }
    };
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_ne!(
        told(&first),
        format!("{} queued", id(1)),
        "which was there before"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pipe_is_the_end_and_no_failure() {
    let place = store(Database::Sqlite).await;
    apply(&place, [job(1, Queued)]).await;
    let mut child = command(&place, &["--from", "start"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert!(line.contains("queued"), "{line}");
    assert!(child.try_wait().unwrap().is_none(), "while it is read it goes on");
    drop(output);
    // Nothing more comes that it could fail to print.
    process::until("it ends", async || child.try_wait().unwrap().is_some()).await;
    let ran = Ran::from(child.wait_with_output().unwrap()).exits(0);
    assert_eq!(ran.stderr, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_why_it_can_not_go_on() {
    let place = store(Database::Sqlite).await;
    let run = |arguments: &[&str]| process::run(&mut command(&place, arguments));
    run(&["--state", "gone"]).exits(2);
    run(&["--job", "xyz"]).exits(2);
    let ran = run(&["--from", "yesterday"]).exits(1);
    assert!(ran.stderr.contains("cursor"), "{}", ran.stderr);
    let missing = ["--database-url", "sqlite:///nowhere/at/all.db", "watch"];
    process::run(&mut process::persist(missing)).exits(5);
    let help = process::run(&mut process::persist(["watch", "--help"])).ok();
    assert!(help.stdout.contains("Example"), "{}", help.stdout);

    apply(&place, [job(1, Queued), job(2, Failed)]).await;
    let running = Running::start(&mut command(&place, &["--format", "jsonl", "--from", "start"]));
    let first: Value = serde_json::from_str(&running.line().unwrap()).unwrap();
    drop(running);
    let backend = place.open().await.unwrap();
    backend.prune(&Prune::default().ids([id(2)])).await.unwrap();
    backend.close().await.unwrap();
    let ran = run(&["--from", first["cursor"].as_str().unwrap()]).exits(1);
    assert!(
        ran.stderr.contains("pruned") && ran.stdout.is_empty(),
        "{}",
        ran.stderr
    );
    assert!(values(&ran).is_empty());
}
