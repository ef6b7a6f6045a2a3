//! `persist verify`: rows that are not their history, and a history that is not what it was, are found and named.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::fs;
use std::path::PathBuf;

use persist_core::JobState::{Failed, Queued, Running, Succeeded};
use persist_core::{JobUpdate, VmState};
use persist_tests::place::{Database, Place};
use persist_tests::process::{self, Ran};
use persist_tests::sample::{claims, id, job, vm};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A store of five jobs with a VM each, of which all is more than a minute old.
async fn store(database: Database) -> Place {
    let place = Place::empty(database);
    let backend = place.migrated().await.unwrap();
    for n in 1..=5 {
        let history = [job(n, Queued), job(n, Running).runs_on("large"), job(n, Failed)];
        backend.apply(&claims(history).unwrap()).await.unwrap();
        let vms = [vm(n, "vm-7", VmState::Running), vm(n, "vm-7", VmState::Destroyed)];
        backend.apply(&claims(vms).unwrap()).await.unwrap();
    }
    backend.close().await.unwrap();
    place
        .execute(match database {
            Database::Sqlite => "UPDATE events SET recorded_at = recorded_at - 3600000000",
            Database::Postgres => "UPDATE events SET recorded_at = recorded_at - interval '1 hour'",
        })
        .await;
    place
}

fn persist(place: &Place, arguments: &[&str]) -> Ran {
    process::run(&mut process::persist(
        [&["--database-url", place.url(), "--format", "json"], arguments].concat(),
    ))
}

fn one(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// The id as a literal of this database.
fn literal(database: Database, n: u64) -> String {
    match database {
        Database::Sqlite => format!("X'{}'", id(n).simple()),
        Database::Postgres => format!("'{}'", id(n)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_not_their_history_are_named_and_no_others() {
    for database in Database::BOTH {
        let place = store(database).await;
        let sound = persist(&place, &["verify"]).ok();
        assert_eq!(one(&sound), json!({"jobs": 5, "vms": 5, "slots": 25, "flaws": 0}));

        let of = |n| literal(database, n);
        let edits = [
            format!(
                "UPDATE jobs SET state = 'succeeded', runs_on = 'small' WHERE request_id = {}",
                of(1)
            ),
            format!(
                "DELETE FROM events WHERE request_id = {} AND domain_name = ''",
                of(2)
            ),
            format!("DELETE FROM vms WHERE request_id = {}", of(3)),
        ];
        place.execute(&edits.join(";")).await;
        let found = persist(&place, &["verify"]).exits(1);
        let expected = json!({"jobs": 5, "vms": 5, "slots": 22, "flaws": 3, "flawed": [
            {"request_id": id(1), "domain_name": null, "flaw": "differs", "columns": ["state", "runs_on"]},
            {"request_id": id(2), "domain_name": null, "flaw": "without_slots", "columns": []},
            {"request_id": id(3), "domain_name": "vm-7", "flaw": "without_row", "columns": []},
        ]});
        assert_eq!(one(&found), expected, "{database:?}");
        let table = process::run(&mut process::persist(["--database-url", place.url(), "verify"])).exits(1);
        assert!(table.stdout.contains("state, runs_on"), "{}", table.stdout);
        assert!(
            table.stderr.contains("3 of 5 jobs and 5 VMs are not"),
            "{}",
            table.stderr
        );
        let file = place_of_a_digest().1;
        persist(&place, &["verify", "--save", file.to_str().unwrap()]).exits(1);
        assert!(!file.exists(), "no digest of a store that is not well");
    }
}

fn place_of_a_digest() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.digest");
    (folder, file)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_finds_what_was_done_to_history_and_row_alike() {
    for database in Database::BOTH {
        let place = store(database).await;
        let (_folder, file) = place_of_a_digest();
        let file = file.to_str().unwrap();
        let saved = one(&persist(&place, &["verify", "--save", file]).ok());
        assert_eq!(
            (&saved["saved"]["jobs"], &saved["saved"]["slots"]),
            (&json!(5), &json!(25))
        );
        persist(&place, &["verify", "--save", file]).exits(2);
        let against = |more: &[&str]| persist(&place, &[&["verify", "--against", file], more].concat());
        assert_eq!(one(&against(&[]).ok())["history"]["unchanged"], 5);

        // What comes later is no change of what was: a late report, a new job, a blank that is filled.
        let backend = place.open().await.unwrap();
        let later = [
            JobUpdate::new(id(1), Queued).attempt(2),
            job(9, Succeeded),
            job(4, Queued).reason("a push"),
        ];
        backend.apply(&claims(later).unwrap()).await.unwrap();
        let told = one(&against(&[]).ok());
        assert_eq!(told["history"]["completed"], 1, "{told}");
        assert_eq!(told["history"]["unchanged"], 4, "{told}");

        // Row and history edited alike: the rows are well, the history is not what it was.
        let of = |n| literal(database, n);
        let both = [
            format!(
                "UPDATE events SET state = 'succeeded' WHERE request_id = {} AND state = 'failed'",
                of(1)
            ),
            format!(
                "DELETE FROM events WHERE request_id = {} AND state = 'queued'",
                of(2)
            ),
            format!(
                "UPDATE jobs SET created_at = (SELECT min(at) FROM events WHERE events.request_id = jobs.request_id \
                 AND domain_name = '') WHERE request_id = {}",
                of(2)
            ),
        ];
        place.execute(&both.join(";")).await;
        let pruned = persist_core::Prune::default().ids([id(3)]);
        assert_eq!(backend.prune(&pruned).await.unwrap().jobs, 1);
        backend.close().await.unwrap();
        persist(&place, &["verify"]).ok();
        let told = one(&against(&[]).exits(1));
        let changes = told["history"]["changes"].as_array().unwrap();
        let named: Vec<_> = changes
            .iter()
            .map(|change| {
                (
                    change["request_id"].as_str().unwrap().to_owned(),
                    change["change"].as_str().unwrap(),
                )
            })
            .collect();
        let expected = [(1, "edited"), (2, "deleted"), (3, "gone")];
        assert_eq!(
            named,
            expected.map(|(n, what)| (id(n).to_string(), what)),
            "{database:?}"
        );
        against(&["--allow-pruned"]).exits(1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_jobs_that_were_pruned_may_be_gone_where_that_is_said() {
    let place = store(Database::Sqlite).await;
    let (_folder, file) = place_of_a_digest();
    let file = file.to_str().unwrap();
    persist(&place, &["verify", "--save", file]).ok();
    let backend = place.open().await.unwrap();
    let pruned = persist_core::Prune::default().ids([id(1), id(5)]);
    backend.prune(&pruned).await.unwrap();
    backend.close().await.unwrap();
    persist(&place, &["verify", "--against", file]).exits(1);
    let told = one(&persist(&place, &["verify", "--against", file, "--allow-pruned"]).ok());
    assert_eq!(
        (&told["history"]["gone"], &told["history"]["unchanged"]),
        (&json!(2), &json!(3))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_was_changed_or_is_of_another_store_is_refused_with_its_line() {
    let (place, other) = (store(Database::Sqlite).await, store(Database::Sqlite).await);
    let (_folder, file) = place_of_a_digest();
    let path = file.to_str().unwrap();
    persist(&place, &["verify", "--save", path]).ok();
    let elsewhere = persist(&other, &["verify", "--against", path]).exits(1);
    assert!(
        elsewhere.stderr.contains("was saved of store"),
        "{}",
        elsewhere.stderr
    );

    let whole = fs::read_to_string(&file).unwrap();
    let lines: Vec<_> = whole.lines().collect();
    assert_eq!(lines.len(), 7, "head, five jobs, foot");
    let wrong = [
        (
            "cut",
            lines[..4].join("\n") + "\n",
            ":5: ends before its last line",
        ),
        (
            "a job left out",
            [&lines[..2], &lines[3..]].concat().join("\n") + "\n",
            ":6: does not fit",
        ),
        ("a line more", whole.clone() + "{}\n", ":8: does not fit"),
        ("no digest", "{}\n".to_owned(), ":1: is no digest"),
        ("no JSON", lines[..2].join("\n") + "\nx\n", ":3: is neither"),
    ];
    for (what, text, told) in wrong {
        fs::write(&file, text).unwrap();
        let refused = persist(&place, &["verify", "--against", path]).exits(1);
        assert!(refused.stderr.contains(told), "{what}: {}", refused.stderr);
    }
}
