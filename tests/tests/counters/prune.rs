//! What a prune looks at.

use persist_core::JobState::Queued;
use persist_core::Prune;
use persist_tests::place::{Database, Place};
use persist_tests::{process, sample};

/// A prune by ids looks at each row some few times, however many it is given.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_looks_a_few_times_at_each_job_that_is_pruned_by_name() {
    // The planner settles on a plan after five calls.
    const CALLS: u64 = 8;
    const JOBS: u64 = CALLS * 500;
    let place = Place::empty(Database::Postgres);
    let backend = place.migrated().await.unwrap();
    let updates = (1..=JOBS).map(|n| sample::job(n, Queued));
    backend.apply(&sample::claims(updates).unwrap()).await.unwrap();
    place.execute("ANALYZE jobs").await;
    for call in 0..CALLS {
        let ids = (1..=500).map(|n| sample::id(call * 500 + n));
        let pruned = backend.prune(&Prune::default().ids(ids)).await.unwrap();
        assert_eq!(pruned.requests, 500);
    }
    backend.close().await.unwrap();
    let read = format!(
        "SELECT n_tup_del::text || ' ' || (idx_tup_fetch + seq_tup_read)::text FROM pg_stat_user_tables \
         WHERE relname = 'jobs' AND schemaname = '{}'",
        place.schema()
    );
    let mut looks = 0;
    process::until("the server has written down what was done", async || {
        let line = place.texts(&read).await.remove(0);
        let (deleted, looked) = line.split_once(' ').unwrap();
        looks = looked.parse::<u64>().unwrap();
        deleted == JOBS.to_string()
    })
    .await;
    assert!(looks <= 20 * JOBS, "{looks} looks at {JOBS} jobs");
}
