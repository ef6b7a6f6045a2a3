//! In which order the spool is emptied while more keeps coming.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::flaky::{BAD, Opener, queued, until};
use super::held::{HeldOutbox, spool};
use crate::*;

#[tokio::test(start_paused = true)]
async fn what_was_passed_over_is_tried_again_also_in_a_spool_that_fills_as_fast_as_it_drains() {
    let outbox = Arc::new(HeldOutbox::default());
    let mut open = Opener::new("spool fed");
    open.is_well = true;
    *open.failure.lock() = Some(ErrorKind::Corrupt);
    let failure = Arc::clone(&open.failure);
    let persist = spool(open, &outbox, WhenFull::Fail).await.unwrap();
    outbox.is_fed.store(true, Ordering::Relaxed);
    let bad = JobUpdate::new(BAD, JobState::Queued);
    assert_eq!(persist.record_job_state(bad).await.unwrap(), Outcome::Spooled);
    until("it is tried again", async || outbox.errors()[0].0 >= 4).await;
    *failure.lock() = None;
    let stands = persist.backend_as_it_stands();
    until("it is stored", async || stands.job(BAD).await.unwrap().is_some()).await;
}

/// Readers are refused for as long as it waits: it is not to wait for the next look at its age.
#[tokio::test(start_paused = true)]
async fn what_comes_beside_a_database_that_is_well_goes_to_it_at_once() {
    let outbox = Arc::new(HeldOutbox::default());
    let open = Opener::new("spool wakes");
    let failure = Arc::clone(&open.failure);
    let persist = spool(open, &outbox, WhenFull::Fail).await.unwrap();
    for number in 1..=3 {
        *failure.lock() = Some(ErrorKind::Busy);
        let outcome = persist.record_job_state(queued(number)).await.unwrap();
        assert_eq!(outcome, Outcome::Spooled);
        *failure.lock() = None;
        let begun = tokio::time::Instant::now();
        until("it is emptied", async || outbox.status().waiting == 0).await;
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
}
