//! Handles under odd clocks and in runtimes that go away. Numbers are those of the table of failures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use persist::{Clock, FixedClock, JobState, JobUpdate, OnUnavailable, Persist, Timestamp};
use persist_tests::place::{Database, Place};
use persist_tests::{process, sample};

async fn with_clock(place: &Place, now: Timestamp) -> Persist {
    let builder = Persist::builder(Some(place.url().into())).on_unavailable(OnUnavailable::Fail);
    let clock: Arc<dyn Clock> = Arc::new(FixedClock(now));
    builder.clock(clock).connect().await.expect("the store is there")
}

#[tokio::test(flavor = "multi_thread")]
async fn k1_k2_a_clients_clock_changes_no_outcome() {
    for database in Database::BOTH {
        let place = Place::empty(database);
        let (ahead, behind) = (sample::at(3_600), sample::at(-3_600));
        let fast = with_clock(&place, ahead).await;
        let slow = with_clock(&place, behind).await;
        let id = sample::id(1);
        let first = fast
            .record_job_state(JobUpdate::new(id, JobState::Queued))
            .await
            .unwrap();
        let second = slow
            .record_job_state(JobUpdate::new(id, JobState::Running))
            .await
            .unwrap();
        let third = fast
            .record_job_state(JobUpdate::new(id, JobState::Succeeded))
            .await
            .unwrap();
        assert_eq!(
            [first, second, third],
            [sample::CREATED, sample::MOVED, sample::MOVED]
        );
        let job = slow.job(id).await.unwrap().unwrap();
        // `at` is data: the row runs from the earliest to the latest, whoever said it.
        assert_eq!(
            (job.state, job.created_at, job.updated_at),
            (JobState::Succeeded, behind, ahead)
        );
        // When it was recorded is told by the database's clock, which knows nothing of either.
        let query = persist::EventQuery::default().request_id(id);
        let recorded: Vec<_> = fast
            .events(&query)
            .await
            .unwrap()
            .items
            .iter()
            .map(|event| event.recorded_at)
            .collect();
        assert_eq!(recorded.len(), 3);
        assert!(
            recorded.is_sorted() && recorded.iter().all(|at| *at != ahead && *at != behind),
            "{recorded:?}"
        );
        fast.close().await.unwrap();
        slow.close().await.unwrap();
    }
}

#[test]
fn p6_a_runtime_may_go_away_with_calls_in_flight() {
    for database in Database::BOTH {
        let place = Place::empty(database);
        for round in 0..5 {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let builder = Persist::builder(Some(place.url().into()));
            let persist = runtime.block_on(builder.connect()).unwrap();
            for n in 0..64 {
                let persist = persist.clone();
                runtime.spawn(async move {
                    persist
                        .record_job_state(sample::job(1 + round * 64 + n, JobState::Queued))
                        .await
                });
            }
            let begun = Instant::now();
            runtime.shutdown_timeout(process::BOUND);
            drop(persist);
            assert!(
                begun.elapsed() < Duration::from_secs(15),
                "{database:?}: {:?}",
                begun.elapsed()
            );
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let backend = place.migrated().await.unwrap();
            assert_eq!(place.strays().await, [""; 0]);
            backend.close().await.unwrap();
        });
    }
}
