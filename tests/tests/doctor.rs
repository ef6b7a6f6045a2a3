//! `persist doctor` over stores that somebody edited by hand.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

#[path = "doctor/catalogue.rs"]
mod catalogue;
#[path = "doctor/files.rs"]
mod files;
#[path = "doctor/lost.rs"]
mod lost;
#[path = "doctor/others.rs"]
mod others;
#[path = "doctor/roles.rs"]
mod roles;

use persist::{Finding, JobState, Severity, VmState};
use persist_core::inspect::code;
use persist_tests::place::{Database, Place};
use persist_tests::process::{self, Ran};
use persist_tests::sample;
use serde_json::Value;

/// What nobody may ever read in a finding.
const SECRET: &str = "hunter2";

/// What the program says of a store.
#[derive(Debug)]
struct Told {
    ran: Ran,
    /// What is so.
    now: Vec<Finding>,
    /// What was so, and was mended.
    mended: Vec<Finding>,
}

impl Told {
    /// Code and place of what is above info.
    fn bad(&self) -> Vec<(&str, &str)> {
        let bad = self
            .now
            .iter()
            .filter(|finding| finding.severity > Severity::Info);
        bad.map(|finding| (finding.code.as_str(), finding.place.as_str()))
            .collect()
    }

    fn of(&self, code: &str, place: &str) -> &Finding {
        let is_it = |finding: &&Finding| finding.code == code && finding.place == place;
        let found = self.now.iter().find(is_it);
        found.unwrap_or_else(|| panic!("no {code} at {place}: {self:#?}"))
    }
}

fn doctor_at(url: &str, arguments: &[&str]) -> Told {
    let arguments = [&["--database-url", url, "--format", "jsonl", "doctor"], arguments].concat();
    let ran = process::run(&mut process::persist(arguments));
    let (mut now, mut mended) = (Vec::new(), Vec::new());
    for line in ran.stdout.lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        let is_mended = value["mended"].as_bool().unwrap();
        let finding: Finding = serde_json::from_value(value).unwrap();
        assert!(code::ALL.contains(&finding.code.as_str()), "{finding:?}");
        if finding.code == code::CONNECTIONS {
            // Of the server's, which others use as well.
            continue;
        }
        if is_mended {
            mended.push(finding);
        } else {
            now.push(finding);
        }
    }
    assert!(
        now.is_sorted_by_key(|finding| std::cmp::Reverse(finding.severity)),
        "the worst first: {now:?}"
    );
    assert!(
        !ran.stdout.contains(SECRET) && !ran.stderr.contains(SECRET),
        "{ran:?}"
    );
    Told { ran, now, mended }
}

fn doctor(place: &Place, arguments: &[&str]) -> Told {
    doctor_at(place.url(), arguments)
}

/// A store with rows, in whose texts there is a secret.
async fn store(database: Database) -> Place {
    let place = Place::empty(database);
    let backend = place.migrated().await.unwrap();
    let jobs = [JobState::Queued, JobState::Running, JobState::Failed].map(|state| {
        let n = state as u64 + 1;
        sample::job(n, state)
            .repo_url(format!("https://example.org/{SECRET}.git"))
            .reason(SECRET)
    });
    backend.apply(&sample::claims(jobs).unwrap()).await.unwrap();
    let vms = (1..=3).map(|n| sample::vm(n, SECRET, VmState::Running).backend(SECRET));
    backend.apply(&sample::claims(vms).unwrap()).await.unwrap();
    backend.close().await.unwrap();
    place
}

/// An edit of a table's own text, as nobody can make it with `ALTER` on SQLite.
fn rewritten(table: &str, sql: &str) -> String {
    format!(
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = {sql} WHERE type = 'table' AND name = '{table}'; \
         PRAGMA writable_schema = RESET"
    )
}

/// An edit, and the finding that it makes.
struct Edit {
    statements: String,
    code: &'static str,
    place: &'static str,
}

fn edit(statements: impl Into<String>, code: &'static str, place: &'static str) -> Edit {
    Edit {
        statements: statements.into(),
        code,
        place,
    }
}

/// What loses nothing.
fn harmless(database: Database) -> Vec<Edit> {
    let dropped = edit("DROP INDEX jobs_live", code::MISSING_INDEX, "jobs_live");
    let replaced = edit(
        "DROP INDEX vms_ended; CREATE INDEX vms_ended ON vms (domain_name)",
        code::WRONG_INDEX,
        "vms_ended",
    );
    let own = match database {
        Database::Sqlite => vec![
            edit(
                rewritten("jobs", "replace(sql, 'state TEXT NOT NULL', 'state TEXT')"),
                code::WRONG_NULLABILITY,
                "jobs.state",
            ),
            edit(
                rewritten("vms", "replace(sql, 'backend TEXT', 'backend TEXT NOT NULL')"),
                code::WRONG_NULLABILITY,
                "vms.backend",
            ),
            edit(
                rewritten(
                    "jobs",
                    "substr(sql, 1, instr(sql, ', CONSTRAINT jobs_state') - 1) || ') STRICT'",
                ),
                code::MISSING_CHECK,
                "jobs_state",
            ),
            edit(
                rewritten(
                    "vms",
                    "replace(sql, '(state = ''prepared'' OR', '(state = ''paused'' OR state = ''prepared'' OR')",
                ),
                code::WRONG_CHECK,
                "vms_state",
            ),
            edit(
                rewritten("events", "replace(sql, 'runs_on TEXT', 'runs_on INTEGER')"),
                code::WRONG_TYPE,
                "events.runs_on",
            ),
            edit(
                rewritten("persist_owners", "replace(sql, 'STRICT, ', '')"),
                code::WRONG_TABLE,
                "persist_owners",
            ),
            edit(
                "UPDATE persist_meta SET value = '1' WHERE key = 'next_seq'",
                code::NEXT_SEQ,
                "persist_meta.next_seq",
            ),
            edit(
                "DELETE FROM persist_meta WHERE key = 'next_seq'",
                code::NEXT_SEQ,
                "persist_meta.next_seq",
            ),
        ],
        Database::Postgres => vec![
            edit(
                "ALTER TABLE jobs ALTER state DROP NOT NULL",
                code::WRONG_NULLABILITY,
                "jobs.state",
            ),
            edit(
                "ALTER TABLE vms ALTER backend SET NOT NULL",
                code::WRONG_NULLABILITY,
                "vms.backend",
            ),
            edit(
                "ALTER TABLE jobs DROP CONSTRAINT jobs_state",
                code::MISSING_CHECK,
                "jobs_state",
            ),
            edit(
                "ALTER TABLE vms DROP CONSTRAINT vms_state, ADD CONSTRAINT vms_state CHECK (state <> 'paused')",
                code::WRONG_CHECK,
                "vms_state",
            ),
            edit(
                "UPDATE pg_constraint SET convalidated = false WHERE conrelid = 'events'::regclass AND conname = 'events_state'",
                code::INVALID_CHECK,
                "events_state",
            ),
            edit(
                "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'events_seq'::regclass",
                code::INVALID_INDEX,
                "events_seq",
            ),
            edit(
                "ALTER TABLE events ALTER xid DROP DEFAULT",
                code::WRONG_DEFAULT,
                "events.xid",
            ),
            edit(
                "ALTER TABLE jobs RESET (fillfactor)",
                code::WRONG_OPTION,
                "jobs.fillfactor",
            ),
        ],
    };
    [dropped, replaced].into_iter().chain(own).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_store_has_nothing_above_info() {
    for database in Database::BOTH {
        let place = Place::empty(database);
        place.migrated().await.unwrap().close().await.unwrap();
        let told = doctor(&place, &[]);
        assert_eq!(told.bad(), [], "{database:?}: {told:#?}");
        assert_eq!(told.ran.code(), 0);
        let strange =
            |finding: &&Finding| finding.code.starts_with("extra") || finding.code.starts_with("wrong");
        assert!(
            !told.now.iter().any(|finding| strange(&finding)),
            "{database:?}: {told:#?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m9_what_was_edited_by_hand_is_named_and_mended_and_no_row_changes() {
    for database in Database::BOTH {
        let place = store(database).await;
        let before = place.export().await.unwrap();
        for Edit {
            statements,
            code,
            place: at,
        } in harmless(database)
        {
            place.execute(&statements).await;
            let told = doctor(&place, &[]);
            assert_eq!(told.bad(), [(code, at)], "{database:?}, {statements}: {told:#?}");
            let finding = told.of(code, at);
            assert!(finding.is_safe && !finding.mend.is_empty(), "{finding:#?}");
            assert_eq!(told.ran.code(), 1);
            let told = doctor(&place, &["--fix"]);
            assert_eq!(told.ran.code(), 0, "{database:?}, {statements}: {told:#?}");
            assert_eq!(told.mended.len(), 1, "{told:#?}");
            assert_eq!(
                (told.mended[0].code.as_str(), told.mended[0].place.as_str()),
                (code, at)
            );
            let told = doctor(&place, &["--fix"]);
            assert_eq!(
                (told.bad(), told.mended.len()),
                (vec![], 0),
                "{database:?}, {statements}"
            );
        }
        assert_eq!(place.export().await.unwrap(), before, "{database:?}");
        assert_eq!(place.strays().await, [""; 0], "{database:?}");
        works(&place).await;
    }
}

/// A store takes updates and reads.
async fn works(place: &Place) {
    let backend = place.open().await.unwrap();
    let update = sample::claims([sample::job(77, JobState::Queued)]).unwrap();
    backend.apply(&update).await.unwrap();
    assert!(backend.job(sample::id(77)).await.unwrap().is_some());
    persist_tests::place::fold_holds(&backend).await;
    backend.close().await.unwrap();
}

/// With the column go its indexes, which can't be mended before it is.
#[tokio::test(flavor = "multi_thread")]
async fn m9_a_computed_column_comes_back_and_then_its_indexes() {
    for database in Database::BOTH {
        let place = store(database).await;
        let before = place.export().await.unwrap();
        let indexes = match database {
            Database::Sqlite => "DROP INDEX jobs_live; DROP INDEX jobs_ended;",
            Database::Postgres => "",
        };
        place
            .execute(&format!("{indexes} ALTER TABLE jobs DROP COLUMN ending"))
            .await;
        let told = doctor(&place, &[]);
        assert_eq!(
            told.bad(),
            [
                (code::MISSING_COLUMN, "jobs.ending"),
                (code::MISSING_INDEX, "jobs_ended"),
                (code::MISSING_INDEX, "jobs_live"),
            ]
        );
        assert!(!told.of(code::MISSING_INDEX, "jobs_live").is_safe);
        let told = doctor(&place, &["--fix"]);
        assert_eq!(
            (told.ran.code(), told.mended.len()),
            (0, 3),
            "{database:?}: {told:#?}"
        );
        assert_eq!(place.export().await.unwrap(), before, "{database:?}");
        works(&place).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_for_people_tells_why_and_ends_with_a_count() {
    let place = store(Database::Sqlite).await;
    place.execute("DROP INDEX jobs_live").await;
    let ran = process::run(&mut process::persist(["--database-url", place.url(), "doctor"])).exits(1);
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert!(
        lines[0].starts_with("warning  jobs_live: the index is missing"),
        "{}",
        ran.stdout
    );
    assert!(
        lines[1].contains("why:") && lines[2].contains("mend: CREATE INDEX jobs_live"),
        "{}",
        ran.stdout
    );
    assert_eq!(lines.last(), Some(&"0 errors, 1 warning, 0 notes"));
    let ran = process::run(&mut process::persist([
        "--database-url",
        place.url(),
        "doctor",
        "--fix",
    ]))
    .ok();
    assert!(ran.stdout.starts_with("mended   jobs_live:"), "{}", ran.stdout);
    assert!(
        ran.stdout.ends_with("0 errors, 0 warnings, 0 notes; 1 mended\n"),
        "{}",
        ran.stdout
    );
}
