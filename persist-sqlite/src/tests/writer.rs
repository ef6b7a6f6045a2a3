//! The thread that writes: shared flushes, locks, deadlines, panics.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use persist_core::layer::{Counts, Ticket};
use persist_core::{
    Claim, Deadlines, ErrorKind, JobQuery, JobState, Outcome, PersistBackend as _, Result, UpdateOutcome,
};
use tokio::sync::{Semaphore, oneshot};

use super::{PATIENCE, Place, at, claim, config, id, job, migrated, url};
use crate::connection::Source;
use crate::flush::{Batch, flush};
use crate::merge::Merging;
use crate::worker::{Times, Writer};
use crate::{SqliteBackend, SqliteConfig};

type Answer = oneshot::Receiver<Result<Vec<Outcome>>>;

fn batch(claims: Vec<Claim>, wait: Duration) -> (Batch<Merging>, Ticket, Answer) {
    let (reply, answer) = oneshot::channel();
    let ticket = Ticket::default();
    let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let batch = Batch {
        item: claims,
        ticket: ticket.clone(),
        since: Instant::now(),
        lock: Instant::now() + wait,
        reply,
        _room: room,
        _queued: Counts::new("sqlite").meter().queued(0),
    };
    (batch, ticket, answer)
}

fn one(number: u128) -> Vec<Claim> {
    vec![claim(job(number, JobState::Queued, 1))]
}

/// A writer of a migrated file, called by hand.
async fn writer(place: &Place) -> Writer<Merging> {
    place.migrated().await.close().await.unwrap();
    Writer::new(
        Source::find(&place.url("rw")).unwrap(),
        Arc::new(Merging::default()),
        Arc::new(Counts::new("sqlite")),
    )
}

fn stored(place: &Place) -> Vec<i64> {
    let outside = place.outside();
    let mut select = outside
        .prepare("SELECT unhex(hex(request_id)) FROM jobs ORDER BY 1")
        .unwrap();
    let ids = select.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    ids.map(|id| i64::from(id.unwrap()[15])).collect()
}

#[tokio::test]
async fn those_who_wait_share_one_commit() {
    let place = Place::new();
    let mut writer = writer(&place).await;
    let (batches, answers): (Vec<_>, Vec<_>) = (1..=50)
        .map(|number| {
            let (batch, _, answer) = batch(one(1 + (number - 1) % 10), PATIENCE);
            (batch, answer)
        })
        .unzip();
    let commits = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&commits);
    let hook = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        false
    };
    writer
        .session()
        .unwrap()
        .connection
        .commit_hook(Some(hook))
        .unwrap();
    flush(&mut writer, batches);
    assert_eq!(commits.load(Ordering::Relaxed), 1);
    for (number, answer) in (1..=50).zip(answers) {
        let outcome = answer.await.unwrap().unwrap()[0];
        assert_eq!(outcome.name(), if number <= 10 { "applied" } else { "unchanged" });
    }
}

#[tokio::test]
async fn t7_only_the_caller_with_the_poison_fails() {
    let place = Place::new();
    let mut writer = writer(&place).await;
    place
        .outside()
        .execute_batch(
            "CREATE TRIGGER poison BEFORE INSERT ON events WHEN new.actor = 'poison' \
             BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
        .unwrap();
    let poison = claim(job(2, JobState::Queued, 1).actor("poison"));
    let (first, _, first_answer) = batch(one(1), PATIENCE);
    let (second, _, second_answer) = batch(vec![claim(job(4, JobState::Queued, 1)), poison], PATIENCE);
    let (third, _, third_answer) = batch(one(3), PATIENCE);
    flush(&mut writer, vec![first, second, third]);
    assert_eq!(
        first_answer.await.unwrap().unwrap(),
        [Outcome::Applied { created: true }]
    );
    let error = second_answer.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.context("sqlite_code")),
        (ErrorKind::InvalidInput, Some("1811"))
    );
    assert_eq!(
        third_answer.await.unwrap().unwrap(),
        [Outcome::Applied { created: true }]
    );
    assert_eq!(stored(&place), [1, 3], "the guilty batch left nothing");
    // Those beside it are not committed one by one: halves of 64 are 6.
    let before = writer.counts.get().0;
    let poison = claim(job(5, JobState::Queued, 1).actor("poison"));
    let mut answers = Vec::new();
    let batches = (100..164).map(|number| {
        let claims = if number == 120 {
            vec![poison.clone()]
        } else {
            one(number)
        };
        let (batch, _, answer) = batch(claims, PATIENCE);
        answers.push(answer);
        batch
    });
    flush(&mut writer, batches.collect());
    for (number, answer) in (100..).zip(answers) {
        assert_eq!(answer.await.unwrap().is_ok(), number != 120);
    }
    assert_eq!(writer.counts.get().0 - before, 6);
}

#[tokio::test]
async fn a_taken_lock_is_waited_for_no_longer_than_each_caller_can() {
    let place = Place::new();
    let mut writer = writer(&place).await;
    let other = place.outside();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (hasty, _, hasty_answer) = batch(one(1), Duration::from_millis(50));
    let (patient, _, patient_answer) = batch(one(2), PATIENCE);
    let (withdrawn, ticket, withdrawn_answer) = batch(one(3), PATIENCE);
    assert!(ticket.withdraw());
    let (told, hasty_is_told) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || told.send(hasty_answer.blocking_recv().unwrap()));
    let flushing = std::thread::spawn(move || flush(&mut writer, vec![hasty, patient, withdrawn]));
    let error = hasty_is_told.recv().unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::Busy, UpdateOutcome::NotApplied)
    );
    other.execute_batch("COMMIT").unwrap();
    patient_answer.await.unwrap().unwrap();
    withdrawn_answer.await.unwrap_err();
    flushing.join().unwrap();
    waiter.join().unwrap().unwrap();
    assert_eq!(stored(&place), [2]);
}

#[tokio::test]
async fn a_claim_whose_time_runs_out_in_the_queue_is_withdrawn() {
    let place = Place::new();
    let backend = place.migrated().await;
    let other = place.outside();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let now = Instant::now();
    let times = Times {
        lock: now + PATIENCE,
        end: now + Duration::from_millis(50),
    };
    let error = backend.store().merge(one(1), times).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::Timeout, UpdateOutcome::NotApplied)
    );
    other.execute_batch("COMMIT").unwrap();
    backend.apply(&one(2)).await.unwrap();
    assert_eq!(stored(&place), [2], "nothing came of it later");
    backend.close().await.unwrap();
}

#[tokio::test]
async fn a_taken_lock_is_busy_before_the_deadline_and_then_all_is_well() {
    let place = Place::new();
    let patient = place.migrated().await;
    let mut deadlines = Deadlines::default();
    deadlines.write = Duration::from_millis(200);
    let backend = SqliteBackend::open(SqliteConfig::new(place.url("rw")).deadlines(deadlines))
        .await
        .unwrap();
    patient.apply(&one(2)).await.unwrap();
    let other = place.outside();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = backend.apply(&one(1)).await.unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Busy | ErrorKind::Timeout),
        "{error:?}"
    );
    assert_eq!(error.outcome(), UpdateOutcome::NotApplied);
    let prune = |n| persist_core::Prune::default().ids([id(n)]);
    assert!(backend.prune(&prune(2)).await.is_err());
    let of_none = backend.prune(&prune(1)).await.unwrap();
    assert_eq!(of_none.requests, 0, "who finds nothing to remove needs no lock");
    assert_eq!(
        backend.jobs(&JobQuery::default()).await.unwrap().items.len(),
        1,
        "readers do not wait for writers"
    );
    drop(other);
    assert_eq!(
        patient.apply(&one(1)).await.unwrap(),
        [Outcome::Applied { created: true }]
    );
    backend.close().await.unwrap();
    patient.close().await.unwrap();
}

#[tokio::test]
async fn t6_a_panic_is_an_error_of_its_caller_and_the_thread_lives_on() {
    let place = Place::new();
    for url in [place.url("rwc"), url("sqlite::memory:")] {
        let backend = migrated(url).await;
        backend.apply(&one(1)).await.unwrap();
        let panics = |connection: &rusqlite::Connection| -> Result<(), crate::error::Failed> {
            connection.execute_batch("DELETE FROM jobs")?;
            panic!("on purpose")
        };
        let times = Times::within(PATIENCE);
        let error = backend.store().write("test", times, panics).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
        assert!(backend.job(id(1)).await.unwrap().is_some(), "it was rolled back");
        backend.apply(&one(2)).await.unwrap();
        backend.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_statement_ends_at_its_deadline() {
    let place = Place::new();
    const ENDLESS: &str =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
    let endless = |connection: &rusqlite::Connection| {
        Ok(connection.query_row(ENDLESS, [], |row| row.get::<_, i64>(0))?)
    };
    for url in [place.url("rwc"), url("sqlite::memory:")] {
        let backend = migrated(url).await;
        let short = Duration::from_millis(50);
        let error = backend.store().read("test", short, endless).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
        let times = Times::within(short);
        let error = backend.store().write("test", times, endless).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
        assert_eq!(backend.apply(&one(1)).await.unwrap().len(), 1);
        assert!(backend.job(id(1)).await.unwrap().is_some());
        // Bounded, or this would wait for the thread for ever.
        backend.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn close_lets_what_was_accepted_finish() {
    let place = Place::new();
    let backend = Arc::new(place.migrated().await);
    let tasks: Vec<_> = (1..=200)
        .map(|number| {
            let backend = Arc::clone(&backend);
            tokio::spawn(async move { backend.apply(&one(number)).await })
        })
        .collect();
    backend.close().await.unwrap();
    let mut applied = Vec::new();
    for (number, task) in (1..).zip(tasks) {
        match task.await.unwrap() {
            Ok(outcomes) => {
                assert_eq!(outcomes, [Outcome::Applied { created: true }]);
                applied.push(number);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
                assert_eq!(error.outcome(), UpdateOutcome::NotApplied);
            }
        }
    }
    assert_eq!(stored(&place), applied);
}

#[tokio::test(flavor = "multi_thread")]
async fn x7_two_handles_on_one_file_lose_nothing() {
    let place = Place::new();
    let handles = [
        Arc::new(place.migrated().await),
        Arc::new(place.open("rw").await.unwrap()),
    ];
    let tasks: Vec<_> = (0..16_u128)
        .map(|task| {
            let backend = Arc::clone(&handles[task as usize % 2]);
            tokio::spawn(async move {
                let mut created = 0;
                for number in 1..=20 {
                    let update = job(number, JobState::Queued, 1).actor(format!("task {task}"));
                    let outcome = backend.apply(&[claim(update)]).await.unwrap()[0];
                    created += u32::from(outcome == Outcome::Applied { created: true });
                }
                created
            })
        })
        .collect();
    let mut created = 0;
    for task in tasks {
        created += task.await.unwrap();
    }
    assert_eq!(created, 20, "each slot was claimed once");
    for handle in handles {
        let jobs = handle.jobs(&JobQuery::default()).await.unwrap().items;
        assert!(jobs.len() == 20 && jobs.iter().all(|job| job.created_at == at(1)));
        handle.close().await.unwrap();
    }
}

#[tokio::test]
async fn t9_a_long_reader_holds_no_writer_up_and_the_log_is_used_again() {
    let place = Place::new();
    let backend = place.migrated().await;
    let log = || {
        fs::metadata(place.path().with_file_name("store.db-wal"))
            .unwrap()
            .len()
    };
    let write = async |numbers: std::ops::Range<u128>| {
        for number in numbers {
            backend.apply(&one(number)).await.unwrap();
        }
        log()
    };
    // A log that is short, for a test that is.
    let shorten = |connection: &rusqlite::Connection| {
        Ok(connection.pragma_update_and_check(None, "wal_autocheckpoint", 100, |_| Ok(()))?)
    };
    backend
        .store()
        .write("test", Times::within(PATIENCE), shorten)
        .await
        .unwrap();
    let reader = place.outside();
    let looks = "SELECT count(*) FROM jobs";
    reader.execute_batch("BEGIN").unwrap();
    let before: i64 = reader.query_row(looks, [], |row| row.get(0)).unwrap();
    let grown = write(1..150).await;
    let after: i64 = reader.query_row(looks, [], |row| row.get(0)).unwrap();
    assert_eq!((before, after), (0, 0), "it reads what stood when it began");
    reader.execute_batch("COMMIT").unwrap();
    let later = write(150..300).await;
    assert!(
        grown > 300 * 4_096 && later <= grown + 100 * 4_096,
        "{grown} {later}"
    );
    backend.close().await.unwrap();
}

#[tokio::test]
async fn a_large_batch_is_dealt_into_transactions() {
    let backend = SqliteBackend::open(config(url("sqlite::memory:"))).await.unwrap();
    super::schema(&backend).up().await.unwrap();
    let claims: Vec<_> = (1..=1_500).flat_map(one).collect();
    let outcomes = backend.apply(&claims).await.unwrap();
    assert!(
        outcomes.len() == 1_500
            && outcomes
                .iter()
                .all(|one| *one == Outcome::Applied { created: true })
    );
}
