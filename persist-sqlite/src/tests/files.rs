//! Files: made, found, foreign, read-only, closed.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use persist_core::{ErrorKind, JobQuery, JobState, PersistBackend as _, UpdateOutcome};
use rusqlite::Connection;

use super::{Place, claim, id, job, migrated, schema, url};
use crate::connection::{Holds, set_up_journal};
use crate::error::Failed;

#[tokio::test]
async fn a_file_is_private_from_its_first_byte_and_one_file_when_closed() {
    let place = Place::new();
    let backend = place.migrated().await;
    backend
        .apply(&[claim(job(1, JobState::Queued, 1))])
        .await
        .unwrap();
    backend.job(id(1)).await.unwrap().unwrap();
    let files = || {
        fs::read_dir(place.0.path())
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
    };
    assert_eq!(files().count(), 3, "the file, its log and the log's index");
    for file in files() {
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600,
            "{}",
            file.display()
        );
    }
    backend.close().await.unwrap();
    backend.close().await.unwrap();
    assert_eq!(files().collect::<Vec<_>>(), [place.path()]);
    let error = backend.job(id(1)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.operation()),
        (ErrorKind::Closed, Some("job"))
    );
    assert_eq!(backend.apply(&[]).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(
        schema(&backend).status().await.unwrap_err().kind(),
        ErrorKind::Closed
    );
    let backend = place.open("rw").await.unwrap();
    assert!(backend.job(id(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn connections_are_set_up_to_lose_nothing_and_trust_nothing() {
    let place = Place::new();
    let backend = place.migrated().await;
    let settings = |connection: &Connection| -> Result<Vec<String>, Failed> {
        let pragmas = [
            "journal_mode",
            "synchronous",
            "trusted_schema",
            "application_id",
            "cell_size_check",
        ];
        let value = |name| {
            connection.pragma_query_value(None, name, |row| {
                let number = |_| row.get::<_, i64>(0).map(|number| number.to_string());
                row.get::<_, String>(0).or_else(number)
            })
        };
        Ok(pragmas.into_iter().map(value).collect::<Result<_, _>>()?)
    };
    let expected = ["wal", "2", "0", &Holds::Store.application_id().to_string(), "1"];
    let times = crate::worker::Times::within(super::PATIENCE);
    assert_eq!(
        backend.store().write("test", times, settings).await.unwrap(),
        expected
    );
    assert_eq!(
        backend
            .store()
            .read("test", super::PATIENCE, settings)
            .await
            .unwrap()[2..],
        expected[2..]
    );
    let write = |connection: &Connection| Ok(connection.execute_batch("DELETE FROM jobs")?);
    let error = backend
        .store()
        .read("test", super::PATIENCE, write)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly, "a reader can't write");
    backend.close().await.unwrap();
}

#[tokio::test]
async fn a_missing_file_says_how_to_make_one() {
    let place = Place::new();
    for mode in ["ro", "rw"] {
        let error = place.open(mode).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.operation()),
            (ErrorKind::Unavailable, Some("connect"))
        );
        assert!(error.to_string().contains("mode=rwc"), "{error}");
    }
    assert!(!place.path().exists());
    let folder = place.0.path().join("no/store.db");
    for (mode, kind) in [("rw", ErrorKind::Unavailable), ("rwc", ErrorKind::InvalidUrl)] {
        let url = url(&format!("sqlite:{}?mode={mode}", folder.display()));
        let error = crate::SqliteBackend::open(super::config(url)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[tokio::test]
async fn links_are_not_followed_and_names_are_only_names() {
    let place = Place::new();
    place.migrated().await.close().await.unwrap();
    let beside = Place::new();
    symlink(place.path(), beside.path()).unwrap();
    for mode in ["ro", "rw", "rwc"] {
        let error = beside.open(mode).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{error}");
    }
    // A linked folder is the user's own business.
    let folder = beside.0.path().join("folder");
    symlink(place.0.path(), &folder).unwrap();
    let through = url(&format!("sqlite:{}", folder.join("store.db").display()));
    migrated(through).await.close().await.unwrap();
    // What SQLite would take for a URI with parameters is a name here.
    let odd = beside.0.path().join("file:x.db%3Fvfs=unix-none");
    let opened = migrated(url(&format!("sqlite:{}?mode=rwc", odd.display()))).await;
    opened.close().await.unwrap();
    assert!(beside.0.path().join("file:x.db?vfs=unix-none").exists());
}

#[tokio::test]
async fn d5_a_strangers_file_is_left_as_it_is_also_with_its_log() {
    for statements in [
        "PRAGMA application_id = 4711; CREATE TABLE jobs (id INTEGER PRIMARY KEY)",
        "PRAGMA journal_mode = WAL; CREATE TABLE cats (name TEXT); INSERT INTO cats VALUES ('Minka')",
    ] {
        let place = Place::new();
        let stranger = place.outside();
        stranger.execute_batch(statements).unwrap();
        // As a killed program leaves it: the log is not in the file yet.
        stranger
            .set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .unwrap();
        drop(stranger);
        let content = || {
            let log = place.path().with_file_name("store.db-wal");
            (fs::read(place.path()).unwrap(), fs::read(log).ok())
        };
        let before = content();
        for mode in ["ro", "rw", "rwc"] {
            let error = place.open(mode).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{error}");
            assert!(content() == before, "{mode}: not one byte was changed");
        }
    }
}

#[tokio::test]
async fn d7_read_only_refuses_writes_and_migrations_and_reads_on() {
    let place = Place::new();
    let backend = place.migrated().await;
    backend
        .apply(&[claim(job(1, JobState::Queued, 1))])
        .await
        .unwrap();
    let reader = place.open("ro").await.unwrap();
    assert_eq!(reader.jobs(&JobQuery::default()).await.unwrap().items.len(), 1);
    let error = reader
        .apply(&[claim(job(2, JobState::Queued, 1))])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    assert_eq!(
        schema(&reader).up().await.unwrap(),
        [""; 0],
        "nothing to do needs no right"
    );
    let down = persist_core::Down::all().confirmed(true);
    assert_eq!(
        schema(&reader).down(down).await.unwrap_err().kind(),
        ErrorKind::ReadOnly
    );
    // Beside a writer: it sees what was written since.
    backend
        .apply(&[claim(job(2, JobState::Queued, 1))])
        .await
        .unwrap();
    assert!(reader.job(id(2)).await.unwrap().is_some());
    reader.close().await.unwrap();
    backend.close().await.unwrap();
}

#[test]
fn d8_without_a_log_the_journal_is_synced_harder() {
    // A database in memory takes no log either.
    let connection = Connection::open_in_memory().unwrap();
    set_up_journal(&connection, Holds::Store).unwrap();
    let synchronous: i64 = connection
        .pragma_query_value(None, "synchronous", |row| row.get(0))
        .unwrap();
    assert_eq!(synchronous, 3, "EXTRA");
}

/// A commit into a file that went meanwhile is in that file, wherever it is.
#[tokio::test]
async fn d6_a_file_that_goes_before_a_commit_leaves_the_outcome_open() {
    let place = Place::new();
    let backend = place.migrated().await;
    let (path, away) = (place.path(), place.path().with_extension("away"));
    let times = crate::worker::Times::within(super::PATIENCE);
    let (from, to) = (path.clone(), away.clone());
    let moved = move |connection: &Connection| -> Result<(), Failed> {
        connection.execute("UPDATE persist_meta SET value = value", [])?;
        fs::rename(from, to).map_err(|error| crate::error::of_io(&error))?;
        Ok(())
    };
    let error = backend.store().write("test", times, moved).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::Unavailable, UpdateOutcome::Unknown)
    );
    fs::rename(away, path).unwrap();
    backend
        .apply(&[claim(job(1, JobState::Queued, 1))])
        .await
        .unwrap();
}
