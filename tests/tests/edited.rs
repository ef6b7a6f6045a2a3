//! Rows that somebody edited by hand, under a batch that meets them.

use std::time::{Duration, Instant};

use persist::{ErrorKind, JobState, UpdateOutcome};
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
