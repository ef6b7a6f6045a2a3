//! A secret planted wherever a text can go appears in nothing that is printed or logged.

mod peer;

use std::io::Write as _;
use std::process::{Command, Stdio};

use persist_tests::cluster::{self, Cluster, Options};
use persist_tests::process::{self, Ran};

/// Part of every password and token below.
const SECRET: &str = "hunter2";

fn is_kept(what: &str, ran: &Ran) {
    for (stream, text) in [("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
        let line = text.lines().find(|line| line.contains(SECRET));
        assert!(
            line.is_none(),
            "{what}: the secret is on {stream}: {}",
            line.unwrap_or_default()
        );
    }
}

fn traced(command: &mut Command) -> Ran {
    process::run(command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "1"))
}

/// Lines whose repository URLs carry credentials of every kind.
fn import_lines() -> String {
    let urls = [
        "https://me:hunter2@example.org/a.git",
        "https://hunter2hunter2hunter2hunter2:x-oauth-basic@example.org/b.git",
        "https://example.org/c.git?access_token=hunter2&depth=1",
        "https://ghp_hunter2hunter2hunter2@example.org/d.git",
        "ssh://git:hunter2@example.org/e.git",
    ];
    let line = |(n, url): (usize, &&str)| {
        let id = persist_tests::sample::id(n as u64 + 1);
        format!(r#"{{"job":{{"request_id":"{id}","state":"queued","repo_url":"{url}"}}}}"#)
    };
    let mut lines: Vec<_> = urls.iter().enumerate().map(line).collect();
    // A bad line is not echoed.
    lines.push(
        r#"{"job":{"request_id":"hunter2","state":"hunter2","repo_url":"https://a:hunter2@b/"}}"#.into(),
    );
    lines.push(r#"{"job":{"password":"hunter2"}}"#.into());
    lines.push("hunter2 is not JSON".into());
    lines.join("\n") + "\n"
}

/// All commands, each as it would be run against this database.
fn commands(import: &str) -> Vec<Vec<String>> {
    let id = persist_tests::sample::id(1).to_string();
    let words = [
        "migrate plan",
        "migrate up",
        "migrate status",
        &format!("import {import}"),
        &format!("import --outcomes {import}"),
        &format!("record job {id} running --repo-url https://you:hunter2@example.org/a.git"),
        "jobs",
        "--format json jobs --all",
        "vms",
        &format!("record job {id} succeeded --repo-url https://you:hunter2@example.org/a.git"),
        &format!("record job {id} failed --repo-url https://you:hunter2@example.org/a.git"),
        "refusals",
        "--format json refusals --all",
        &format!("job {id}"),
        "export",
        "health",
        "--format json health",
        "-v jobs",
        "doctor",
        "doctor --fix",
        "-v --format json doctor",
        "migrate down --all --yes",
    ];
    words
        .iter()
        .map(|line| line.split(' ').map(str::to_owned).collect())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_planted_secret_is_in_no_output_of_any_command() {
    let cluster = Cluster::start(&Options::default().password(SECRET));
    let folder = tempfile::tempdir().unwrap();
    let import = folder.path().join("updates.jsonl");
    std::fs::write(&import, import_lines()).unwrap();
    let commands = commands(import.to_str().unwrap());
    let sqlite = format!("sqlite://{}?mode=rwc", folder.path().join("store.db").display());
    let gone = format!("postgres://ci:{SECRET}@127.0.0.1:{}/ci", cluster::free_port());
    let places = [
        // Whether commands are meant to work there.
        (cluster.url("postgres"), true),
        (
            format!(
                "{}?password={SECRET}",
                cluster.url_for("postgres", "", "postgres")
            ),
            true,
        ),
        (sqlite, true),
        (cluster.url_for("postgres", "hunter2wrong", "postgres"), false),
        (cluster.url_for("hunter2role", SECRET, "postgres"), false),
        (gone, false),
    ];
    for (url, works) in places {
        for arguments in &commands {
            if !works && !["jobs", "health", "doctor"].contains(&arguments[0].as_str()) {
                continue;
            }
            let ran = traced(process::persist(arguments).env("DATABASE_URL", &url));
            is_kept(&arguments.join(" "), &ran);
            // Invalid lines are exit code 1, what stands already is 4; a usage error would prove nothing.
            let expected = if works {
                [0, 1, 4].contains(&ran.code())
            } else {
                ran.code() == 5
            };
            assert!(
                expected,
                "{arguments:?}: exit code {}\n{}",
                ran.code(),
                ran.stderr
            );
        }
    }
}

#[test]
fn i8_a_secret_in_a_bad_url_is_in_no_output() {
    let urls = [
        "postgers://me:hunter2@db/ci",
        "hunter2",
        "hunter2://db",
        "hunter2:me@db",
        "postgres://me:hunter2@db:port/ci",
        "postgres://me:hunter2@db:99999/ci",
        "postgres://me:hun#ter2hunter2@db/ci",
        "postgres://me:hunter2@db1,db2/ci",
        "postgres://me:a&b?hunter2@db/ci",
        "postgres://me@db/ci?hunter2=1",
        "postgres://me@db/ci?sslmode=hunter2",
        "postgres://me@db/ci?sslmode=require&passwort=hunter2",
        "postgres://me@db/ci?persist_schema=hunter2!",
        "postgres://me@db/ci?persist_pooler=hunter2",
        "postgres://me:%ffhunter2@db/ci",
        "postgres:me:hunter2@db/ci",
        "sqlite://file.db?key=hunter2",
        "sqlite://file.db?mode=hunter2",
        "memory:hunter2/../",
        "none:hunter2",
        "mysql://me:hunter2@db/ci",
        "https://me:hunter2@db/ci",
    ];
    for url in urls {
        let by_flag = traced(&mut process::persist(["--database-url", url, "jobs"]));
        let by_variable = traced(process::persist(["jobs"]).env("PERSIST_DATABASE_URL", url));
        for ran in [by_flag, by_variable] {
            is_kept("a bad URL", &ran);
            assert_eq!(ran.code(), 2, "{}\n{}", url.replace(SECRET, "…"), ran.stderr);
            assert!(!ran.stderr.is_empty());
        }
        let library = traced(&mut peer::peer(["start", url]));
        is_kept("a bad URL in the library", &library);
        assert!(library.stdout.starts_with("error "), "{}", library.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_planted_secret_is_in_no_log_of_the_library() {
    let cluster = Cluster::start(&Options::default().password(SECRET));
    let urls = [
        (cluster.url("postgres"), "enabled true"),
        (
            cluster.url_for("postgres", "hunter2wrong", "postgres"),
            "enabled false",
        ),
    ];
    for (url, expected) in urls {
        let ran = traced(&mut peer::peer(["start", &url]));
        is_kept("Persist::new", &ran);
        assert!(ran.stdout.contains(expected), "{}{}", ran.stdout, ran.stderr);
        assert!(
            ran.stderr.contains("TRACE") || ran.stderr.contains("DEBUG"),
            "it logs: {}",
            ran.stderr
        );
    }
    let ran = {
        let (input, mut go) = std::io::pipe().unwrap();
        go.write_all(b"\n").unwrap();
        traced(peer::peer(["write", &cluster.url("postgres"), "1", "20"]).stdin(Stdio::from(input)))
    };
    is_kept("recording", &ran);
    assert!(ran.stdout.ends_with("done\n"), "{}{}", ran.stdout, ran.stderr);
}
