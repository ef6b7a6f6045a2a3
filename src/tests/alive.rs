//! Beats: when they come, what an outage does to them, and who is told that another has taken over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use persist_memory::MemoryBackend;
use tokio::time::{sleep, timeout};

use super::flaky::{Failure, Opener, connect, queued, start, until, until_ready};
use super::told::Lines;
use crate::*;

const HALF_A_MINUTE: Duration = Duration::from_secs(30);

/// A handle of this actor, how often its store was beaten at, and what makes it fail.
async fn beating(name: &str, policy: OnUnavailable) -> (Persist, Arc<AtomicU32>, Failure) {
    let open = Opener::new(name);
    let (beats, failure) = (Arc::clone(&open.beats), Arc::clone(&open.failure));
    (connect(open, policy).await.expect("connects"), beats, failure)
}

fn epoch_of(alive: &Alive) -> u64 {
    alive.owner().expect("it has beaten").epoch
}

#[tokio::test(start_paused = true)]
async fn it_beats_three_times_in_its_time_until_it_is_dropped() {
    let (persist, beats, _) = beating("beats", OnUnavailable::Fail).await;
    let alive = persist.keep_alive(HALF_A_MINUTE).await.unwrap();
    let count = || beats.load(Ordering::Relaxed);
    assert_eq!(count(), 1, "the first one before anything else");
    let first = alive.owner().unwrap();
    assert_eq!(
        (first.actor.as_str(), first.started_at),
        ("tester", first.beat_at)
    );
    sleep(Duration::from_millis(60_100)).await;
    assert_eq!(count(), 7);
    let seventh = alive.owner().unwrap();
    assert_eq!(
        (seventh.epoch, seventh.started_at),
        (first.epoch, first.started_at)
    );
    assert!(seventh.beat_at > first.beat_at);
    drop(alive);
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(count(), 7);
}

#[tokio::test(start_paused = true)]
async fn close_ends_it() {
    let (persist, beats, failure) = beating("closed", OnUnavailable::Fail).await;
    let alive = persist.keep_alive(Duration::from_secs(24 * 3_600)).await.unwrap();
    persist.close().await.unwrap();
    drop(persist);
    // The task holds the driver, and with it what makes that fail.
    until("it ends", async || Arc::strong_count(&failure) == 1).await;
    assert_eq!(beats.load(Ordering::Relaxed), 1);
    let hour = Duration::from_secs(3_600);
    timeout(hour, alive.taken_over())
        .await
        .expect_err("nobody took over");
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_through_failures() {
    let (persist, beats, failure) = beating("failures", OnUnavailable::Fail).await;
    let alive = persist.keep_alive(HALF_A_MINUTE).await.unwrap();
    let before = alive.owner().unwrap();
    for kind in [
        ErrorKind::Unavailable,
        ErrorKind::Timeout,
        ErrorKind::SchemaMismatch,
    ] {
        *failure.lock() = Some(kind);
        sleep(Duration::from_secs(300)).await;
        assert_eq!(alive.owner().unwrap(), before, "{kind:?}: not taken");
    }
    let tries = beats.load(Ordering::Relaxed);
    assert!(
        (85..=91).contains(&tries),
        "it goes on trying, three times in its time: {tries}"
    );
    *failure.lock() = None;
    sleep(HALF_A_MINUTE).await;
    let after = alive.owner().unwrap();
    assert!(after.beat_at > before.beat_at && after.epoch == before.epoch);
    assert!(!alive.is_taken_over());
}

#[tokio::test(start_paused = true)]
async fn it_beats_as_soon_as_an_outage_ends() {
    let (persist, beats, failure) = beating("back", OnUnavailable::BestEffort).await;
    let long = Duration::from_secs(24 * 3_600);
    let alive = persist.keep_alive(long).await.unwrap();
    *failure.lock() = Some(ErrorKind::Unavailable);
    persist.record_job_state(queued(1)).await.unwrap();
    assert_eq!(*persist.mode_changes().borrow(), Mode::Degraded);
    sleep(HALF_A_MINUTE).await;
    assert_eq!(beats.load(Ordering::Relaxed), 1);
    *failure.lock() = None;
    until_ready(&persist).await;
    // Long before the third of its time.
    until("it beats", async || beats.load(Ordering::Relaxed) == 2).await;
    drop(alive);
}

#[tokio::test(start_paused = true)]
async fn a_start_while_the_database_is_away_is_told_when_it_is_there() {
    let (persist, failure) = start(
        "away at the start",
        OnUnavailable::BestEffort,
        Some(ErrorKind::Unavailable),
    )
    .await;
    let alive = persist.unwrap().keep_alive(HALF_A_MINUTE).await.unwrap();
    assert_eq!(alive.owner(), None);
    sleep(Duration::from_secs(300)).await;
    assert_eq!(alive.owner(), None);
    *failure.lock() = None;
    until("it beats", async || alive.owner().is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_beat_is_waited_for_and_what_is_reported_then_is_no_orphan() {
    let _kept = MemoryBackend::named("first beat");
    let (persist, failure) = start(
        "first beat",
        OnUnavailable::BestEffort,
        Some(ErrorKind::Unavailable),
    )
    .await;
    let persist = persist.unwrap();
    let of_another_run = queued(1).actor("tester").check(&SystemClock).unwrap();
    MemoryBackend::named("first beat")
        .apply(&[of_another_run])
        .await
        .unwrap();
    let alive = persist.keep_alive(HALF_A_MINUTE).await.unwrap();
    let hour = Duration::from_secs(3_600);
    timeout(hour, alive.beaten()).await.expect_err("there was none");
    *failure.lock() = None;
    let owner = timeout(hour, alive.beaten()).await.expect("it beats");
    assert_eq!(owner.unwrap().actor, "tester");
    assert_eq!(alive.beaten().await, alive.owner());
    persist.record_job_state(queued(2)).await.unwrap();
    let left = Recovery::of(OrphanQuery::default().actor("tester"));
    assert_eq!(persist.recover(&left).await.unwrap().jobs, 1);
    let job = persist.job(uuid::Uuid::from_u128(2)).await.unwrap();
    assert_eq!(job.unwrap().state, JobState::Queued);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_first_beat_is_told_that_there_will_be_none() {
    let (persist, _failure) = start("no beat", OnUnavailable::BestEffort, Some(ErrorKind::Unavailable)).await;
    let persist = persist.unwrap();
    let alive = persist.keep_alive(HALF_A_MINUTE).await.unwrap();
    let closing = async {
        sleep(HALF_A_MINUTE).await;
        persist.close().await.unwrap();
    };
    let (owner, ()) = tokio::join!(alive.beaten(), closing);
    assert_eq!(owner, None);
    let off = Persist::new(None).await.unwrap();
    let alive = off.keep_alive(HALF_A_MINUTE).await;
    assert!(alive.is_err() || alive.unwrap().beaten().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn who_is_taken_over_is_told_loudly_and_once_a_minute() {
    let (lines, _guard) = Lines::read();
    let (persist, _, _) = beating("taken over", OnUnavailable::Fail).await;
    let first = persist.keep_alive(HALF_A_MINUTE).await.unwrap();
    let second = persist.keep_alive(HALF_A_MINUTE).await.unwrap();
    assert!(epoch_of(&second) > epoch_of(&first));
    assert!(!first.is_taken_over(), "it has not beaten since");
    timeout(HALF_A_MINUTE, first.taken_over())
        .await
        .expect("its next beat is refused");
    assert!(first.is_taken_over() && !second.is_taken_over());
    let told = || {
        lines
            .of("ERROR", "another instance has taken over this name")
            .len()
    };
    assert_eq!(told(), 1);
    sleep(Duration::from_secs(290)).await;
    assert_eq!(told(), 5);
    timeout(HALF_A_MINUTE, second.taken_over())
        .await
        .expect_err("it goes on");
}

/// Nor does the clock of who starts decide whether it may: K2.
#[tokio::test]
async fn k2_an_epoch_is_above_all_before_it_whatever_the_clock_says() {
    let store = Arc::new(MemoryBackend::named("epochs"));
    let at = |micros| time::from_micros(micros).unwrap();
    let mut epochs = Vec::new();
    for clock in [5_000, 9_000, 1, 0, 9_001] {
        let builder = Persist::builder_over(Arc::new(MemoryBackend::named("epochs"))).actor("me");
        let persist = builder
            .clock(Arc::new(FixedClock(at(clock))))
            .connect()
            .await
            .unwrap();
        epochs.push(epoch_of(&persist.keep_alive(HALF_A_MINUTE).await.unwrap()));
    }
    assert_eq!(epochs, [5_000, 9_000, 9_001, 9_002, 9_003]);
    let known = store.owners().unwrap().list().await.unwrap();
    assert!(known[0].alive, "by the store's clock");
}

#[tokio::test(start_paused = true)]
async fn what_waiting_does_not_heal_is_an_error_at_once() {
    let (persist, _, failure) = beating("no prospect", OnUnavailable::Fail).await;
    let fields = [
        (Heartbeat::new("", 1), "actor"),
        (
            Heartbeat::new("me", 1).valid_for(Duration::from_millis(1)),
            "valid_for",
        ),
        (Heartbeat::new("me", u64::MAX), "epoch"),
    ];
    for (beat, field) in fields {
        let error = persist.keep_alive_as(beat).await.unwrap_err();
        assert_eq!(error.context("field"), Some(field));
    }
    let held = persist.keep_alive_as(Heartbeat::new("me", 7)).await.unwrap();
    assert_eq!(epoch_of(&held), 7);
    let error = persist.keep_alive_as(Heartbeat::new("me", 6)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.context("field")),
        (ErrorKind::InvalidInput, Some("epoch"))
    );
    for kind in [ErrorKind::SchemaMismatch, ErrorKind::Auth, ErrorKind::Unsupported] {
        *failure.lock() = Some(kind);
        let error = persist.keep_alive(HALF_A_MINUTE).await.unwrap_err();
        assert_eq!(error.kind(), kind);
    }
    persist.close().await.unwrap();
    let error = persist.keep_alive(HALF_A_MINUTE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn without_a_database_it_does_nothing_and_without_a_name_it_is_an_error() {
    let off = Persist::builder(None).actor("me").connect().await.unwrap();
    let alive = off.keep_alive(HALF_A_MINUTE).await.unwrap();
    assert!(alive.owner().is_none() && !alive.is_taken_over());
    let nameless = Persist::new(Some("memory:".into())).await.unwrap();
    let error = nameless.keep_alive(HALF_A_MINUTE).await.unwrap_err();
    assert_eq!(error.context("field"), Some("actor"));
}
