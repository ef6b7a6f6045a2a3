//! What a spool does to callers, reads and the store, over an outbox in memory and under a paused clock.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use uuid::Uuid;

use super::flaky::{BAD, Failure, Opener, queued, until};
use super::held::{BYTES, HeldOutbox, spool};
use crate::*;

const HOUR: Duration = Duration::from_secs(3_600);

/// A facade whose driver works, or does not.
async fn start(name: &str, outbox: &Arc<HeldOutbox>, failing: Option<ErrorKind>) -> (Persist, Failure) {
    let open = Opener::new(name);
    let failure = Arc::clone(&open.failure);
    *failure.lock() = failing;
    (spool(open, outbox, WhenFull::Fail).await.unwrap(), failure)
}

/// Waits, by the paused clock, until the spool holds nothing to replay.
async fn until_empty(outbox: &HeldOutbox) {
    until("it is emptied", async || outbox.status().waiting == 0).await;
}

async fn is_there(persist: &Persist, number: u128) -> bool {
    let found = persist.backend_as_it_stands().job(Uuid::from_u128(number)).await;
    found.unwrap().is_some()
}

async fn held(persist: &Persist) -> SpoolHealth {
    persist.health().await.unwrap().spool.expect("there is a spool")
}

#[tokio::test(start_paused = true)]
async fn it_starts_without_the_database_and_replays_when_it_answers() {
    let outbox = Arc::new(HeldOutbox::default());
    let (persist, failure) = start("spool starts", &outbox, Some(ErrorKind::Unavailable)).await;
    assert!(persist.is_enabled(), "what is recorded is kept");
    for number in 1..=1_500 {
        let outcome = persist.record_job_state(queued(number)).await.unwrap();
        assert_eq!(outcome, Outcome::Spooled);
    }
    let health = persist.health().await.unwrap();
    assert_eq!((health.mode, health.dropped), (Mode::Degraded, 0));
    let spool = health.spool.unwrap();
    assert_eq!(
        (spool.held.waiting, spool.spooled, spool.replayed),
        (1_500, 1_500, 0)
    );
    *failure.lock() = None;
    until_empty(&outbox).await;
    let spool = held(&persist).await;
    assert_eq!((spool.held.waiting, spool.replayed, spool.refused), (0, 1_500, 0));
    assert_eq!(persist.health().await.unwrap().mode, Mode::Ready);
    let all = persist.jobs(&JobQuery::default().limit(1_000)).await.unwrap();
    assert_eq!(all.items.len(), 1_000);
    assert!(is_there(&persist, 1_500).await);
    assert_eq!(
        persist.record_job_state(queued(1_501)).await.unwrap(),
        Outcome::Applied { created: true },
        "new writes go direct"
    );
}

#[tokio::test(start_paused = true)]
async fn a_misconfiguration_ends_the_start_at_once() {
    let begun = tokio::time::Instant::now();
    for kind in [ErrorKind::Auth, ErrorKind::SchemaMismatch, ErrorKind::InvalidUrl] {
        let open = Opener::new("spool misconfigured");
        *open.failure.lock() = Some(kind);
        let outbox = Arc::new(HeldOutbox::default());
        let error = spool(open, &outbox, WhenFull::Fail).await.unwrap_err();
        assert_eq!(error.kind(), kind);
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn every_failure_but_invalid_input_spools() {
    for kind in ErrorKind::ALL {
        let outbox = Arc::new(HeldOutbox::default());
        let name = format!("spool {}", kind.name());
        let (persist, failure) = start(&name, &outbox, None).await;
        // One that is about its own job alone, and one of everything.
        let bad = JobUpdate::new(BAD, JobState::Queued);
        *failure.lock() = Some(kind);
        let recorded = persist.record_job_state(bad).await;
        if kind == ErrorKind::InvalidInput {
            assert_eq!(recorded.unwrap_err().kind(), kind);
            assert_eq!(outbox.status().waiting, 0);
            continue;
        }
        assert_eq!(recorded.unwrap(), Outcome::Spooled, "{kind:?}");
        *failure.lock() = None;
        until_empty(&outbox).await;
        assert!(persist.job(BAD).await.unwrap().is_some(), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn reads_are_refused_while_anything_waits_unless_asked_for_as_they_stand() {
    let outbox = Arc::new(HeldOutbox::default());
    let (persist, failure) = start("spool reads", &outbox, None).await;
    persist.record_job_state(queued(1)).await.unwrap();
    // A lock held too long: the database is there, and one update is not in it.
    *failure.lock() = Some(ErrorKind::Busy);
    persist.record_job_state(queued(2)).await.unwrap();
    *outbox.failure.lock() = Some(ErrorKind::Full);
    *failure.lock() = None;
    let error = persist.jobs(&JobQuery::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("1 updates"), "{error}");
    let prune = Prune::default().ids([Uuid::from_u128(1)]);
    assert_eq!(
        persist.prune(&prune).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    let stands = persist.backend_as_it_stands();
    assert_eq!(
        stands.events(&EventQuery::default()).await.unwrap().items.len(),
        1
    );
    *outbox.failure.lock() = None;
    until_empty(&outbox).await;
    assert_eq!(persist.jobs(&JobQuery::default()).await.unwrap().items.len(), 2);
    *failure.lock() = Some(ErrorKind::Unavailable);
    persist.record_job_state(queued(3)).await.unwrap();
    let error = stands.jobs(&JobQuery::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "away is away");
}

#[tokio::test(start_paused = true)]
async fn poison_is_put_aside_and_the_rest_goes_on() {
    let outbox = Arc::new(HeldOutbox::default());
    let (persist, failure) = start("spool poison", &outbox, Some(ErrorKind::Unavailable)).await;
    outbox.put("{\"job\":{\"state\":\"invented\"}}");
    for number in 1..=300 {
        persist.record_job_state(queued(number)).await.unwrap();
        if number == 77 {
            let bad = JobUpdate::new(BAD, JobState::Queued);
            persist.record_job_state(bad).await.unwrap();
        }
    }
    // It comes back, and refuses the updates of one job.
    *failure.lock() = Some(ErrorKind::InvalidInput);
    // The probe fails of it as the flaky driver is made; what is asked by hand does not.
    let mut open = Opener::new("spool poison");
    open.is_well = true;
    let driver = open.driver(&failure);
    let replayed = replay(&*outbox, &driver, |_| {}).await.unwrap();
    assert_eq!((replayed.taken, replayed.dead, replayed.passed_over), (300, 2, 0));
    assert!(open.writes.load(Ordering::Relaxed) < 30, "halved, not one by one");
    let status = outbox.status();
    assert_eq!((status.waiting, status.dead), (0, 2));
    assert!(outbox.errors().iter().all(|(_, error)| error.is_some()));
    assert_eq!(outbox.discard_dead().await.unwrap(), 2);
    assert!(is_stored(&driver, 300).await && !is_stored(&driver, BAD.as_u128()).await);
}

async fn is_stored(driver: &dyn PersistBackend, number: u128) -> bool {
    // Reads of the flaky driver fail as its writes do; the pages don't.
    let id = Some(Uuid::from_u128(number));
    let query = JobQuery::default().ids(IdRange::new(id, id));
    !driver.jobs(&query).await.unwrap().items.is_empty()
}

#[tokio::test(start_paused = true)]
async fn a_row_that_can_not_be_read_is_passed_over_and_tried_again() {
    let outbox = Arc::new(HeldOutbox::default());
    let (persist, failure) = start("spool row", &outbox, Some(ErrorKind::Unavailable)).await;
    for update in [queued(1), JobUpdate::new(BAD, JobState::Queued), queued(2)] {
        persist.record_job_state(update).await.unwrap();
    }
    let mut open = Opener::new("spool row");
    open.is_well = true;
    *failure.lock() = Some(ErrorKind::Corrupt);
    let driver = open.driver(&failure);
    let replayed = replay(&*outbox, &driver, |_| {}).await.unwrap();
    assert_eq!((replayed.taken, replayed.dead, replayed.passed_over), (2, 0, 1));
    assert_eq!(outbox.errors()[0].0, 1, "it tells how often it was tried");
    *failure.lock() = None;
    until_empty(&outbox).await;
    assert!(persist.job(BAD).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn x5_an_old_entry_replayed_after_newer_moves_nothing_and_a_refusal_is_counted() {
    let outbox = Arc::new(HeldOutbox::default());
    let (persist, failure) = start("spool x5", &outbox, None).await;
    *failure.lock() = Some(ErrorKind::Unavailable);
    let job = |state| JobUpdate::new(Uuid::from_u128(1), state);
    persist.record_job_state(job(JobState::Running)).await.unwrap();
    persist.record_job_state(job(JobState::Failed)).await.unwrap();
    // Meanwhile another instance tells the store of an ending.
    let other = persist_memory::MemoryBackend::named("spool x5");
    let ended = job(JobState::Succeeded).check(&SystemClock).unwrap();
    other.apply(&[ended]).await.unwrap();
    *failure.lock() = None;
    until_empty(&outbox).await;
    let spool = held(&persist).await;
    assert_eq!((spool.replayed, spool.refused, spool.held.dead), (2, 1, 0));
    let row = persist.job(Uuid::from_u128(1)).await.unwrap().unwrap();
    assert_eq!(row.state, JobState::Succeeded, "the row is where it was");
    let events = persist.events(&EventQuery::default()).await.unwrap();
    assert_eq!(events.items.len(), 2, "and its history has the late one");
}

#[tokio::test(start_paused = true)]
async fn m12_nothing_is_replayed_into_another_database() {
    let outbox = Arc::new(HeldOutbox::default());
    let open = Opener::new("spool m12 own");
    let (failure, place) = (Arc::clone(&open.failure), Arc::clone(&open.name));
    let persist = spool(open, &outbox, WhenFull::Fail).await.unwrap();
    persist.record_job_state(queued(1)).await.unwrap();
    let bound_to = outbox.status().bound_to.expect("bound at first contact");
    *failure.lock() = Some(ErrorKind::Unavailable);
    persist.record_job_state(queued(2)).await.unwrap();
    // The old server is gone for good, and a new one answers behind the same URL.
    *place.lock() = "spool m12 other".to_owned();
    let other = persist_memory::MemoryBackend::named("spool m12 other");
    *failure.lock() = None;
    tokio::time::sleep(HOUR).await;
    let spool = held(&persist).await;
    assert_eq!((spool.held.waiting, spool.held.bound_to), (1, Some(bound_to)));
    assert_eq!(spool.foreign, other.instance_id(), "health says so");
    assert_eq!(persist.health().await.unwrap().mode, Mode::Degraded);
    assert_eq!(
        persist.record_job_state(queued(3)).await.unwrap(),
        Outcome::Spooled
    );
    assert!(other.job(Uuid::from_u128(2)).await.unwrap().is_none());
    let error = replay(&*outbox, &other, |_| {}).await.unwrap_err();
    assert_eq!(error.context("bound_to"), Some(bound_to.to_string().as_str()));
    // It comes back, and has all of it.
    *place.lock() = "spool m12 own".to_owned();
    until_empty(&outbox).await;
    assert!(is_there(&persist, 2).await && is_there(&persist, 3).await);
    assert_eq!(held(&persist).await.foreign, None);
}

#[tokio::test(start_paused = true)]
async fn r7_a_spool_that_grows_for_a_day_is_bounded_told_and_loses_nothing() {
    const ROOM: u64 = 1_000;
    let outbox = HeldOutbox::bounded(ROOM * BYTES);
    let (persist, failure) = start("spool r7", &outbox, None).await;
    *failure.lock() = Some(ErrorKind::Unavailable);
    let (mut kept, mut refused) = (Vec::new(), 0);
    for number in 1..=(24 * 60) {
        match persist.record_job_state(queued(number)).await {
            Ok(outcome) => {
                assert_eq!(outcome, Outcome::Spooled);
                kept.push(number);
            }
            Err(error) => {
                assert_eq!(
                    (error.kind(), error.outcome()),
                    (ErrorKind::Full, UpdateOutcome::NotApplied)
                );
                refused += 1;
            }
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        let spool = held(&persist).await;
        let minutes = spool.oldest_age_us.unwrap() / 60_000_000;
        assert_eq!(minutes, number as u64, "the age of the oldest");
        assert_eq!(spool.overdue, minutes > 1, "overdue after its minute");
        assert!(spool.held.bytes <= ROOM * BYTES);
    }
    let spool = held(&persist).await;
    assert_eq!((kept.len() as u64, refused), (ROOM, 24 * 60 - ROOM));
    assert_eq!(
        (spool.spooled, spool.rejected, spool.held.waiting),
        (ROOM, 24 * 60 - ROOM, ROOM)
    );
    *failure.lock() = None;
    until_empty(&outbox).await;
    for number in kept {
        assert!(is_there(&persist, number).await, "{number} was acknowledged");
    }
    let spool = held(&persist).await;
    assert_eq!((spool.oldest_age_us, spool.overdue), (None, false));
}

#[tokio::test(start_paused = true)]
async fn r7_callers_wait_for_room_until_their_deadline() {
    let outbox = HeldOutbox::bounded(2 * BYTES);
    let open = Opener::new("spool waits");
    let failure = Arc::clone(&open.failure);
    let persist = spool(open, &outbox, WhenFull::Wait).await.unwrap();
    *failure.lock() = Some(ErrorKind::Unavailable);
    persist.record_job_state(queued(1)).await.unwrap();
    persist.record_job_state(queued(2)).await.unwrap();
    let begun = tokio::time::Instant::now();
    let error = persist.record_job_state(queued(3)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert_eq!(begun.elapsed().as_secs(), 10, "its write deadline");
    let waiting = tokio::spawn({
        let persist = persist.clone();
        async move { persist.record_job_state(queued(4)).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished());
    outbox.done(&[1]).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), Outcome::Spooled);
    assert_eq!(held(&persist).await.rejected, 1);
}

#[tokio::test(start_paused = true)]
async fn d11_a_full_spool_disk_is_the_callers_error_counted_and_heals() {
    let outbox = Arc::new(HeldOutbox::default());
    let (persist, failure) = start("spool d11", &outbox, None).await;
    for (database, outcome) in [
        (ErrorKind::Unavailable, UpdateOutcome::NotApplied),
        (ErrorKind::OutcomeUnknown, UpdateOutcome::Unknown),
    ] {
        super::flaky::until_ready(&persist).await;
        *failure.lock() = Some(database);
        *outbox.failure.lock() = Some(ErrorKind::Full);
        let error = persist.record_job_state(queued(1)).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Full, outcome));
        assert_eq!(error.context("database"), Some(database.name()));
        let again = persist.record_job_state(queued(2)).await.unwrap_err();
        assert_eq!(again.outcome(), UpdateOutcome::NotApplied);
        *failure.lock() = None;
        *outbox.failure.lock() = None;
        super::flaky::until_ready(&persist).await;
    }
    let spool = held(&persist).await;
    assert_eq!((spool.rejected, spool.spooled), (4, 0));
    // A disk that takes no removal either: what the database has is sent again, in no tight loop.
    *failure.lock() = Some(ErrorKind::Busy);
    persist.record_job_state(queued(5)).await.unwrap();
    *outbox.failure.lock() = Some(ErrorKind::Full);
    *failure.lock() = None;
    tokio::time::sleep(HOUR).await;
    assert_eq!(outbox.status().waiting, 1);
    assert_eq!(
        persist.health().await.unwrap().mode,
        Mode::Ready,
        "the database is well"
    );
    *outbox.failure.lock() = None;
    until_empty(&outbox).await;
    assert!(is_there(&persist, 5).await);
}

#[tokio::test(start_paused = true)]
async fn closing_empties_what_it_can_in_time_and_leaves_the_rest() {
    for hangs in [false, true] {
        let outbox = Arc::new(HeldOutbox::default());
        let open = Opener::new(if hangs { "spool hangs" } else { "spool closes" });
        let (failure, held) = (Arc::clone(&open.failure), Arc::clone(&open.held));
        let persist = spool(open, &outbox, WhenFull::Fail).await.unwrap();
        *failure.lock() = Some(ErrorKind::Busy);
        persist.record_job_state(queued(1)).await.unwrap();
        *failure.lock() = None;
        let (end, ended) = tokio::sync::oneshot::channel();
        if hangs {
            held.lock().push(ended);
        }
        let begun = tokio::time::Instant::now();
        let closing = tokio::spawn({
            let persist = persist.clone();
            async move { persist.close().await }
        });
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(outbox.status().waiting, u64::from(hangs), "hangs: {hangs}");
        drop(end);
        closing.await.unwrap().unwrap();
        assert!(begun.elapsed() <= Duration::from_secs(61));
        let error = persist.record_job_state(queued(2)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert_eq!(outbox.status().waiting, u64::from(hangs));
    }
}
