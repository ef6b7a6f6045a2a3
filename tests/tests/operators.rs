//! The commands that look and tidy: `job --at`, `prune`, `artefacts`, `stats`; and what all of them refuse.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::fs;

use persist_core::JobState::{self, Failed, Queued, Succeeded};
use persist_core::VmState;
use persist_tests::place::{Database, Place};
use persist_tests::process::{self, Ran};
use persist_tests::sample::{at, claims, id, job, vm};
use serde_json::{Value, json};

async fn store(database: Database, updates: impl IntoIterator<Item = persist_core::Update>) -> Place {
    let place = Place::empty(database);
    let backend = place.migrated().await.unwrap();
    backend.apply(&claims(updates).unwrap()).await.unwrap();
    backend.close().await.unwrap();
    place
}

fn persist(place: &Place, arguments: &[&str]) -> Ran {
    process::run(&mut process::persist(
        [&["--database-url", place.url()], arguments].concat(),
    ))
}

fn as_json(place: &Place, arguments: &[&str]) -> Value {
    let ran = persist(place, &[&["--format", "json"], arguments].concat()).ok();
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_told_as_of_a_time_with_its_chart_and_what_is_odd() {
    let updates = [
        job(1, Queued).at(at(0)).into(),
        job(1, JobState::Running).at(at(60)).into(),
        job(1, Failed).at(at(600)).into(),
        vm(1, "vm-7", VmState::Running).at(at(61)).into(),
    ];
    for database in Database::BOTH {
        let place = store(database, updates.clone()).await;
        let id = id(1).to_string();
        let mut job = process::persist(["--database-url", place.url(), "job", &id]);
        let told = process::run(job.env("LC_ALL", "C")).ok().stdout;
        let legend = " in all: . waiting  # running  - over, not gone\n";
        assert!(told.contains(legend), "{told}");
        assert!(told.contains("\njob   ") && told.contains("\nvm-7  "), "{told}");
        assert!(
            told.contains("odd: vm-7, attempt 1: prepared was never reported"),
            "{told}"
        );
        assert!(
            told.contains("odd: vm-7, attempt 1: it is running and its job has failed"),
            "{told}"
        );
        let then = persist_core::time::format(at(60));
        let past = as_json(&place, &["job", &id, "--at", &then]);
        assert_eq!(
            (&past["job"]["state"], &past["vms"]),
            (&json!("running"), &json!([]))
        );
        let before = persist_core::time::format(at(-1));
        let none = persist(&place, &["job", &id, "--at", &before]).exits(3);
        assert!(none.stderr.contains("by then"), "{}", none.stderr);
        let known = as_json(&place, &["job", &id, "--recorded-at", "0s"]);
        assert_eq!(known["job"]["state"], "failed");
        persist(&place, &["job", &id, "--recorded-at", &then]).exits(3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_tells_first_removes_by_batches_and_leaves_the_living() {
    for database in Database::BOTH {
        let ended = (1..=25).map(|n| job(n, Succeeded).into());
        let place = store(database, ended.chain([job(26, Queued).into()])).await;
        let told = persist(&place, &["prune", "--older-than", "0s", "--dry-run"]).ok();
        assert_eq!(
            told.stdout,
            "would prune 25 request ids: 25 jobs, 0 VMs, 25 slots\n"
        );
        assert_eq!(place.count("FROM jobs").await, 26);
        for (wrong, told) in [
            (&["prune", "--older-than", "0s"][..], "--yes"),
            (
                &["prune", "--yes"],
                "needs ids, an age, states or a number to keep",
            ),
            (
                &["prune", "--state", "running", "--yes"],
                "a live job is removed only when its id is named",
            ),
            (&["prune", "--older-than", "soon", "--yes"], "is no span such as"),
        ] {
            let refused = persist(&place, wrong).exits(2);
            assert!(refused.stderr.contains(told), "{wrong:?}: {}", refused.stderr);
        }
        let pruned = as_json(&place, &["prune", "--older-than", "0s", "--batch", "10", "--yes"]);
        let expected =
            json!({"dry_run": false, "requests": 25, "jobs": 25, "vms": 0, "events": 25, "more": false});
        assert_eq!(pruned, expected, "{database:?}");
        // Right after: the one before let go of its lease.
        let again = persist(&place, &["prune", "--older-than", "0s", "--yes"]).ok();
        assert!(
            again.stdout.starts_with("pruned 0 request ids"),
            "{}",
            again.stdout
        );
        let id_of = id(26).to_string();
        // Conditions narrow the ids, also where they would be wrong without any.
        for narrowed in [["--state", "running"], ["--older-than", "9999d"]] {
            let arguments = [&["prune", "--id", &id_of, "--yes"], &narrowed[..]].concat();
            let kept = persist(&place, &arguments).ok();
            assert!(kept.stdout.starts_with("pruned 0 request ids"), "{}", kept.stdout);
        }
        let named = persist(&place, &["prune", "--id", &id_of, "--yes"]).ok();
        assert!(
            named.stdout.starts_with("pruned 1 request ids: 1 jobs"),
            "{}",
            named.stdout
        );
        assert_eq!(place.count("FROM events").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_leak_and_files_that_are_missing_are_found_and_nothing_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let of = |n, state, name: &str| vm(n, "vm", state).overlay_path(path(name)).into();
    let updates = [
        of(1, VmState::Running, "in-use"),
        of(2, VmState::Running, "missing"),
        of(3, VmState::Destroyed, "leaks"),
        of(4, VmState::Stopped, "overdue"),
        of(5, VmState::Destroyed, "shared"),
        of(6, VmState::Running, "shared"),
        of(7, VmState::Destroyed, "gone"),
        vm(8, "vm", VmState::Running)
            .overlay_path("/elsewhere/missing")
            .into(),
    ];
    fs::create_dir(folder.path().join("below")).unwrap();
    for name in ["in-use", "leaks", "overdue", "shared", "below/stranger"] {
        fs::write(path(name), name).unwrap();
    }
    let checked = ["artefacts", "--check-dir", &folder.path().display().to_string()];
    for database in Database::BOTH {
        let place = store(database, updates.clone()).await;
        let found = persist(&place, &[&["--format", "json"], &checked[..]].concat()).exits(1);
        let found: Vec<Value> = serde_json::from_str(&found.stdout).unwrap();
        let mut told: Vec<_> = found
            .iter()
            .map(|one| {
                (
                    one["found"].as_str().unwrap(),
                    one["path"].as_str().unwrap().to_owned(),
                )
            })
            .collect();
        told.sort();
        let expected = [
            ("ghost", path("missing")),
            ("leak", path("leaks")),
            ("leak", path("overdue")),
            ("stranger", path("below/stranger")),
        ];
        assert_eq!(told, expected, "{database:?}");
        let leak = found.iter().find(|one| one["path"] == path("leaks")).unwrap();
        assert_eq!(
            (&leak["bytes"], &leak["request_id"]),
            (&json!(5), &json!(id(3).to_string()))
        );
        let all = as_json(&place, &["artefacts"]);
        assert_eq!(
            all.as_array().unwrap().len(),
            5,
            "all but those that are gone: {all}"
        );
        let overdue = as_json(&place, &["artefacts", "--overdue"]);
        assert_eq!(overdue[0]["path"], path("overdue"), "{overdue}");
    }
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        5,
        "nothing is deleted"
    );
    for name in ["leaks", "overdue"] {
        fs::remove_file(path(name)).unwrap();
    }
    fs::write(path("missing"), "").unwrap();
    let place = store(Database::Sqlite, updates).await;
    let well = persist(&place, &checked).ok();
    assert!(
        well.stdout.contains("stranger"),
        "a stranger alone is no failure: {}",
        well.stdout
    );
    let no_folder = persist(&place, &["artefacts", "--check-dir", "/no/such/folder"]).exits(1);
    assert!(
        no_folder.stderr.contains("/no/such/folder could not be read"),
        "{}",
        no_folder.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_count_and_measure_by_repository_and_runner() {
    let updates = (1..=4).flat_map(|n| {
        let begun = n as i64 * 100;
        let repo = if n == 4 {
            "https://example.org/b.git"
        } else {
            "https://example.org/a.git"
        };
        [
            job(n, Queued).at(at(begun)).repo_url(repo).into(),
            job(n, JobState::Running).at(at(begun + 10)).into(),
            job(n, Succeeded).at(at(begun + 70)).into(),
        ]
    });
    let place = store(Database::Sqlite, updates.chain([job(5, Queued).into()])).await;
    let since = persist_core::time::format(at(100));
    let arguments = ["stats", "--since", &since, "--by", "repo"];
    let told = as_json(&place, &arguments);
    assert_eq!(told["live"], json!({"queued": 1}));
    assert_eq!(told["all"]["jobs"], 4);
    let waited = told["all"]["waited"]["p50_ms"].as_u64().unwrap();
    assert!((9_990..=10_010).contains(&waited), "true to three digits: {told}");
    assert_eq!(told["groups"][0]["repo_url"], "https://example.org/a.git");
    assert_eq!(
        (&told["groups"][0]["jobs"], &told["groups"][1]["jobs"]),
        (&json!(3), &json!(1))
    );
    let table = persist(&place, &arguments).ok().stdout;
    assert!(
        table.contains("live now: 1 queued") && table.contains("10.0 s"),
        "{table}"
    );
    let empty = persist(&place, &["stats", "--until", "2000-01-01T00:00:00Z"])
        .ok()
        .stdout;
    assert!(empty.contains("0 jobs: none"), "{empty}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blank_filter_is_refused_and_ends_nobodys_work() {
    let updates = [vm(1, "vm", VmState::Running).actor("one").into()];
    let place = store(Database::Sqlite, updates).await;
    let recover = "recover --mark lost --grace 0s --reason restart --actor".split(' ');
    let recover: Vec<_> = recover.chain([""]).collect();
    for arguments in [
        &recover[..],
        &["orphans", "--actor", " "],
        &["jobs", "--repo-url="],
        &["vms", "--name", ""],
        &["watch", "--from", ""],
    ] {
        let ran = persist(&place, arguments).exits(2);
        assert!(ran.stderr.contains("is blank"), "{arguments:?}: {}", ran.stderr);
    }
    let vms = as_json(&place, &["vms", "--job", &id(1).to_string()[..8]]);
    assert_eq!(vms["items"][0]["state"], "running");
    assert_eq!(
        as_json(&place, &["vms", "--job", &id(1).to_string()])["items"],
        vms["items"]
    );
    persist(&place, &["prune", "--id", &id(1).to_string()[..8], "--yes"]).exits(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_well_is_told_by_the_exit_code_also_where_nobody_reads() {
    let place = store(Database::Sqlite, [job(1, Queued).into()]).await;
    place.execute("UPDATE jobs SET state = 'running'").await;
    place.execute("DROP INDEX jobs_live").await;
    let folder = tempfile::tempdir().unwrap();
    for what in ["verify", "doctor"] {
        for format in ["table", "jsonl"] {
            let arguments = ["--database-url", place.url(), "--format", format, what];
            let mut command = process::persist(arguments);
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            process::run(command.stdout(writer).current_dir(folder.path())).exits(1);
        }
    }
}

#[test]
fn an_import_of_no_file_makes_no_database() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/new.db?mode=rwc", folder.path().display());
    let import = |files: &[&str]| {
        let arguments = [&["--database-url", &url, "import"], files].concat();
        process::run(process::persist(arguments).current_dir(folder.path()))
    };
    let ran = import(&["none.jsonl", "neither.jsonl"]).exits(1);
    assert!(ran.stderr.contains("none.jsonl: "), "{}", ran.stderr);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    fs::write(folder.path().join("some.jsonl"), "").unwrap();
    import(&["none.jsonl", "some.jsonl"]).exits(1);
    assert!(folder.path().join("new.db").exists());
}
