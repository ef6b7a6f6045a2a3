//! Schemas and rows that somebody edited by hand, under calls that meet them.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use persist::{ErrorKind, JobQuery, JobState, OnUnavailable, Persist, UpdateOutcome, VmKey, VmState};
use persist_tests::place::{Database, Place};
use persist_tests::sample;

#[tokio::test(flavor = "multi_thread")]
async fn i6_a_row_of_an_unknown_state_does_not_deny_what_was_stored() {
    let place = Place::empty(Database::Postgres);
    let backend = place.migrated().await.unwrap();
    let apply = async |update| backend.apply(&sample::claims([update]).unwrap()).await;
    apply(sample::job(1, JobState::Succeeded)).await.unwrap();
    place
        .execute("ALTER TABLE jobs DROP CONSTRAINT jobs_state; UPDATE jobs SET state = 'paused'")
        .await;
    // Late: the slot is claimed, and the row comes back with the word that a newer program wrote.
    let error = apply(sample::job(1, JobState::Running)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{error}");
    assert_eq!(place.count("FROM events WHERE state = 'running'").await, 1);
    assert_eq!(error.outcome(), UpdateOutcome::Unknown, "it was committed");
    backend.close().await.unwrap();
}

#[tokio::test]
async fn i6_a_row_of_an_unknown_state_fails_for_its_own_readers() {
    let place = Place::empty(Database::Postgres);
    let backend = place.migrated().await.unwrap();
    let jobs = (0..20).map(|n| sample::job(n, JobState::Queued));
    backend.apply(&sample::claims(jobs).unwrap()).await.unwrap();
    let vms = (0..20).map(|n| sample::vm(n, "vm", VmState::Running));
    backend.apply(&sample::claims(vms).unwrap()).await.unwrap();
    for table in ["jobs", "vms"] {
        let id = sample::id(13);
        place
            .execute(&format!(
                "ALTER TABLE {table} DROP CONSTRAINT {table}_state; \
                 UPDATE {table} SET state = 'paused' WHERE request_id = '{id}'"
            ))
            .await;
    }
    // At once, so that most go by one statement.
    let keys: Vec<_> = (0..20).map(|n| VmKey::new(sample::id(n), "vm")).collect();
    let jobs = join_all((0..20).map(|n| backend.job(sample::id(n)))).await;
    let vms = join_all(keys.iter().map(|key| backend.vm(key))).await;
    for (n, (job, vm)) in jobs.into_iter().zip(vms).enumerate() {
        if n == 13 {
            for error in [job.unwrap_err(), vm.unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{error}");
                assert!(error.to_string().contains("paused"), "{error}");
            }
        } else {
            assert!(job.unwrap().is_some() && vm.unwrap().is_some(), "{n}");
        }
    }
    backend.close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_page_fails_for_its_own_readers() {
    let place = Place::empty(Database::Postgres);
    let backend = place.migrated().await.unwrap();
    let jobs = (0..20).map(|n| sample::job(n, JobState::Queued));
    backend.apply(&sample::claims(jobs).unwrap()).await.unwrap();
    // What the server says of a page whose checksum is wrong.
    let id = sample::id(13);
    place
        .execute(&format!(
            "ALTER TABLE jobs RENAME TO kept; \
             CREATE FUNCTION sound(id uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$ BEGIN \
             IF id = '{id}' THEN RAISE EXCEPTION USING ERRCODE = 'XX001'; END IF; RETURN true; END $$; \
             CREATE VIEW jobs AS SELECT * FROM kept WHERE sound(request_id)"
        ))
        .await;
    let jobs = join_all((0..20).map(|n| backend.job(sample::id(n)))).await;
    for (n, job) in jobs.into_iter().enumerate() {
        if n == 13 {
            assert_eq!(job.unwrap_err().kind(), ErrorKind::Corrupt);
        } else {
            assert!(job.unwrap().is_some(), "{n}");
        }
    }
    backend.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_without_its_row_is_told_as_damage_and_not_waited_for() {
    let place = Place::empty(Database::Postgres);
    let backend = place.migrated().await.unwrap();
    let apply = async |updates| {
        backend
            .apply(&sample::claims::<persist::JobUpdate>(updates).unwrap())
            .await
    };
    let queued = |n| sample::job(n, JobState::Queued);
    apply(vec![queued(1), queued(2)]).await.unwrap();
    let delete = format!("DELETE FROM jobs WHERE request_id = '{}'", sample::id(2));
    place.execute(&delete).await;
    let begun = Instant::now();
    let refused = sample::job(2, JobState::Queued).at(sample::at(0));
    for (updates, outcome) in [
        (vec![queued(2)], UpdateOutcome::NotApplied),
        // Another of the batch is stored all the same.
        (vec![refused, queued(3)], UpdateOutcome::Unknown),
    ] {
        let error = apply(updates).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let text = error.to_string();
        assert!(
            text.contains(&sample::id(2).to_string()) && text.contains("has history and no row"),
            "{text}"
        );
        assert_eq!(error.outcome(), outcome, "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(backend.job(sample::id(3)).await.unwrap().is_some());
    backend.close().await.unwrap();
}

/// A column that is gone is an error that names it, of every call that needs it, and nothing is stored beside it;
/// an index that is gone costs no call. Which statement mends it, nobody tells yet.
#[tokio::test(flavor = "multi_thread")]
async fn m9_a_column_that_was_dropped_is_named_and_an_index_is_not_missed() {
    for database in Database::BOTH {
        let place = Place::empty(database);
        let backend = place.migrated().await.unwrap();
        let repo_url = "https://example.org/a.git";
        let apply = async |n| {
            let update = sample::job(n, JobState::Queued).repo_url(repo_url);
            backend.apply(&sample::claims([update]).unwrap()).await
        };
        apply(1).await.unwrap();
        place.execute("DROP INDEX jobs_repo_url").await;
        apply(2).await.unwrap();
        let query = JobQuery::default().repo_url(repo_url);
        assert_eq!(backend.jobs(&query).await.unwrap().items.len(), 2, "{database:?}");
        place.execute("ALTER TABLE jobs DROP COLUMN runs_on").await;
        for error in [
            apply(3).await.unwrap_err(),
            backend.job(sample::id(1)).await.unwrap_err(),
            backend.jobs(&query).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{database:?}: {error}");
            assert!(error.to_string().contains("runs_on"), "{database:?}: {error}");
        }
        assert_eq!(place.count("FROM events").await, 2, "{database:?}");
        place.execute("ALTER TABLE vms RENAME TO machines").await;
        let error = backend.vm(&VmKey::new(sample::id(1), "vm")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{database:?}: {error}");
        assert!(error.to_string().contains("vms"), "{database:?}: {error}");
        let persist = Persist::builder(Some(place.url().into())).on_unavailable(OnUnavailable::Fail);
        let told = match persist.connect().await {
            Ok(persist) => persist
                .record_job_state(sample::job(4, JobState::Queued))
                .await
                .err(),
            Err(error) => Some(error),
        };
        assert_eq!(
            told.map(|error| error.kind()),
            Some(ErrorKind::SchemaMismatch),
            "{database:?}"
        );
        backend.close().await.unwrap();
    }
}
