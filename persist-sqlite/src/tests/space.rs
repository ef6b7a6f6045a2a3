//! Files that get shorter.

use std::fs;
use std::sync::{Arc, mpsc};

use persist_core::{JobState, PersistBackend as _, Prune};
use tokio::sync::oneshot;

use super::{PATIENCE, Place, claim, config, id, job};
use crate::SqliteBackend;
use crate::space::move_what_can_be;
use crate::store::Store;
use crate::worker::Times;

/// Of these jobs all but each tenth end.
async fn filled(backend: &SqliteBackend, jobs: u32) {
    let claims: Vec<_> = (1..=u128::from(jobs))
        .flat_map(|n| {
            let last = if n % 10 == 0 {
                JobState::Running
            } else {
                JobState::Failed
            };
            [job(n, JobState::Queued, 1), job(n, last, 1)].map(claim)
        })
        .collect();
    backend.apply(&claims).await.unwrap();
}

/// All that ended, batch by batch.
async fn pruned(backend: &SqliteBackend) -> u64 {
    let mut request = Prune::default().states([JobState::Failed]).limit(500);
    let mut requests = 0;
    loop {
        let pruned = backend.prune(&request).await.unwrap();
        requests += pruned.requests;
        match pruned.next {
            Some(next) => request = request.after(Some(next)),
            None => return requests,
        }
    }
}

fn length(place: &Place, end: &str) -> u64 {
    let path = format!("{}{end}", place.path().display());
    fs::metadata(path).map_or(0, |file| file.len())
}

#[tokio::test]
async fn a_file_gets_shorter_while_it_is_open() {
    const JOBS: u32 = 20_000;
    let place = Place::new();
    let backend = place.migrated().await;
    filled(&backend, JOBS).await;
    // A shorter log, so that all of it is in the file.
    place
        .outside()
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    let before = length(&place, "");
    assert_eq!(pruned(&backend).await, u64::from(JOBS) * 9 / 10);
    let after = length(&place, "");
    assert!(after * 3 < before, "{before} bytes became {after}");
    assert_eq!(length(&place, "-wal"), 0, "and nothing is left in the log");
    let outside = place.outside();
    let free: u32 = outside
        .pragma_query_value(None, "freelist_count", |row| row.get(0))
        .unwrap();
    assert_eq!(free, 0);
    let sound: String = outside
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok");
    assert!(backend.job(id(10)).await.unwrap().is_some());
    backend.close().await.unwrap();
}

/// As one that an older program made: nothing of it is given back, and all else is as ever.
#[tokio::test]
async fn a_file_that_can_t_get_shorter_stays_as_it_is() {
    let place = Place::new();
    place.migrated().await.close().await.unwrap();
    place
        .outside()
        .execute_batch("PRAGMA auto_vacuum = NONE; VACUUM")
        .unwrap();
    let backend = place.open("rw").await.unwrap();
    filled(&backend, 2_000).await;
    assert_eq!(pruned(&backend).await, 1_800);
    backend.close().await.unwrap();
    let outside = place.outside();
    let settings = ["auto_vacuum", "freelist_count"].map(|name| {
        outside
            .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            .unwrap()
    });
    assert!(settings[0] == 0 && settings[1] > 0, "{settings:?}");
}

/// Somebody reads what was before: the log stays until then, and nobody waits for it.
#[tokio::test]
async fn a_reader_holds_up_the_file_and_nobody_else() {
    let place = Place::new();
    let backend = place.migrated().await;
    filled(&backend, 5_000).await;
    backend.close().await.unwrap();
    let backend = place.open("rw").await.unwrap();
    let reader = place.outside();
    reader.execute_batch("BEGIN").unwrap();
    let jobs = || reader.query_row("SELECT count(*) FROM jobs", [], |row| row.get::<_, u32>(0));
    assert_eq!(jobs().unwrap(), 5_000);
    assert_eq!(pruned(&backend).await, 4_500);
    assert_eq!(jobs().unwrap(), 5_000, "it still reads what was there");
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(jobs().unwrap(), 500);
    let before = length(&place, "");
    drop(reader);
    backend.close().await.unwrap();
    let after = length(&place, "");
    assert!(after * 3 < before, "{before} bytes became {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_moves_the_log_holds_no_writer_up_and_is_waited_for_when_all_is_closed() {
    let place = Place::new();
    place.migrated().await.close().await.unwrap();
    let store = Arc::new(Store::open(&config(place.url("rw"))).await.unwrap());
    let write = async || {
        let sql = "INSERT INTO persist_meta (key, value) VALUES (hex(randomblob(9)), '')";
        let times = Times::within(PATIENCE);
        let written = store.write("test", times, |connection| Ok(connection.execute(sql, [])?));
        written.await.unwrap()
    };
    write().await;
    let (is_at_work, at_work) = oneshot::channel();
    let (goes_on, go_on) = mpsc::channel();
    let moving = tokio::spawn({
        let store = Arc::clone(&store);
        let work = move |connection: &_| {
            move_what_can_be(connection)?;
            is_at_work.send(()).unwrap();
            go_on.recv().unwrap();
            Ok(())
        };
        async move { store.beside("test", PATIENCE, work).await }
    });
    at_work.await.unwrap();
    assert_eq!(write().await, 1);
    let closing = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.close().await }
    });
    while store.refuse_closed("test").is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!closing.is_finished());
    goes_on.send(()).unwrap();
    assert_eq!(moving.await.unwrap().unwrap(), Some(()));
    closing.await.unwrap();
    assert_eq!(
        length(&place, "-wal"),
        0,
        "who writes was the last, and took the log along"
    );
}
