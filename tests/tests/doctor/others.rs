//! What others have made or set, which mending must not take from them.

use persist::Severity;
use persist_core::inspect::code;
use persist_tests::cluster;
use persist_tests::place::{Database, Place};

use super::{doctor, rewritten, store};

/// The file's SQLite honours foreign keys: a table that is dropped to be made anew would empty those that refer to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_refers_to_ours_keeps_its_rows() {
    let place = store(Database::Sqlite).await;
    place
        .execute(&format!(
            "CREATE TABLE notes (job BLOB REFERENCES JOBS(request_id) ON DELETE CASCADE, text TEXT); \
             INSERT INTO notes SELECT request_id, 'mine' FROM jobs; {}",
            rewritten("jobs", "replace(sql, 'state TEXT NOT NULL', 'state TEXT')")
        ))
        .await;
    let told = doctor(&place, &["--fix"]);
    assert_eq!(place.count("FROM notes").await, 3, "{told:#?}");
    let finding = told.of(code::WRONG_NULLABILITY, "jobs.state");
    assert!(
        !finding.is_safe && finding.what.contains("refers to it"),
        "{finding:#?}"
    );
    assert_eq!(told.ran.code(), 1);
}

/// A newer program may have let in a state that this one does not know.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_program_has_made_is_not_taken_back() {
    for database in Database::BOTH {
        let place = store(database).await;
        let wider = match database {
            Database::Sqlite => rewritten(
                "vms",
                "replace(sql, '(state = ''prepared'' OR', '(state = ''paused'' OR state = ''prepared'' OR')",
            ),
            Database::Postgres => "ALTER TABLE vms DROP CONSTRAINT vms_state, ADD CONSTRAINT vms_state \
                 CHECK (state IN ('prepared', 'running', 'stopped', 'failed', 'destroyed', 'paused'))"
                .to_owned(),
        };
        place
            .execute(&format!(
                "{wider}; DROP INDEX jobs_live; INSERT INTO persist_migrations (name, applied_at) \
                 SELECT 'm20991231_000099_wider', applied_at FROM persist_migrations LIMIT 1"
            ))
            .await;
        let told = doctor(&place, &[]);
        assert!(told.now.iter().all(|finding| !finding.is_safe), "{told:#?}");
        let finding = told.of(code::WRONG_CHECK, "vms_state");
        assert!(finding.why.contains("a newer program"), "{finding:#?}");
        let again = doctor(&place, &["--fix"]);
        assert_eq!(
            (again.bad(), again.mended.len()),
            (told.bad(), 0),
            "{database:?}: {again:#?}"
        );
        let backend = place.open().await.unwrap();
        let error = backend
            .inspect()
            .unwrap()
            .mend(&finding.clone().safe())
            .await
            .unwrap_err();
        assert_eq!(
            error.kind(),
            persist::ErrorKind::InvalidInput,
            "{database:?}: {error}"
        );
        backend.close().await.unwrap();
    }
}

/// The slots that a prune took were numbered above those that are left.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_went_with_a_prune_is_not_given_again() {
    let place = store(Database::Sqlite).await;
    place
        .execute("INSERT INTO persist_meta (key, value) VALUES ('pruned_to', '3 0 900')")
        .await;
    for lost in [
        "UPDATE persist_meta SET value = '900' WHERE key = 'next_seq'",
        "DELETE FROM persist_meta WHERE key = 'next_seq'",
    ] {
        place.execute(lost).await;
        let told = doctor(&place, &["--fix"]);
        assert_eq!((told.bad(), told.mended.len()), (vec![], 1), "{lost}: {told:#?}");
        let next = place
            .texts("SELECT value FROM persist_meta WHERE key = 'next_seq'")
            .await;
        assert_eq!(next, ["901"], "{lost}");
    }
    // What says nothing of the past is no base for numbers.
    place
        .execute(
            "UPDATE persist_meta SET value = 'x' WHERE key = 'pruned_to'; \
             DELETE FROM persist_meta WHERE key = 'next_seq'",
        )
        .await;
    let told = doctor(&place, &["--fix"]);
    assert!(
        !told.of(code::NEXT_SEQ, "persist_meta.next_seq").is_safe,
        "{told:#?}"
    );
}

/// Our sessions set both by themselves, those of other programs that write to the store do not.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_database_sets_for_its_sessions_is_told() {
    let place = Place::at(cluster::shared().fresh_database_url().await);
    place.migrated().await.unwrap().close().await.unwrap();
    place
        .execute(
            "DO $$ BEGIN \
             EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); \
             EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = %L', current_database(), \
             'serializable'); END $$",
        )
        .await;
    let told = doctor(&place, &["--fix"]);
    assert_eq!(
        told.bad(),
        [
            (code::NOT_DURABLE, "synchronous_commit"),
            (code::ISOLATION, "default_transaction_isolation"),
        ],
        "{told:#?}"
    );
    for finding in told
        .now
        .iter()
        .filter(|finding| finding.severity > Severity::Info)
    {
        assert!(!finding.is_safe, "{finding:#?}");
        place.execute(&finding.mend.join(";")).await;
    }
    assert_eq!(doctor(&place, &[]).bad(), []);
}

/// As after a dump was restored into a younger server: no transaction there comes so far for long.
#[tokio::test(flavor = "multi_thread")]
async fn slots_of_transactions_that_are_yet_to_come_are_told() {
    let place = store(Database::Postgres).await;
    place
        .execute("UPDATE events SET xid = '9000000000000' WHERE state = 'queued'")
        .await;
    let told = doctor(&place, &["--fix"]);
    assert_eq!(told.bad(), [(code::XID_AHEAD, "events.xid")], "{told:#?}");
    let finding = told.of(code::XID_AHEAD, "events.xid");
    assert!(!finding.is_safe, "{finding:#?}");
    place.execute(&finding.mend.join(";")).await;
    assert_eq!(doctor(&place, &[]).bad(), []);
}
