//! The load that is counted.

use futures_util::future::join_all;
use persist::{OnUnavailable, Persist};
use persist_core::JobState::{Queued, Running, Succeeded};
use persist_core::{JobState, JobUpdate};
use persist_tests::place::Place;
use persist_tests::sample;

/// Callers at once.
pub(crate) const CALLERS: u64 = 64;
const JOBS_OF_EACH: u64 = 20;

const STATES: [JobState; 3] = [Queued, Running, Succeeded];

/// Every caller leads jobs of its own through their lives, three updates each. Tells how many updates that were.
pub(crate) async fn lives(persist: &Persist) -> u64 {
    let states = STATES.len() as u64;
    reported(persist, move |nth| (nth / states, nth % states)).await
}

/// The same updates as a queue has them: all jobs of a caller wait, then all of them run, then all of them end.
pub(crate) async fn queue(persist: &Persist) -> u64 {
    reported(persist, |nth| (nth % JOBS_OF_EACH, nth / JOBS_OF_EACH)).await
}

/// `step` is which of the caller's jobs, and which of its states.
async fn reported(persist: &Persist, step: impl Fn(u64) -> (u64, u64) + Copy + Send + 'static) -> u64 {
    let updates = JOBS_OF_EACH * STATES.len() as u64;
    let caller = |caller: u64| {
        let persist = persist.clone();
        tokio::spawn(async move {
            for (job, state) in (0..updates).map(step) {
                let id = sample::id(caller * 1_000 + job + 1);
                let update = JobUpdate::new(id, STATES[state as usize]);
                persist.record_job_state(update).await.unwrap();
            }
        })
    };
    for ended in join_all((0..CALLERS).map(caller)).await {
        ended.unwrap();
    }
    CALLERS * updates
}

/// A handle onto a migrated store there.
pub(crate) async fn opened(place: &Place) -> Persist {
    let persist = Persist::builder(Some(place.url().to_owned())).on_unavailable(OnUnavailable::Fail);
    persist.connect().await.unwrap()
}
