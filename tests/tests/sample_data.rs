//! The sample data of the repository: made by its program, and all of it can be imported.

use std::path::{Path, PathBuf};

use persist_tests::place::{Database, Place};
use persist_tests::process;
use serde_json::Value;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

#[test]
fn the_day_is_what_its_program_makes() {
    let made = process::run(&mut process::example("make_ci_day")).ok().stdout;
    let kept = std::fs::read_to_string(examples().join("ci-day.jsonl")).unwrap();
    assert!(
        made == kept,
        "run cargo run --example make_ci_day > examples/ci-day.jsonl"
    );
}

#[test]
fn the_day_shows_every_outcome_and_is_the_same_on_both_databases() {
    let file = examples().join("ci-day.jsonl");
    let mut exports = Vec::new();
    for database in Database::BOTH {
        let place = Place::empty(database);
        let persist = |arguments: &[&str]| {
            let arguments = [&["--database-url", place.url()], arguments].concat();
            process::run(&mut process::persist(arguments)).ok().stdout
        };
        let told = persist(&["--format", "json", "import", file.to_str().unwrap()]);
        let told: Value = serde_json::from_str(&told).unwrap();
        for outcome in ["applied", "late", "unchanged", "refused"] {
            assert!(told[outcome].as_u64().unwrap() > 0, "{outcome}: {told}");
        }
        assert_eq!(told["invalid"], 0, "{told}");
        assert!(told["read"].as_u64().unwrap() > 3_000, "{told}");
        let jobs = persist(&["--format", "jsonl", "jobs", "--all"]);
        assert_eq!(jobs.lines().count(), 500);
        assert!(jobs.contains(r#""attempt":2"#));
        exports.push(persist(&["export"]));
    }
    assert!(exports[0] == exports[1], "both databases export the same bytes");
}

#[test]
fn the_orchestrator_runs_with_and_without_a_store() {
    let requests = examples().join("requests.jsonl");
    let count = std::fs::read_to_string(&requests).unwrap().lines().count();
    let ended = |stdout: &str| -> usize {
        let counts = stdout.lines().take_while(|line| !line.is_empty());
        counts
            .map(|line| line.split_whitespace().next().unwrap().parse::<usize>().unwrap())
            .sum()
    };
    let ran = process::run(process::example("orchestrator").arg(&requests)).ok();
    assert_eq!(ended(&ran.stdout), count, "{}", ran.stdout);
    assert!(ran.stdout.contains("persistence is off"), "{}", ran.stdout);
    let mut summaries = Vec::new();
    for database in Database::BOTH {
        let place = Place::empty(database);
        let ran = process::run(
            process::example("orchestrator")
                .arg(&requests)
                .env("DATABASE_URL", place.url()),
        )
        .ok();
        assert_eq!(ended(&ran.stdout), count, "{}", ran.stdout);
        let arguments = [
            "--database-url",
            place.url(),
            "--format",
            "jsonl",
            "jobs",
            "--all",
        ];
        let jobs = process::run(&mut process::persist(arguments)).ok().stdout;
        assert_eq!(jobs.lines().count(), count);
        assert!(
            !jobs.contains(r#""state":"running""#) && !jobs.contains(r#""state":"queued""#),
            "{jobs}"
        );
        let arguments = ["--database-url", place.url(), "--format", "jsonl", "vms", "--all"];
        let vms = process::run(&mut process::persist(arguments)).ok().stdout;
        assert!(vms.lines().count() >= count);
        assert!(
            vms.lines().all(|vm| vm.contains(r#""state":"destroyed""#)),
            "all were cleaned up"
        );
        summaries.push(ran.stdout.split("\n\n").next().unwrap().to_owned());
    }
    assert_eq!(summaries[0], summaries[1], "the same requests end the same way");
}
