//! Watching through the facade, over a driver that fails on demand and under a paused clock.

use std::sync::atomic::Ordering;

use persist_memory::MemoryBackend;
use tokio::time::{Instant, timeout};

use super::flaky::{Failure, Opener, connector, queued};
use super::*;
use crate::connector::Connector;
use crate::powers::Powers;

const SECOND: Duration = Duration::from_secs(1);

/// Over a driver that gives no hints.
async fn watched(open: Opener, policy: OnUnavailable) -> Persist {
    watched_every(Pace::LONGEST, open, policy).await
}

async fn watched_every(time: Duration, open: Opener, policy: OnUnavailable) -> Persist {
    let powers = Powers {
        changes: true,
        ..Powers::default()
    };
    let connector = Connector {
        powers,
        ..connector(open)
    };
    let builder = Persist::builder(None).on_unavailable(policy).look_every(time);
    builder.connect_by(connector).await.expect("it connects")
}

/// The next change of a stream, which has to come.
async fn next(watching: &mut Watching) -> Arc<Change> {
    let next = timeout(Duration::from_secs(3_600), watching.next()).await;
    next.expect("a change comes")
        .expect("the stream goes on")
        .expect("without an error")
}

/// The numbers of the jobs of the next changes.
async fn numbers(watching: &mut Watching, count: usize) -> Vec<u128> {
    let mut numbers = Vec::new();
    for _ in 0..count {
        numbers.push(next(watching).await.event.subject.request_id().as_u128());
    }
    numbers
}

/// The numbers of the jobs of the next batch, if there is one.
async fn batch(watching: &mut Watching) -> Option<Vec<u128>> {
    let batch = timeout(60 * SECOND, watching.next_batch()).await.ok()?;
    let batch = batch.expect("the stream goes on").expect("without an error");
    let ids = batch
        .iter()
        .map(|change| change.event.subject.request_id().as_u128());
    Some(ids.collect())
}

/// Nothing more comes.
async fn is_silent(watching: &mut Watching) {
    assert!(timeout(60 * SECOND, watching.next()).await.is_err());
}

/// Updates from another process, as it were.
async fn applied_elsewhere(store: &str, jobs: impl IntoIterator<Item = u128>) {
    let claims: Vec<_> = jobs
        .into_iter()
        .map(|number| queued(number).check(&SystemClock).expect("it is in order"))
        .collect();
    MemoryBackend::named(store)
        .apply(&claims)
        .await
        .expect("memory takes it");
}

#[tokio::test(start_paused = true)]
async fn each_sees_what_it_asked_for_once_and_in_order() {
    let persist = Persist::new(Some("memory:".into())).await.unwrap();
    persist.record_job_state(queued(1)).await.unwrap();
    let query = WatchQuery::default();
    let mut from_now = persist.watch(query.clone()).await.unwrap();
    let mut from_start = persist.watch(query.clone().from(WatchFrom::Start)).await.unwrap();
    let mut of_one = persist
        .watch(query.clone().job(Uuid::from_u128(2)))
        .await
        .unwrap();
    let mut failed = persist
        .watch(query.clone().states([JobState::Failed]))
        .await
        .unwrap();
    persist.record_job_state(queued(2)).await.unwrap();
    persist.record_job_state(queued(1).reason("push")).await.unwrap();
    let ended = JobUpdate::new(Uuid::from_u128(1), JobState::Failed);
    persist.record_job_state(ended).await.unwrap();
    persist.record_job_state(queued(3)).await.unwrap();
    assert_eq!(numbers(&mut from_now, 4).await, [2, 1, 1, 3]);
    // What it would have seen of job 1 as it was has moved on.
    assert!(matches!(
        numbers(&mut from_start, 4).await[..],
        [2, 1, 1, 3] | [1, 2, 1, 1]
    ));
    assert_eq!(numbers(&mut of_one, 1).await, [2]);
    let change = next(&mut failed).await;
    assert_eq!(change.event.state.name(), "failed");
    let mut resumed = persist
        .watch(query.from(WatchFrom::After(change.cursor())))
        .await
        .unwrap();
    assert_eq!(numbers(&mut resumed, 1).await, [3]);
    for watching in [&mut from_now, &mut of_one, &mut failed, &mut resumed] {
        is_silent(watching).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_there_is_taken_at_once_and_nothing_of_it_twice() {
    let persist = Persist::new(Some("memory:".into())).await.unwrap();
    for number in 1..=5 {
        persist.record_job_state(queued(number)).await.unwrap();
    }
    let from_start = WatchQuery::default().from(WatchFrom::Start);
    let of_two = from_start.clone().job(Uuid::from_u128(2));
    let of_none = from_start.clone().states([JobState::Failed]);
    let mut watching = persist.watch(from_start).await.unwrap();
    assert_eq!(numbers(&mut watching, 2).await, [1, 2]);
    assert_eq!(batch(&mut watching).await, Some(vec![3, 4, 5]));
    assert_eq!(batch(&mut watching).await, None, "each once");
    persist.record_job_state(queued(6)).await.unwrap();
    assert_eq!(batch(&mut watching).await, Some(vec![6]));
    let mut of_two = persist.watch(of_two).await.unwrap();
    assert_eq!(batch(&mut of_two).await, Some(vec![2]));
    let mut of_none = persist.watch(of_none).await.unwrap();
    assert_eq!(batch(&mut of_none).await, None, "no empty batch");
    persist.close().await.unwrap();
    let closed = of_none.next_batch().await.expect("its end is told");
    assert_eq!(closed.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_this_process_wrote_is_seen_long_before_the_next_look() {
    let hour = Duration::from_secs(3_600);
    let builder = Persist::builder(Some("memory:".into())).look_every(hour);
    let persist = builder.connect().await.unwrap();
    let mut watching = persist.watch(WatchQuery::default()).await.unwrap();
    is_silent(&mut watching).await;
    for number in 1..=5 {
        tokio::time::sleep(hour / 2).await;
        let begun = Instant::now();
        persist.record_job_state(queued(number)).await.unwrap();
        assert_eq!(numbers(&mut watching, 1).await, [number]);
        assert!(
            begun.elapsed() <= Duration::from_millis(20),
            "{:?}",
            begun.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_ask_the_store_as_often_as_one() {
    let open = Opener::new("hundred");
    let looks = Arc::clone(&open.looks);
    let persist = watched(open, OnUnavailable::Fail).await;
    let mut all = Vec::new();
    for _ in 0..100 {
        let mut watching = persist.watch(WatchQuery::default()).await.unwrap();
        all.push(tokio::spawn(async move { numbers(&mut watching, 3).await }));
    }
    tokio::time::sleep(60 * SECOND).await;
    let before = looks.load(Ordering::Relaxed);
    for number in 1..=3 {
        tokio::time::sleep(60 * SECOND).await;
        applied_elsewhere("hundred", [number]).await;
    }
    for watching in all {
        assert_eq!(watching.await.unwrap(), [1, 2, 3]);
    }
    // A look a second, and a few more after each change.
    let after = looks.load(Ordering::Relaxed);
    assert!(after - before < 180 + 50, "{} looks", after - before);
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_loses_nothing_and_holds_nobody_up() {
    let persist = Persist::new(Some("memory:".into())).await.unwrap();
    let mut slow = persist.watch(WatchQuery::default()).await.unwrap();
    let mut in_batches = persist.watch(WatchQuery::default()).await.unwrap();
    let mut fast = persist.watch(WatchQuery::default()).await.unwrap();
    persist.record_job_state(queued(1)).await.unwrap();
    for watching in [&mut slow, &mut in_batches, &mut fast] {
        assert_eq!(numbers(watching, 1).await, [1]);
        is_silent(watching).await;
    }
    for number in 2..=200 {
        persist.record_job_state(queued(number)).await.unwrap();
        assert_eq!(numbers(&mut fast, 1).await, [number]);
    }
    let expected: Vec<u128> = (2..=200).collect();
    assert_eq!(numbers(&mut slow, 199).await, expected);
    // What it reads by itself overlaps with what it is told of.
    let mut batched = numbers(&mut in_batches, 1).await;
    while let Some(ids) = batch(&mut in_batches).await {
        batched.extend(ids);
    }
    assert_eq!(batched, expected);
    is_silent(&mut slow).await;
    persist.record_job_state(queued(201)).await.unwrap();
    assert_eq!(numbers(&mut slow, 1).await, [201]);
    assert_eq!(batch(&mut in_batches).await, Some(vec![201]));
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_is_waited_for_and_nothing_is_lost() {
    let open = Opener::new("outage");
    let failure = Failure::clone(&open.failure);
    let persist = watched(open, OnUnavailable::BestEffort).await;
    let mut watching = persist.watch(WatchQuery::default()).await.unwrap();
    let mut at_the_start = persist
        .watch(WatchQuery::default().from(WatchFrom::Start))
        .await
        .unwrap();
    for round in 0..5 {
        let first = round * 10;
        applied_elsewhere("outage", [first + 1]).await;
        assert_eq!(numbers(&mut watching, 1).await, [first + 1]);
        *failure.lock() = Some(ErrorKind::Unavailable);
        applied_elsewhere("outage", [first + 2, first + 3]).await;
        is_silent(&mut watching).await;
        *failure.lock() = None;
        assert_eq!(numbers(&mut watching, 2).await, [first + 2, first + 3]);
    }
    let expected: Vec<u128> = (0..5)
        .flat_map(|round| (1..=3).map(move |n| round * 10 + n))
        .collect();
    assert_eq!(numbers(&mut at_the_start, 15).await, expected);
    for watching in [&mut watching, &mut at_the_start] {
        is_silent(watching).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_last_who_watches_and_begins_anew() {
    let open = Opener::new("ends");
    let (looks, failure) = (Arc::clone(&open.looks), Failure::clone(&open.failure));
    let persist = watched(open, OnUnavailable::Fail).await;
    for number in 1..=3 {
        let mut watching = persist.watch(WatchQuery::default()).await.unwrap();
        let other = persist.watch(WatchQuery::default()).await.unwrap();
        applied_elsewhere("ends", [number]).await;
        assert_eq!(numbers(&mut watching, 1).await, [number]);
        drop(watching);
        let before = looks.load(Ordering::Relaxed);
        tokio::time::sleep(60 * SECOND).await;
        assert!(looks.load(Ordering::Relaxed) >= before + 59, "one still watches");
        drop(other);
        tokio::time::sleep(SECOND).await;
        let before = looks.load(Ordering::Relaxed);
        tokio::time::sleep(60 * SECOND).await;
        assert_eq!(looks.load(Ordering::Relaxed), before, "nobody watches");
    }
    drop(persist);
    let mut open = Opener::new("seldom");
    open.failure = Failure::clone(&failure);
    let persist = watched_every(3_600 * SECOND, open, OnUnavailable::Fail).await;
    let watching = persist.watch(WatchQuery::default()).await.unwrap();
    drop(persist);
    tokio::time::sleep(1_800 * SECOND).await;
    assert!(Arc::strong_count(&failure) > 1, "who watches keeps the store");
    drop(watching);
    tokio::time::sleep(SECOND).await;
    assert_eq!(Arc::strong_count(&failure), 1, "nobody has it any more");
}

#[tokio::test(start_paused = true)]
async fn what_was_pruned_unseen_is_a_lag_and_the_end() {
    let open = Opener::new("pruned");
    let (looks, failure) = (Arc::clone(&open.looks), Failure::clone(&open.failure));
    let persist = watched(open, OnUnavailable::BestEffort).await;
    let mut watching = persist.watch(WatchQuery::default()).await.unwrap();
    let mut later = persist.watch(WatchQuery::default()).await.unwrap();
    applied_elsewhere("pruned", [1, 9]).await;
    assert_eq!(numbers(&mut watching, 2).await, [1, 9]);
    assert_eq!(numbers(&mut later, 1).await, [1]);
    // What was seen may go.
    let prune = |number: u128| Prune::default().ids([Uuid::from_u128(number)]);
    MemoryBackend::named("pruned").prune(&prune(1)).await.unwrap();
    is_silent(&mut watching).await;
    *failure.lock() = Some(ErrorKind::Unavailable);
    applied_elsewhere("pruned", [2, 3]).await;
    MemoryBackend::named("pruned").prune(&prune(2)).await.unwrap();
    *failure.lock() = None;
    let lagged = timeout(60 * SECOND, watching.next()).await.unwrap().unwrap();
    assert_eq!(lagged.unwrap_err().kind(), ErrorKind::Lagged);
    assert!(watching.next().await.is_none());
    assert!(watching.next_batch().await.is_none());
    // What was read before that comes first.
    assert_eq!(batch(&mut later).await, Some(vec![9]));
    let lagged = later.next_batch().await.unwrap();
    assert_eq!(lagged.unwrap_err().kind(), ErrorKind::Lagged);
    // The task goes on for others.
    let mut anew = persist
        .watch(WatchQuery::default().from(WatchFrom::Start))
        .await
        .unwrap();
    assert_eq!(numbers(&mut anew, 2).await, [9, 3]);
    applied_elsewhere("pruned", [4]).await;
    assert_eq!(numbers(&mut anew, 1).await, [4]);
    let before = looks.load(Ordering::Relaxed);
    is_silent(&mut anew).await;
    assert!(looks.load(Ordering::Relaxed) < before + 70, "by the task alone");
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_close_and_says_why_it_can_not_begin() {
    let persist = Persist::new(Some("memory:".into())).await.unwrap();
    let mut watching = persist.watch(WatchQuery::default()).await.unwrap();
    is_silent(&mut watching).await;
    let damaged = WatchQuery::default().from(WatchFrom::After(Cursor::from_text("x")));
    let kind = async |persist: &Persist, query: &WatchQuery| {
        let refused = persist.watch(query.clone()).await.map(|_| ());
        refused.unwrap_err().kind()
    };
    assert_eq!(kind(&persist, &damaged).await, ErrorKind::InvalidInput);
    persist.close().await.unwrap();
    tokio::time::sleep(SECOND).await;
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert_eq!(tasks, 0, "nobody asks any more, also while somebody keeps a seat");
    let begun = Instant::now();
    let closed = watching.next().await.unwrap().unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Closed);
    assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
    assert_eq!(kind(&persist, &WatchQuery::default()).await, ErrorKind::Closed);
    let off = Persist::new(None).await.unwrap();
    assert_eq!(kind(&off, &WatchQuery::default()).await, ErrorKind::Unavailable);
    let (plain, _) = start("unwatched", OnUnavailable::Fail, None).await;
    assert_eq!(
        kind(&plain.unwrap(), &WatchQuery::default()).await,
        ErrorKind::Unsupported
    );
}
