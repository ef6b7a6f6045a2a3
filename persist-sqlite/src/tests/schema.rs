//! Migrations: up, down and up again, many at once, and what is said without them.

use std::time::Duration;

use persist_core::{
    Deadlines, Down, ErrorKind, EventQuery, JobQuery, JobState, PersistBackend as _, Update, UpdateOutcome,
    VmState,
};

use super::{PATIENCE, Place, claim, config, id, job, migrated, schema, url, vm};
use crate::{SqliteBackend, SqliteConfig};

#[tokio::test]
async fn without_tables_every_call_names_the_command() {
    let place = Place::new();
    for url in [place.url("rwc"), url("sqlite::memory:")] {
        let backend = SqliteBackend::open(config(url)).await.unwrap();
        let errors = [
            backend
                .apply(&[claim(job(1, JobState::Queued, 1))])
                .await
                .unwrap_err(),
            backend.job(id(1)).await.unwrap_err(),
            backend.events(&EventQuery::default()).await.unwrap_err(),
            backend
                .prune(&persist_core::Prune::default().ids([id(1)]))
                .await
                .unwrap_err(),
            backend.health().await.unwrap_err(),
            schema(&backend).check().await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{error:?}");
            assert!(error.to_string().contains("persist migrate up"), "{error}");
            assert_eq!(error.outcome(), UpdateOutcome::NotApplied);
        }
        let status = schema(&backend).status().await.unwrap();
        assert_eq!(
            status.pending().len(),
            schema(&backend).plan().await.unwrap().len()
        );
        let done = schema(&backend).up().await.unwrap();
        assert_eq!(done, status.pending());
        schema(&backend).check().await.unwrap();
        assert_eq!(schema(&backend).up().await.unwrap(), [""; 0]);
        let health = backend.health().await.unwrap();
        assert_eq!(health.schema_version.as_ref(), done.last());
        assert!(
            health
                .server
                .is_some_and(|server| server.starts_with("SQLite 3."))
        );
        assert_eq!(health.instance_id.map(|id| id.get_version_num()), Some(4));
        backend.close().await.unwrap();
    }
}

#[tokio::test]
async fn m11_down_and_up_again_makes_history_of_rows() {
    let backend = migrated(url("sqlite::memory:")).await;
    let updates: [Update; 4] = [
        job(1, JobState::Queued, 1).commit_sha("abcd").into(),
        job(1, JobState::Failed, 5).attempt(2).into(),
        vm(1, VmState::Prepared, 2).backend("bhyve").into(),
        job(2, JobState::Queued, 3).into(),
    ];
    backend.apply(&updates.map(claim)).await.unwrap();
    let error = schema(&backend).down(Down::steps(2)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.context("field")),
        (ErrorKind::InvalidInput, Some("confirmed"))
    );
    let reverted = schema(&backend)
        .down(Down::steps(6).confirmed(true))
        .await
        .unwrap();
    assert_eq!(reverted.len(), 6);
    assert_eq!(schema(&backend).up().await.unwrap().len(), 6);
    let history = backend.events(&EventQuery::default()).await.unwrap().items;
    let told: Vec<_> = history
        .iter()
        .map(|e| {
            (
                e.subject.request_id(),
                e.subject.is_vm(),
                e.state.name(),
                e.attempt().get(),
                e.at.timestamp(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (id(1), false, "queued", 1, 1),
            (id(1), false, "failed", 1, 5),
            (id(1), true, "prepared", 1, 2),
            (id(2), false, "queued", 1, 3),
        ]
    );
    assert!(
        history
            .iter()
            .all(|event| event.actor.as_deref() == Some("persist:adopted"))
    );
    let found = backend.job(id(1)).await.unwrap().unwrap();
    assert_eq!(
        (found.state, found.commit_sha.as_deref(), found.repo_url),
        (JobState::Failed, Some("abcd"), None)
    );
    // It goes on: rows know the slots that their values came from.
    let filled = backend
        .apply(&[claim(job(1, JobState::Queued, 1).runs_on("small"))])
        .await
        .unwrap();
    assert_eq!(filled[0].name(), "filled");
    assert_eq!(
        backend.job(id(1)).await.unwrap().unwrap().runs_on.as_deref(),
        Some("small")
    );
    schema(&backend).down(Down::all().confirmed(true)).await.unwrap();
    let left = |connection: &rusqlite::Connection| {
        Ok(
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| {
                row.get::<_, i64>(0)
            })?,
        )
    };
    assert_eq!(backend.store().read("test", PATIENCE, left).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn m1_many_handles_open_and_migrate_a_new_file_at_once() {
    for _ in 0..5 {
        let place = std::sync::Arc::new(Place::new());
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let place = std::sync::Arc::clone(&place);
                tokio::spawn(async move {
                    let backend = SqliteBackend::open(config(place.url("rwc"))).await?;
                    let done = schema(&backend).up().await?;
                    backend.apply(&[claim(job(1, JobState::Queued, 1))]).await?;
                    backend.close().await?;
                    Ok::<_, persist_core::Error>(done)
                })
            })
            .collect();
        let mut done = Vec::new();
        for task in tasks {
            done.extend(task.await.unwrap().unwrap());
        }
        done.sort();
        let known: Vec<_> = persist_migration::list(persist_core::sql::Dialect::Sqlite);
        assert!(
            done.iter().eq(known.iter().map(|migration| migration.name)),
            "each once: {done:?}"
        );
        let backend = place.open("rw").await.unwrap();
        assert_eq!(backend.jobs(&JobQuery::default()).await.unwrap().items.len(), 1);
        backend.close().await.unwrap();
    }
}

#[tokio::test]
async fn m4_a_migration_gives_up_when_the_lock_stays_taken() {
    let place = Place::new();
    let mut deadlines = Deadlines::default();
    deadlines.migration = Duration::from_millis(300);
    let backend = SqliteBackend::open(SqliteConfig::new(place.url("rwc")).deadlines(deadlines))
        .await
        .unwrap();
    let other = place.outside();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = schema(&backend).up().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.operation()),
        (ErrorKind::Busy, Some("migrate up"))
    );
    other.execute_batch("ROLLBACK").unwrap();
    assert!(!schema(&backend).up().await.unwrap().is_empty());
    backend.close().await.unwrap();
}

#[tokio::test]
async fn m7_a_newer_schema_is_used_where_it_allows() {
    let place = Place::new();
    let backend = place.migrated().await;
    place
        .outside()
        .execute_batch("INSERT INTO persist_migrations VALUES ('m9', 0); UPDATE persist_meta SET value = '9' WHERE key = 'min_writer'")
        .unwrap();
    for error in [
        schema(&backend).check().await.unwrap_err(),
        schema(&backend).up().await.unwrap_err(),
    ] {
        assert_eq!(
            (error.kind(), error.context("needed")),
            (ErrorKind::SchemaMismatch, Some("9"))
        );
    }
    let error = schema(&backend)
        .down(Down::all().confirmed(true))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SchemaMismatch);
    place
        .outside()
        .execute_batch("UPDATE persist_meta SET value = '4' WHERE key = 'min_writer'")
        .unwrap();
    schema(&backend).check().await.unwrap();
    backend
        .apply(&[claim(job(1, JobState::Queued, 1))])
        .await
        .unwrap();
    backend.close().await.unwrap();
}
