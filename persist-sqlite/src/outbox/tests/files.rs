//! Which files a spool takes, and who may read them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use persist_core::{ErrorKind, Outbox as _, PersistBackend as _};
use rusqlite::Connection;

use super::{Place, numbered};
use crate::SqliteBackend;
use crate::outbox::{OutboxConfig, SqliteOutbox};
use crate::tests::{at, config, url};

#[tokio::test]
async fn every_file_of_it_is_its_owners_alone() {
    let place = Place::new();
    let outbox = place.open().await;
    outbox.push(&numbered(1), at(1)).await.unwrap();
    let files: Vec<_> = fs::read_dir(place.0.path()).unwrap().flatten().collect();
    assert_eq!(files.len(), 4, "the file, its log, its index, its lock");
    for file in files {
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.path().display());
    }
}

#[tokio::test]
async fn other_files_are_refused_and_left_as_they_are() {
    let refused = async |path: &Path| {
        let before = fs::read(path).unwrap();
        let error = SqliteOutbox::open(OutboxConfig::new(path)).await.unwrap_err();
        assert_eq!(fs::read(path).unwrap(), before, "{error}");
        error
    };
    let place = Place::new();
    let stranger = place.0.path().join("stranger.db");
    let made = Connection::open(&stranger).unwrap();
    made.execute_batch("PRAGMA application_id = 77; CREATE TABLE t (x)")
        .unwrap();
    drop(made);
    assert_eq!(refused(&stranger).await.kind(), ErrorKind::SchemaMismatch);
    let text = place.0.path().join("text.db");
    fs::write(
        &text,
        "no database, but longer than a header of SQLite's, ".repeat(40),
    )
    .unwrap();
    assert_eq!(refused(&text).await.kind(), ErrorKind::Corrupt);
    // A store is no spool, and a spool is no store.
    let store = place.0.path().join("store.db");
    let store_url = url(&format!("sqlite:{}?mode=rwc", store.display()));
    let backend = crate::tests::migrated(store_url).await;
    backend.close().await.unwrap();
    drop(backend);
    assert!(refused(&store).await.to_string().contains("no spool"));
    let outbox = place.open().await;
    outbox.close().await;
    drop(outbox);
    let spool_url = url(&format!("sqlite:{}?mode=rw", place.path().display()));
    let error = SqliteBackend::open(config(spool_url)).await.unwrap_err();
    assert!(error.to_string().contains("no store"), "{error}");
    // What a newer persist wrote.
    let newer = Connection::open(place.path()).unwrap();
    newer
        .execute("UPDATE meta SET value = '2' WHERE key = 'format'", [])
        .unwrap();
    drop(newer);
    let error = SqliteOutbox::open(place.config()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SchemaMismatch);
    assert!(error.to_string().contains("newer persist"), "{error}");
    let error = SqliteOutbox::look(place.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SchemaMismatch);
    let missing = OutboxConfig::new(place.0.path().join("missing.db")).create(false);
    let error = SqliteOutbox::open(missing).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.is_retryable()),
        (ErrorKind::Unavailable, false)
    );
    assert!(!place.0.path().join("missing.db-lock").exists());
}

#[tokio::test]
async fn no_link_is_followed() {
    let place = Place::new();
    let aim = place.0.path().join("aim");
    fs::write(&aim, "").unwrap();
    symlink(&aim, place.path()).unwrap();
    let error = SqliteOutbox::open(place.config()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidUrl);
    fs::remove_file(place.path()).unwrap();
    let lock = place.0.path().join("spool.db-lock");
    let _ = fs::remove_file(&lock);
    symlink(&aim, &lock).unwrap();
    assert!(SqliteOutbox::open(place.config()).await.is_err());
    assert_eq!(
        fs::metadata(&aim).unwrap().size(),
        0,
        "nothing was written through a link"
    );
}
