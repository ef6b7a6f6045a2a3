//! Files that go in and come out: `import` and `export` on both databases.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::path::{Path, PathBuf};

use persist_tests::place::{Database, Place};
use persist_tests::process::{self, Ran};
use persist_tests::{lines, sample};
use serde_json::{Value, json};

fn persist(place: &Place, arguments: &[&str]) -> Ran {
    process::run(&mut process::persist(
        [&["--database-url", place.url()], arguments].concat(),
    ))
}

fn import(place: &Place, file: &Path) -> Value {
    let file = file.to_str().unwrap();
    let ran = persist(place, &["--format", "json", "import", file]).ok();
    serde_json::from_str(&ran.stdout)
        .unwrap_or_else(|error| panic!("one object on stdout ({error}): {}", ran.stdout))
}

fn export(place: &Place) -> String {
    persist(place, &["export"]).ok().stdout
}

/// A folder with a file of these lines.
fn file(lines: &[String]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("updates.jsonl");
    lines::write(&path, lines);
    (folder, path)
}

#[test]
fn an_import_may_be_repeated_shuffled_and_doubled_and_both_databases_export_the_same_bytes() {
    let lines = lines::day(11, 80);
    let (_folder, path) = file(&lines);
    let count = lines.len();
    let summary = |applied: usize, unchanged: usize| {
        json!({"read": count, "applied": applied, "late": 0, "filled": 0, "unchanged": unchanged, "refused": 0,
               "invalid": 0})
    };
    let (_other_folder, shuffled) = file(&sample::shuffled(3, [lines.clone(), lines.clone()].concat()));
    let mut exports = Vec::new();
    for database in Database::BOTH {
        let place = Place::empty(database);
        assert_eq!(import(&place, &path), summary(count, 0), "{database:?}");
        let first = export(&place);
        assert_eq!(first.lines().count(), count);
        assert_eq!(import(&place, &path), summary(0, count), "{database:?}");
        assert_eq!(export(&place), first, "{database:?}");
        let other = Place::empty(database);
        let told = import(&other, &shuffled);
        assert_eq!(
            (&told["read"], &told["unchanged"]),
            (&json!(2 * count), &json!(count)),
            "{told}"
        );
        let outcomes = ["applied", "late", "filled", "unchanged", "refused", "invalid"];
        let sum: u64 = outcomes.iter().map(|word| told[word].as_u64().unwrap()).sum();
        assert_eq!(sum, 2 * count as u64, "{told}");
        assert_eq!(export(&other), first, "{database:?}");
        // What was exported is what was given.
        let mut given: Vec<_> = first.lines().map(str::to_owned).collect();
        given.sort();
        let mut expected = lines.clone();
        expected.sort();
        assert_eq!(given, expected);
        exports.push(first);
    }
    assert!(exports[0] == exports[1], "both databases export the same bytes");
}

#[test]
fn an_export_of_one_database_makes_the_same_store_on_the_other() {
    let lines = sample::shuffled(9, lines::day(12, 40));
    let (_folder, path) = file(&lines);
    let (sqlite, postgres) = (Place::empty(Database::Sqlite), Place::empty(Database::Postgres));
    import(&sqlite, &path);
    let bytes = export(&sqlite);
    let copy = path.with_extension("copy");
    std::fs::write(&copy, &bytes).unwrap();
    import(&postgres, &copy);
    assert_eq!(export(&postgres), bytes);
    for list in [["jobs", "--all"], ["vms", "--all"]] {
        let rows = |place| {
            persist(place, &["--format", "jsonl", list[0], list[1]])
                .ok()
                .stdout
        };
        assert!(rows(&sqlite).lines().count() >= 40 - 10);
        assert_eq!(rows(&sqlite), rows(&postgres), "{list:?}");
    }
}

/// Bad lines of different kinds; what is said of each must name this.
fn bad_lines() -> Vec<(Vec<u8>, &'static str)> {
    let id = sample::id(500);
    let job =
        |rest: &str| format!(r#"{{"job":{{"request_id":"{id}","state":"queued"{rest}}}}}"#).into_bytes();
    let mut not_utf8 = job(r#","actor":"x""#);
    let place = not_utf8.len() - 4;
    not_utf8[place] = 0xff;
    vec![
        (b"this is not JSON".to_vec(), "a line is one object"),
        (job("")[..30].to_vec(), "EOF while parsing a string (column"),
        (br#"{"task":{"state":"queued"}}"#.to_vec(), "job"),
        (
            br#"{"job":{"request_id":"42","state":"queued"}}"#.to_vec(),
            "request_id",
        ),
        (br#"{"job":{"state":"queued"}}"#.to_vec(), "request_id"),
        (
            format!(r#"{{"job":{{"request_id":"{id}","state":"exploded"}}}}"#).into_bytes(),
            "state",
        ),
        (
            format!(r#"{{"vm":{{"request_id":"{id}","state":"running"}}}}"#).into_bytes(),
            "domain_name",
        ),
        (job(r#","attempt":0"#), "attempt"),
        (job(r#","at":"yesterday""#), "at"),
        (job(r#","commit_sha":"xyz!""#), "commit_sha"),
        (job(r#","colour":"red""#), "colour"),
        (not_utf8, "UTF-8"),
        (job(&format!(r#","reason":"{}""#, "x".repeat(70_000))), "65536"),
    ]
}

/// Good lines with the bad ones between them: bytes, good lines, and the numbers of the bad ones.
fn mixed() -> (Vec<u8>, Vec<String>, Vec<usize>) {
    let good = lines::day(13, 20);
    let bad = bad_lines();
    let (mut bytes, mut numbers) = (Vec::new(), Vec::new());
    for (n, line) in good.iter().enumerate() {
        bytes.extend_from_slice(line.as_bytes());
        bytes.extend_from_slice(if n % 2 == 0 { b"\n" } else { b"\r\n" });
        if let Some((line, _)) = bad.get(n) {
            bytes.extend_from_slice(line);
            bytes.push(b'\n');
            numbers.push(2 * n + 2);
        }
    }
    assert_eq!(numbers.len(), bad.len());
    assert!(bad.len() >= 12);
    (bytes, good, numbers)
}

#[test]
fn i3_each_bad_line_is_named_and_all_good_ones_are_stored() {
    let (bytes, good, numbers) = mixed();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mixed.jsonl");
    std::fs::write(&path, bytes).unwrap();
    let name = path.to_str().unwrap();
    for database in Database::BOTH {
        let place = Place::empty(database);
        let ran = persist(&place, &["--format", "json", "import", name]).exits(1);
        let told: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(told["invalid"], json!(numbers.len()), "{told}");
        assert_eq!(told["read"], json!(numbers.len() + good.len()), "{told}");
        for (number, (_, names)) in numbers.iter().zip(bad_lines()) {
            let place = format!("mixed.jsonl:{number}: ");
            let line = ran.stderr.lines().find(|line| line.contains(&place));
            let line = line.unwrap_or_else(|| panic!("{place} is not in\n{}", ran.stderr));
            assert!(
                line.contains(names) && !line.contains("xxxxx"),
                "{names} is not in: {line}"
            );
        }
        let mut stored: Vec<_> = export(&place).lines().map(str::to_owned).collect();
        stored.sort();
        let mut good = good.clone();
        good.sort();
        assert_eq!(stored, good, "{database:?}");
    }
}

#[test]
fn strict_stops_at_the_first_bad_line() {
    let (bytes, _, numbers) = mixed();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mixed.jsonl");
    std::fs::write(&path, bytes).unwrap();
    let place = Place::empty(Database::Sqlite);
    let ran = persist(&place, &["import", "--strict", path.to_str().unwrap()]).exits(1);
    assert!(
        ran.stderr.contains(&format!("mixed.jsonl:{}: ", numbers[0])),
        "{}",
        ran.stderr
    );
    assert!(
        !ran.stderr.contains(&format!("mixed.jsonl:{}: ", numbers[1])),
        "{}",
        ran.stderr
    );
    assert!(
        export(&place).lines().count() <= numbers[0],
        "nothing behind it was read"
    );
}

#[test]
fn outcomes_come_line_by_line_in_the_order_of_the_input() {
    let lines = lines::day(14, 10);
    let mut mixed = lines.clone();
    mixed.insert(3, "not JSON".into());
    mixed.insert(6, String::new());
    mixed.push(lines[0].clone());
    let (_folder, path) = file(&mixed);
    let place = Place::empty(Database::Sqlite);
    let ran = persist(&place, &["import", "--outcomes", path.to_str().unwrap()]).exits(1);
    let told: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let numbers: Vec<_> = told.iter().map(|line| line["line"].as_u64().unwrap()).collect();
    let expected: Vec<_> = (1..=mixed.len() as u64).filter(|number| *number != 7).collect();
    assert_eq!(numbers, expected, "a blank line has no outcome");
    assert_eq!(told[3]["outcome"], "invalid");
    assert!(told[3]["error"].is_string());
    assert_eq!(told.last().unwrap()["outcome"], "unchanged");
    assert_eq!(
        told.iter().filter(|line| line["outcome"] == "applied").count(),
        lines.len()
    );
}

#[test]
fn reads_of_what_is_not_there_say_what_to_run_and_make_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let missing = format!("sqlite://{}", folder.path().join("no.db").display());
    for command in [&["jobs"][..], &["vms"], &["export"], &["health"]] {
        let ran = process::run(&mut process::persist(
            [&["--database-url", missing.as_str()], command].concat(),
        ));
        let ran = ran.exits(5);
        assert!(
            ran.stderr.contains("mode=rwc") || ran.stderr.contains("migrate"),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing was made"
    );
    let place = Place::empty(Database::Postgres);
    for command in [&["jobs"][..], &["vms"], &["export"], &["health"]] {
        let ran = persist(&place, command).exits(6);
        assert!(ran.stderr.contains("persist migrate up"), "{}", ran.stderr);
    }
    persist(&place, &["migrate", "up"]).ok();
    assert_eq!(persist(&place, &["--format", "jsonl", "jobs"]).ok().stdout, "");
}

#[test]
fn i10_escape_codes_and_newlines_are_stored_and_shown_escaped() {
    let id = sample::id(1);
    let name = "vm\u{1b}[31m\nred\u{7}";
    let line =
        json!({"vm": {"request_id": id, "domain_name": name, "state": "running", "actor": "\u{9b}2J"}});
    let (_folder, path) = file(&[line.to_string()]);
    for database in Database::BOTH {
        let place = Place::empty(database);
        import(&place, &path);
        let id = id.to_string();
        for command in [&["vms"][..], &["job", &id], &["-v", "vms", "--all"]] {
            let ran = persist(&place, command).ok();
            assert!(ran.stdout.contains("[31m"), "{command:?}: {}", ran.stdout);
            let harmless = |text: &str| text.chars().all(|one| one == '\n' || !one.is_control());
            assert!(
                harmless(&ran.stdout) && harmless(&ran.stderr),
                "{command:?}: {:?}",
                ran.stdout
            );
        }
        let row: Value =
            serde_json::from_str(&persist(&place, &["--format", "jsonl", "vms"]).ok().stdout).unwrap();
        assert_eq!(row["domain_name"], name);
    }
}
