//! Roles that may look and may not mend, and handles of the library.

use std::sync::Arc;

use persist::{ErrorKind, Finding, OpenOptions, Severity};
use persist_core::inspect::code;
use persist_tests::cluster;
use persist_tests::place::{Database, Place};

use super::{doctor, doctor_at, store};

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_the_right_to_change_tables_is_told_who_has_it() {
    let place = store(Database::Postgres).await;
    let (role, schema) = (cluster::shared().fresh_name("app"), place.schema());
    cluster::shared()
        .sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'app'"))
        .await;
    place
        .execute(&format!(
            "GRANT USAGE ON SCHEMA {schema} TO {role}; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}; DROP INDEX jobs_live"
        ))
        .await;
    let mut url = url::Url::parse(place.url()).unwrap();
    url.set_username(&role).unwrap();
    url.set_password(Some("app")).unwrap();
    let told = doctor_at(url.as_str(), &[]);
    assert_eq!(
        (told.bad(), told.ran.code()),
        (vec![(code::MISSING_INDEX, "jobs_live")], 1)
    );
    let owner = told.of(code::ROLE_RIGHTS, "owner");
    assert_eq!(owner.severity, Severity::Info, "{owner:#?}");
    let told = doctor_at(url.as_str(), &["--fix"]);
    assert_eq!(
        (told.bad(), told.ran.code()),
        (vec![(code::MISSING_INDEX, "jobs_live")], 5)
    );
    assert!(
        told.ran.stderr.contains("their owner must run"),
        "{}",
        told.ran.stderr
    );
    let told = doctor(&place, &["--fix"]);
    assert_eq!(told.ran.code(), 0, "{told:#?}");
    cluster::shared()
        .sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
}

/// What a handle is told to mend comes from its own look, never from whoever calls.
#[tokio::test(flavor = "multi_thread")]
async fn a_finding_from_elsewhere_runs_nothing() {
    for database in Database::BOTH {
        let place = store(database).await;
        place.execute("DROP INDEX jobs_live").await;
        let backend = place.open().await.unwrap();
        let inspect = backend.inspect().unwrap();
        let now = inspect.findings().await.unwrap();
        let missing = now
            .iter()
            .find(|finding| finding.code == code::MISSING_INDEX)
            .unwrap();
        let forged = missing.clone().mended_by(["DROP TABLE jobs"]).safe();
        let other = Finding::new("anything", "jobs", Severity::Error, "", "")
            .mended_by(["DROP TABLE jobs"])
            .safe();
        for finding in [forged, other] {
            let error = inspect.mend(&finding).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{database:?}: {error}");
        }
        inspect.mend(missing).await.unwrap();
        let error = inspect.mend(missing).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "it was mended: {error}");
        // The connection of the mending had settings that no other call may have.
        assert!(backend.job(persist_tests::sample::id(1)).await.unwrap().is_some());
        backend.close().await.unwrap();
        assert_eq!(doctor(&place, &[]).bad(), [], "{database:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_may_only_be_read_is_looked_over_and_not_mended() {
    let place = store(Database::Sqlite).await;
    place
        .execute("DROP INDEX jobs_live; PRAGMA journal_mode = DELETE")
        .await;
    let url = place.url().replace("mode=rwc", "mode=ro").parse().unwrap();
    let backend = persist::open(&url, &OpenOptions::default()).await.unwrap();
    let inspect = backend.inspect().unwrap();
    let now = inspect.findings().await.unwrap();
    assert_eq!(
        now.iter().filter(|finding| finding.is_safe).count(),
        2,
        "{now:#?}"
    );
    for finding in now.iter().filter(|finding| finding.is_safe) {
        let error = inspect.mend(finding).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadOnly, "{finding:?}: {error}");
    }
    backend.close().await.unwrap();
}

/// Writers go on while an index is made.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_mended_beside_those_who_write() {
    for database in Database::BOTH {
        let place = store(database).await;
        let backend = place.open().await.unwrap();
        let writer = Arc::clone(&backend);
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let writing = tokio::spawn(async move {
            let mut n = 1_000;
            while stopped.try_recv().is_err() {
                n += 1;
                let claims =
                    persist_tests::sample::claims([persist_tests::sample::job(n, persist::JobState::Queued)]);
                writer.apply(&claims.unwrap()).await.unwrap();
            }
            n - 1_000
        });
        let edits = match database {
            Database::Sqlite => "DROP INDEX jobs_live",
            Database::Postgres => "DROP INDEX jobs_live; ALTER TABLE jobs ALTER state DROP NOT NULL",
        };
        place.execute(edits).await;
        let told = doctor(&place, &["--fix"]);
        stop.send(()).unwrap();
        let written = writing.await.unwrap();
        assert_eq!(
            (told.bad(), told.ran.code()),
            (vec![], 0),
            "{database:?}: {told:#?}"
        );
        assert_eq!(
            place.count("FROM events WHERE state = 'queued'").await,
            written + 1
        );
        backend.close().await.unwrap();
    }
}

/// In the schema that names without one mean.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_no_schema_of_its_own_is_mended_too() {
    let place = Place::at(cluster::shared().fresh_database_url().await);
    place.migrated().await.unwrap().close().await.unwrap();
    place
        .execute("DROP INDEX vms_live; ALTER TABLE jobs DROP CONSTRAINT jobs_state, ALTER rank DROP NOT NULL")
        .await;
    let told = doctor(&place, &["--fix"]);
    assert_eq!(
        (told.bad(), told.mended.len(), told.ran.code()),
        (vec![], 3, 0),
        "{told:#?}"
    );
    // What an interrupted mending left behind is in nobody's way.
    place
        .execute(
            "ALTER TABLE jobs ALTER rank DROP NOT NULL, \
             ADD CONSTRAINT jobs_rank_filled CHECK (rank IS NOT NULL) NOT VALID",
        )
        .await;
    let told = doctor(&place, &["--fix"]);
    assert_eq!(
        (told.bad(), told.mended.len(), told.ran.code()),
        (vec![], 1, 0),
        "{told:#?}"
    );
}

/// Somebody else's tables of the same names, in a schema that is searched too, are not looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_without_a_store_lacks_every_migration_and_nothing_else() {
    let place = Place::empty(Database::Postgres);
    let told = doctor(&place, &[]);
    let all = persist_migration::list(persist_core::sql::Dialect::Postgres).len();
    assert_eq!((told.bad().len(), told.ran.code()), (all, 1), "{told:#?}");
}
