//! What an outage does to the mode, the counts, and the callers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::flaky::{BAD, Opener, connect, queued, start, until_ready};
use crate::heal::Outages;
use crate::*;

#[tokio::test(start_paused = true)]
async fn a_failing_write_flips_the_mode_and_is_counted_by_what_is_known() {
    let cases = [
        (ErrorKind::Unavailable, (1, 0)),
        (ErrorKind::OutcomeUnknown, (0, 1)),
        (ErrorKind::Timeout, (0, 1)),
    ];
    for (kind, (dropped, unknown)) in cases {
        let (persist, failure) = start(kind.name(), OnUnavailable::BestEffort, None).await;
        let persist = persist.unwrap();
        *failure.lock() = Some(kind);
        assert_eq!(
            persist.record_job_state(queued(1)).await.unwrap(),
            Outcome::Dropped
        );
        *failure.lock() = None;
        // Nothing is sent until the probe has healed it.
        assert_eq!(
            persist.record_job_state(queued(2)).await.unwrap(),
            Outcome::Dropped
        );
        assert_eq!(
            persist.record_job_state(queued(0)).await.unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        let health = persist.health().await.unwrap();
        assert_eq!(
            (health.mode, health.dropped, health.unknown),
            (Mode::Degraded, dropped + 1, unknown)
        );
        assert!(persist.is_enabled(), "enabled from the first readiness on");
        until_ready(&persist).await;
        assert_eq!(
            persist.record_job_state(queued(1)).await.unwrap(),
            Outcome::Applied { created: true }
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_from_before_the_healing_says_nothing_of_the_present() {
    for (name, kind, outcome) in [
        // It may have happened: counted, and the healed driver stays.
        ("stale", ErrorKind::OutcomeUnknown, Outcome::Dropped),
        // Its driver was closed under it: made again with the present one.
        ("replaced", ErrorKind::Closed, Outcome::Applied { created: true }),
    ] {
        let open = Opener::new(name);
        let (failure, held) = (Arc::clone(&open.failure), Arc::clone(&open.held));
        let persist = connect(open, OnUnavailable::BestEffort).await.unwrap();
        let (end, ended) = tokio::sync::oneshot::channel();
        held.lock().push(ended);
        let slow = tokio::spawn({
            let persist = persist.clone();
            async move { persist.record_job_state(queued(1)).await }
        });
        while !held.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        *failure.lock() = Some(ErrorKind::Unavailable);
        assert_eq!(
            persist.record_job_state(queued(2)).await.unwrap(),
            Outcome::Dropped
        );
        *failure.lock() = None;
        until_ready(&persist).await;
        end.send(kind).unwrap();
        assert_eq!(slow.await.unwrap().unwrap(), outcome, "{name}");
        assert_eq!(persist.health().await.unwrap().mode, Mode::Ready, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn r5_a_store_that_is_read_and_not_written_is_neither_hammered_nor_logged_in_a_loop() {
    let open = Opener::new("full");
    let (failure, writes) = (Arc::clone(&open.failure), Arc::clone(&open.writes));
    let persist = connect(open, OnUnavailable::BestEffort).await.unwrap();
    *failure.lock() = Some(ErrorKind::Full);
    let hour = tokio::time::Instant::now();
    while hour.elapsed() < Duration::from_secs(3_600) {
        assert_eq!(
            persist.record_job_state(queued(1)).await.unwrap(),
            Outcome::Dropped
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let tried = writes.load(Ordering::Relaxed);
    assert!(
        (60..400).contains(&tried),
        "{tried} writes in an hour: the back-off grows, and goes on"
    );
    *failure.lock() = None;
    until_ready(&persist).await;
    persist.record_job_state(queued(1)).await.unwrap();
    // It worked in between: the next outage is probed quickly again.
    *failure.lock() = Some(ErrorKind::Unavailable);
    persist.record_job_state(queued(2)).await.unwrap();
    *failure.lock() = None;
    let begun = tokio::time::Instant::now();
    until_ready(&persist).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn r5_one_line_in_each_interval() {
    let mut outages = Outages::new();
    let mut lines = 0;
    for _ in 0..600 {
        lines += u32::from(outages.line().is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(lines, 10, "ten minutes, ten lines");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_cannot_be_read_is_no_outage() {
    let (persist, failure) = start("row", OnUnavailable::BestEffort, None).await;
    let persist = persist.unwrap();
    *failure.lock() = Some(ErrorKind::Corrupt);
    let bad = JobUpdate::new(BAD, JobState::Queued);
    assert_eq!(persist.record_job_state(bad).await.unwrap(), Outcome::Dropped);
    let health = persist.health().await;
    *failure.lock() = None;
    assert_eq!(
        health.unwrap_err().kind(),
        ErrorKind::Corrupt,
        "the driver answers: it is not away"
    );
    assert_eq!(
        persist.record_job_state(queued(1)).await.unwrap(),
        Outcome::Applied { created: true }
    );
    assert_eq!(persist.health().await.unwrap().dropped, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_late_while_others_are_answered_is_no_outage() {
    let open = Opener::new("late");
    let held = Arc::clone(&open.held);
    let persist = connect(open, OnUnavailable::BestEffort).await.unwrap();
    for (others, mode) in [(true, Mode::Ready), (false, Mode::Degraded)] {
        let (end, ended) = tokio::sync::oneshot::channel();
        held.lock().push(ended);
        let late = tokio::spawn({
            let persist = persist.clone();
            async move { persist.record_job_state(queued(1)).await }
        });
        while !held.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        tokio::time::advance(Duration::from_secs(9)).await;
        if others {
            persist.record_job_state(queued(2)).await.unwrap();
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        end.send(ErrorKind::Timeout).unwrap();
        assert_eq!(late.await.unwrap().unwrap(), Outcome::Dropped);
        assert_eq!(persist.health().await.unwrap().mode, mode);
    }
    assert_eq!(persist.health().await.unwrap().unknown, 2);
}

#[tokio::test]
async fn what_an_earlier_chunk_has_stored_is_not_called_unapplied() {
    let (persist, failure) = start("chunks", OnUnavailable::BestEffort, None).await;
    let persist = persist.unwrap();
    *failure.lock() = Some(ErrorKind::InvalidInput);
    let good = (1..=CHUNK as u128).map(queued);
    let bad = JobUpdate::new(BAD, JobState::Queued);
    let claims: Vec<_> = good
        .chain([bad.clone()])
        .map(|update| update.check(&SystemClock).unwrap())
        .collect();
    let error = persist.backend().apply(&claims).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::InvalidInput, UpdateOutcome::Unknown)
    );
    let error = persist.record_job_state(bad).await.unwrap_err();
    assert_eq!(
        error.outcome(),
        UpdateOutcome::NotApplied,
        "nothing of it was stored"
    );
}

#[tokio::test(start_paused = true)]
async fn closing_again_waits_for_the_end_of_the_first() {
    let open = Opener::new("closing");
    let held = Arc::clone(&open.held);
    let persist = connect(open, OnUnavailable::BestEffort).await.unwrap();
    let (end, ended) = tokio::sync::oneshot::channel();
    held.lock().push(ended);
    let second = Duration::from_secs(1);
    timeout(second, persist.close()).await.expect_err("it drains");
    timeout(second, persist.close()).await.expect_err("it still does");
    end.send(ErrorKind::Closed).unwrap();
    persist.close().await.unwrap();
    persist.close().await.unwrap();
}
