//! Forgetting in the background: one runner at a time, at a rate, until it is stopped.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use persist_core::layer::{Fault, Faults, Faulty};
use persist_memory::MemoryBackend;
use tokio::time::Instant;
use uuid::Uuid;

use super::flaky::until;
use crate::*;

const NAMED: &str = "memory:retention-";

async fn store(name: &str, ended: u128) -> Persist {
    let url = format!("{NAMED}{name}");
    let persist = Persist::builder(Some(url)).connect().await.unwrap();
    for n in 1..=ended {
        let update = JobUpdate::new(Uuid::from_u128(n), JobState::Succeeded);
        persist.record_job_state(update).await.unwrap();
    }
    let live = JobUpdate::new(Uuid::from_u128(1_000), JobState::Queued);
    persist.record_job_state(live).await.unwrap();
    persist
}

async fn left(persist: &Persist) -> usize {
    persist
        .jobs(&JobQuery::default().limit(1_000))
        .await
        .unwrap()
        .items
        .len()
}

/// A job that ended an hour ago, the n-th of some.
fn ended(n: u128) -> JobUpdate {
    let at = SystemClock.now() - TimeDelta::hours(1) + TimeDelta::seconds(i64::try_from(n).unwrap());
    JobUpdate::new(Uuid::from_u128(n), JobState::Succeeded).at(at)
}

fn all() -> Retention {
    Retention::new().states([JobState::Succeeded])
}

#[tokio::test(start_paused = true)]
async fn it_runs_again_and_again_until_it_is_stopped() {
    let persist = store("again", 3).await;
    let task = all().every(Duration::from_secs(3_600)).start(&persist);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(left(&persist).await, 1, "at once, and only what has ended");
    let later = JobUpdate::new(Uuid::from_u128(7), JobState::Succeeded);
    persist.record_job_state(later.clone()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3_000)).await;
    assert_eq!(left(&persist).await, 2, "not before it is due");
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert_eq!(left(&persist).await, 1);
    task.stop().await;
    persist.record_job_state(later).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10_000)).await;
    assert_eq!(left(&persist).await, 2, "it was stopped");
}

#[tokio::test(start_paused = true)]
async fn a_rate_holds_and_who_is_asked_to_stop_while_it_rests_removes_no_more() {
    let persist = store("rate", 40).await;
    let slow = all().batch(10).per_second(1);
    let begun = Instant::now();
    let mut batches = 0;
    let each = |pruned: Option<&Pruned>| {
        batches += u32::from(pruned.is_some());
        begun.elapsed() < Duration::from_secs(15)
    };
    let pruned = slow.run(&*persist.backend(), &SystemClock, each).await.unwrap();
    assert_eq!((pruned.requests, pruned.more, batches), (20, true, 2));
    let took = begun.elapsed().as_secs_f64();
    assert!(
        (15.0..15.5).contains(&took),
        "it ends in its rest, not after it: {took}"
    );
    assert_eq!(left(&persist).await, 21);
    let rest = slow
        .run(&*persist.backend(), &SystemClock, |_| true)
        .await
        .unwrap();
    assert_eq!(
        (rest.requests, rest.more),
        (20, false),
        "the next one is let in at once"
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_on_where_its_last_batch_ended() {
    let persist = store("place", 0).await;
    for n in 10..30 {
        persist.record_job_state(ended(n)).await.unwrap();
    }
    let (told, mut is_told) = tokio::sync::watch::channel(false);
    let older = {
        let persist = persist.clone();
        tokio::spawn(async move {
            is_told.wait_for(|told| *told).await.unwrap();
            persist.record_job_state(ended(1)).await.unwrap();
        })
    };
    let each = |pruned: Option<&Pruned>| {
        told.send_if_modified(|told| !std::mem::replace(told, pruned.is_some()));
        true
    };
    let slow = all().batch(5).per_second(1);
    let pruned = slow.run(&*persist.backend(), &SystemClock, each).await.unwrap();
    older.await.unwrap();
    assert_eq!((pruned.requests, pruned.more), (20, false));
    assert_eq!(left(&persist).await, 2, "what came behind it is for the next run");
    let next = all().run(&*persist.backend(), &SystemClock, |_| true).await;
    assert_eq!(next.unwrap().requests, 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_run_that_failed_the_next_one_goes_on_where_it_was_if_that_may_help() {
    // The last call that fails, and whether the place is kept.
    for (fault, retry, last, goes_on) in [
        (Fault::FailBefore, Retry::Later, 40, true),
        (Fault::FailBefore, Retry::Never, 40, false),
        // One run alone, which had come there.
        (Fault::FailBefore, Retry::Never, 2, true),
        // A batch that has no end in its time, whenever it is tried.
        (Fault::FreezeBefore, Retry::Later, 40, false),
    ] {
        let store: Arc<dyn PersistBackend> = Arc::new(MemoryBackend::new());
        let over = async |backend| Persist::builder_over(backend).connect().await.unwrap();
        let persist = over(Arc::clone(&store)).await;
        for n in 10..30 {
            persist.record_job_state(ended(n)).await.unwrap();
        }
        // The second batch, however often one run tries it.
        let faults = (2..=last).fold(Faults::default().retried(retry), |faults, call| {
            faults.at(call, fault)
        });
        let faulty = Arc::new(Faulty::new(store, faults));
        let pruner = over(Arc::clone(&faulty) as Arc<dyn PersistBackend>).await;
        let task = all().batch(5).per_second(1).start(&pruner);
        until("it fails in the middle", async || faulty.struck() > 0).await;
        persist.record_job_state(ended(1)).await.unwrap();
        let is_there = async |n| persist.job(Uuid::from_u128(n)).await.unwrap().is_some();
        until("it is done", async || !is_there(29).await).await;
        assert_eq!(
            is_there(1).await,
            goes_on,
            "{fault:?}, {retry:?}, {last}: what came behind it"
        );
        tokio::time::sleep(Duration::from_secs(7_200)).await;
        assert_eq!(
            left(&persist).await,
            0,
            "{fault:?}, {retry:?}, {last}: after one that ended the next begins anew"
        );
        task.stop().await;
    }
}

/// A runner that was killed keeps others away for a while, also one that comes back after its own outage.
#[tokio::test(start_paused = true)]
async fn who_finds_another_at_work_keeps_its_place() {
    let store: Arc<dyn PersistBackend> = Arc::new(MemoryBackend::new());
    let over = async |backend| Persist::builder_over(backend).connect().await.unwrap();
    let persist = over(Arc::clone(&store)).await;
    for n in 10..30 {
        persist.record_job_state(ended(n)).await.unwrap();
    }
    let faults = Faults::default().retried(Retry::Never).at(2, Fault::FailBefore);
    let faulty = Arc::new(Faulty::new(Arc::clone(&store), faults));
    let pruner = over(Arc::clone(&faulty) as Arc<dyn PersistBackend>).await;
    let task = all()
        .batch(5)
        .per_second(1)
        .every(Duration::from_secs(5))
        .start(&pruner);
    until("it fails in the middle", async || faulty.struck() > 0).await;
    persist.record_job_state(ended(1)).await.unwrap();
    let beat = |time| {
        let epoch = u64::try_from(SystemClock.now().timestamp_micros()).unwrap() * 2;
        Heartbeat::new(RETENTION_ACTOR, epoch).valid_for(time)
    };
    let owners = store.owners().unwrap();
    owners.heartbeat(&beat(Duration::from_secs(3_600))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(left(&persist).await, 16, "another is at work");
    owners.heartbeat(&beat(*HEARTBEAT.start())).await.unwrap();
    let is_there = async |n| persist.job(Uuid::from_u128(n)).await.unwrap().is_some();
    until("it is done", async || !is_there(29).await).await;
    assert!(is_there(1).await, "it went on where it was");
    task.stop().await;
}

#[tokio::test]
async fn of_two_runners_one_is_told_that_the_other_is_at_work() {
    let persist = store("two", 20).await;
    let backend = persist.backend();
    let slow = all().batch(5).per_second(1);
    let (told, mut is_told) = tokio::sync::watch::channel(false);
    let (end, ended) = tokio::sync::watch::channel(false);
    let first = {
        let (persist, slow) = (persist.clone(), slow.clone());
        tokio::spawn(async move {
            let each = |_: Option<&Pruned>| {
                told.send_replace(true);
                !*ended.borrow()
            };
            slow.run(&*persist.backend(), &SystemClock, each).await
        })
    };
    is_told.wait_for(|told| *told).await.unwrap();
    let error = slow.run(&*backend, &SystemClock, |_| true).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!(
        error.to_string().contains("another retention is at work, until"),
        "{error}"
    );
    end.send_replace(true);
    let first = first.await.unwrap().unwrap();
    assert!(first.more && first.requests >= 5, "{first:?}");
    let rest = all().run(&*backend, &SystemClock, |_| true).await.unwrap();
    assert_eq!(first.requests + rest.requests, 20);
}

#[tokio::test]
async fn an_age_counts_from_now_and_without_any_condition_nothing_goes() {
    let persist = store("age", 2).await;
    let error = Retention::new()
        .run(&*persist.backend(), &SystemClock, |_| true)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let aged = Retention::new().older_than(Duration::from_secs(60));
    let now = SystemClock.now();
    let request = |seconds| {
        aged.request(&FixedClock(now + TimeDelta::seconds(seconds)))
            .unwrap()
    };
    let before = request(60).ended_before.unwrap();
    assert_eq!(before.timestamp_micros(), now.timestamp_micros());
    let young = aged
        .run(&*persist.backend(), &SystemClock, |_| true)
        .await
        .unwrap();
    assert_eq!(young.requests, 0);
    let later = FixedClock(now + TimeDelta::seconds(61));
    let old = aged.run(&*persist.backend(), &later, |_| true).await.unwrap();
    assert_eq!(old.requests, 2, "the live one stays");
}
