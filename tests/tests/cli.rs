//! The program from end to end: exit codes, what goes to which stream, defaults, pipes, terminals and signals.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use persist_core::JobState::{Failed, Queued, Running as RunningJob, Succeeded};
use persist_tests::place::{Database, Place};
use persist_tests::process::{self, Ran, Running};
use persist_tests::{lines, sample};
use serde_json::{Value, json};
use tempfile::TempDir;

fn store() -> Place {
    Place::empty(Database::Sqlite)
}

fn command(place: &Place, arguments: &[&str]) -> Command {
    process::persist([&["--database-url", place.url()], arguments].concat())
}

fn persist(place: &Place, arguments: &[&str]) -> Ran {
    process::run(&mut command(place, arguments))
}

fn record(place: &Place, n: u64, state: &str, attempt: &str) -> Ran {
    let id = sample::id(n).to_string();
    persist(place, &["record", "job", &id, state, "--attempt", attempt])
}

/// The program without any URL, in this folder.
fn without_url(folder: &TempDir, arguments: &[&str]) -> Ran {
    process::run(process::persist(arguments).current_dir(folder.path()))
}

fn file(folder: &TempDir, name: &str, lines: &[String]) -> PathBuf {
    let path = folder.path().join(name);
    lines::write(&path, lines);
    path
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn values(stdout: &str) -> Vec<Value> {
    stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn a_refused_record_exits_4_and_names_what_stands() {
    let place = store();
    record(&place, 1, "succeeded", "1").ok();
    let ran = record(&place, 1, "failed", "1").exits(4);
    assert!(
        ran.stdout.contains("refused") && ran.stdout.contains("stands as succeeded"),
        "{}",
        ran.stdout
    );
    assert!(ran.stderr.contains("--attempt next"), "{}", ran.stderr);
    let id = sample::id(1).to_string();
    let ran = persist(&place, &["--format", "json", "record", "job", &id, "failed"]).exits(4);
    assert_eq!(values(&ran.stdout)[0]["standing"], "succeeded", "{}", ran.stdout);
}

#[test]
fn a_job_is_told_by_an_id_that_is_there_and_is_the_only_one() {
    let place = store();
    for n in [1, 2] {
        record(&place, n, "queued", "1").ok();
    }
    let [one, two, unknown] = [1, 2, 3].map(|n| sample::id(n).to_string());
    let ran = persist(&place, &["job", &unknown]).exits(3);
    assert!(
        ran.stdout.is_empty() && ran.stderr.contains(&unknown),
        "{}",
        ran.stderr
    );
    let ran = persist(&place, &["job", &one[..8]]).exits(2);
    assert!(
        ran.stdout.is_empty() && ran.stderr.contains(&one) && ran.stderr.contains(&two),
        "{}",
        ran.stderr
    );
    let ran = persist(&place, &["job", &one]).ok();
    assert!(
        ran.stdout.contains(&format!("job {one}: queued")),
        "{}",
        ran.stdout
    );
}

#[test]
fn the_next_attempt_and_the_current_one_are_told_by_the_row() {
    let place = store();
    let id = sample::id(1).to_string();
    let stands = || {
        let ran = persist(&place, &["--format", "json", "job", &id]).ok();
        let job = values(&ran.stdout)[0]["job"].take();
        (job["state"].clone(), job["attempt"].clone())
    };
    for (state, attempt, expected) in [
        ("running", "next", 1),
        ("failed", "current", 1),
        ("running", "next", 2),
        ("succeeded", "current", 2),
    ] {
        record(&place, 1, state, attempt).ok();
        assert_eq!(stands(), (json!(state), json!(expected)), "--attempt {attempt}");
    }
    let ran = record(&place, 1, "queued", "last").exits(2);
    assert!(ran.stderr.contains("current or next"), "{}", ran.stderr);
}

#[test]
fn a_dash_and_no_file_at_all_are_stdin() {
    let folder = tempfile::tempdir().unwrap();
    let lines = lines::day(21, 5);
    let path = file(&folder, "updates.jsonl", &lines);
    for arguments in [
        &["--format", "json", "import", "-"][..],
        &["--format", "json", "import"],
    ] {
        let place = store();
        let ran = process::run(command(&place, arguments).stdin(File::open(&path).unwrap())).ok();
        assert_eq!(
            values(&ran.stdout)[0]["applied"],
            json!(lines.len()),
            "{arguments:?}"
        );
        assert_eq!(
            persist(&place, &["export"]).ok().stdout.lines().count(),
            lines.len()
        );
    }
}

#[test]
fn outcomes_of_several_files_name_the_file_and_a_refused_line_what_stands() {
    let folder = tempfile::tempdir().unwrap();
    let of = |states: &[_]| lines::of(states.iter().map(|state| sample::job(1, *state).into()).collect());
    let first = file(&folder, "first.jsonl", &of(&[Queued, RunningJob, Succeeded]));
    let second = file(&folder, "second.jsonl", &of(&[Failed, Queued]));
    let [first, second] = [&first, &second].map(|path| path.to_str().unwrap());
    let place = store();
    let ran = persist(&place, &["import", "--outcomes", first, second]).ok();
    let told = |file, line, outcome| json!({"file": file, "line": line, "outcome": outcome});
    let mut refused = told(second, 1, "refused");
    refused["standing"] = json!("succeeded");
    assert_eq!(
        values(&ran.stdout),
        [
            told(first, 1, "applied"),
            told(first, 2, "applied"),
            told(first, 3, "applied"),
            refused,
            told(second, 2, "unchanged"),
        ]
    );
    assert!(
        ran.stderr.contains("read 5 lines"),
        "the summary is on stderr: {}",
        ran.stderr
    );
    let ran = persist(&place, &["import", "--outcomes", first]).ok();
    assert_eq!(
        values(&ran.stdout)[0],
        json!({"line": 1, "outcome": "unchanged"}),
        "one file needs no name"
    );
}

#[test]
fn an_export_whose_reader_has_seen_enough_ends_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let lines = lines::day(22, 400);
    let bytes: usize = lines.iter().map(String::len).sum();
    assert!(bytes > 300_000, "more than pipes and buffers hold: {bytes}");
    let path = file(&folder, "updates.jsonl", &lines);
    let place = store();
    persist(&place, &["import", path.to_str().unwrap()]).ok();
    let mut child = command(&place, &["export"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    // The reader goes at the end of this statement, and the pipe with it.
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    assert!(lines.contains(&first.trim_end().to_owned()), "{first}");
    process::until_blocking("the export ends", || child.try_wait().unwrap().is_some());
    let ran = Ran::from(child.wait_with_output().unwrap()).ok();
    assert_eq!(ran.stderr, "");
}

#[test]
fn completions_are_printed_and_need_no_database() {
    let folder = tempfile::tempdir().unwrap();
    let ran = without_url(&folder, &["completions", "bash"]).ok();
    assert!(
        ran.stdout.contains("complete") && ran.stdout.contains("persist"),
        "{}",
        ran.stdout
    );
    assert_eq!(ran.stderr, "");
    assert!(names(folder.path()).is_empty());
}

#[test]
fn without_a_url_a_record_makes_a_file_here_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let id = sample::id(1).to_string();
    let ran = without_url(&folder, &["record", "job", &id, "queued"]).ok();
    assert!(
        ran.stderr.contains("no database URL is set") && ran.stderr.contains("persist.db"),
        "{}",
        ran.stderr
    );
    assert!(names(folder.path()).contains(&"persist.db".to_owned()));
    let ran = without_url(&folder, &["--format", "jsonl", "jobs"]).ok();
    assert_eq!(
        values(&ran.stdout)[0]["request_id"],
        json!(id),
        "the next command finds it"
    );
}

#[test]
fn without_a_url_a_read_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ran = without_url(&folder, &["jobs"]).exits(5);
    assert!(ran.stderr.contains("persist.db does not exist"), "{}", ran.stderr);
    assert!(names(folder.path()).is_empty());
}

/// Runs the program on a terminal of this width; the program `script` makes one.
#[cfg(target_os = "linux")]
fn on_a_terminal(place: &Place, columns: u16, settings: &[(&str, &str)], arguments: &[&str]) -> String {
    let persist = command(place, arguments);
    let words = std::iter::once(persist.get_program()).chain(persist.get_args());
    let words: Vec<_> = words
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let line = format!("stty cols {columns} rows {columns}; exec {}", words.join(" "));
    let mut script = Command::new("script");
    script
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::null())
        .env_remove("NO_COLOR")
        .env_remove("COLUMNS")
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm");
    process::without_settings(&mut script);
    process::run(script.envs(settings.iter().copied()))
        .ok()
        .stdout
        .replace('\r', "")
}

#[cfg(target_os = "linux")]
#[test]
fn only_a_terminal_has_colours_and_not_if_no_color_is_set() {
    let place = store();
    record(&place, 1, "running", "1").ok();
    let id = sample::id(1).to_string();
    for arguments in [&["jobs"][..], &["job", &id]] {
        let has_colour = |text: &str| text.contains('\u{1b}');
        assert!(
            has_colour(&on_a_terminal(&place, 100, &[], arguments)),
            "{arguments:?}: or nothing is proven"
        );
        let plain = on_a_terminal(&place, 100, &[("NO_COLOR", "1")], arguments);
        assert!(
            plain.contains(&id) && !has_colour(&plain),
            "{arguments:?}: {plain:?}"
        );
        assert!(!has_colour(&persist(&place, arguments).ok().stdout));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_narrow_terminal_gets_fewer_columns_and_one_of_unknown_width_gets_all() {
    let place = store();
    record(&place, 1, "running", "1").ok();
    let id = sample::id(1).to_string();
    let plain = [("NO_COLOR", "1")];
    let rows = |columns, arguments: &[&str]| on_a_terminal(&place, columns, &plain, arguments);
    for columns in [0, 200] {
        let jobs = rows(columns, &["jobs"]);
        assert_eq!(jobs.lines().count(), 2, "{columns}: {jobs}");
        assert!(jobs.contains("UPDATED (UTC)"), "{columns}: {jobs}");
    }
    let jobs = rows(50, &["jobs"]);
    assert!(
        jobs.lines().nth(1) == Some(format!("{id}  running").as_str()) && jobs.contains("--format jsonl"),
        "{jobs}"
    );
    let told = rows(30, &["job", &id]);
    assert!(
        told.contains("\nTIME (UTC)") && !told.contains("REASON"),
        "{told}"
    );
    let status = rows(24, &["migrate", "status"]);
    assert!(
        status.contains("MIGRATION") && !status.contains("APPLIED"),
        "{status}"
    );
}

#[cfg(unix)]
#[test]
fn p3_sigterm_ends_an_import_in_order() {
    let place = store();
    let lines = lines::day(23, 300);
    let (input, mut writer) = std::io::pipe().unwrap();
    let mut command = command(&place, &["import", "--outcomes"]);
    let running = Running::start(command.stdin(input));
    // It holds the other end of the pipe too.
    drop(command);
    let given = lines.clone();
    // A thread, because a pipe takes only what is read; it gives the open end back.
    let writing = std::thread::spawn(move || {
        // Whoever reads may be gone before everything is written.
        let _ = given.iter().try_for_each(|line| writeln!(writer, "{line}"));
        writer
    });
    let first = running.line().unwrap();
    process::signal(running.id(), "TERM");
    let ran = running.end().exits(143);
    drop(writing.join().unwrap());
    let told = values(&format!("{first}\n{}", ran.stdout));
    for (n, told) in told.iter().enumerate() {
        assert_eq!(
            (&told["line"], &told["outcome"]),
            (&json!(n + 1), &json!("applied")),
            "in order"
        );
    }
    let count = told.len();
    assert!(
        ran.stderr.contains(&format!("read {count} lines"))
            && ran.stderr.contains(&format!("after {count} lines")),
        "the summary counts the {count} that were told: {}",
        ran.stderr
    );
    let stored = persist(&place, &["export"]).ok().stdout;
    let stored: std::collections::HashSet<_> = stored.lines().collect();
    for line in &lines[..count] {
        assert!(stored.contains(line.as_str()), "told, but not stored: {line}");
    }
}
