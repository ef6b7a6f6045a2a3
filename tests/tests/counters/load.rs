//! The load that is counted.

use futures_util::future::join_all;
use persist::{OnUnavailable, Persist};
use persist_core::JobState::{Queued, Running, Succeeded};
use persist_core::JobUpdate;
use persist_tests::place::Place;
use persist_tests::sample;

/// Callers at once.
pub(crate) const CALLERS: u64 = 64;
const JOBS_OF_EACH: u64 = 20;

/// Every caller leads jobs of its own through their lives, three updates each. Tells how many updates that were.
pub(crate) async fn lives(persist: &Persist) -> u64 {
    let caller = |caller: u64| {
        let persist = persist.clone();
        tokio::spawn(async move {
            for nth in 0..JOBS_OF_EACH {
                let id = sample::id(caller * 1_000 + nth + 1);
                for state in [Queued, Running, Succeeded] {
                    persist.record_job_state(JobUpdate::new(id, state)).await.unwrap();
                }
            }
        })
    };
    for ended in join_all((0..CALLERS).map(caller)).await {
        ended.unwrap();
    }
    CALLERS * JOBS_OF_EACH * 3
}

/// A handle onto a migrated store there.
pub(crate) async fn opened(place: &Place) -> Persist {
    let persist = Persist::builder(Some(place.url().to_owned())).on_unavailable(OnUnavailable::Fail);
    persist.connect().await.unwrap()
}
