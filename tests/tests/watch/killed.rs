//! Writers and watchers whose connections are killed at random: each watcher sees every change.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use futures_util::future::join_all;
use persist::{
    Change, JobState, OnUnavailable, Persist, Rank, Result, Subject, WatchFrom, WatchQuery, Watching,
};
use persist_core::{EventQuery, PersistExt as _};
use persist_tests::place::{Database, Place};
use persist_tests::{cluster, process, sample, soak};
use sqlx::{Connection as _, Executor as _};

const WRITERS: u64 = 8;
const MARKER: u64 = 1_000_000;

async fn connect(place: &Place) -> Persist {
    let policy = OnUnavailable::Retry {
        within: process::BOUND,
    };
    let builder = Persist::builder(Some(place.url().to_owned())).on_unavailable(policy);
    builder
        .deadlines(sample::deadlines(process::BOUND))
        .connect()
        .await
        .unwrap()
}

/// What comes next, one by one or all that is there.
async fn come(watching: &mut Watching, in_batches: bool) -> Option<Result<Vec<Arc<Change>>>> {
    if in_batches {
        let batch = watching.next_batch().await?;
        return Some(batch.map(|batch| batch.iter().cloned().collect()));
    }
    let change = watching.next().await?;
    Some(change.map(|change| vec![change]))
}

/// How often each slot was seen, and the number of its latest change, until the marker is.
async fn all_seen(mut watching: Watching, in_batches: bool) -> Result<HashMap<(Subject, Rank), (u64, i64)>> {
    let mut seen = HashMap::new();
    let mut last = None;
    let mut ready = VecDeque::new();
    loop {
        let Some(change) = ready.pop_front() else {
            let more = come(&mut watching, in_batches).await;
            ready.extend(more.expect("a stream ends with an error only")?);
            continue;
        };
        assert!(last < Some(change.position.key()), "each change once, in order");
        last = Some(change.position.key());
        let event = &change.event;
        if event.subject.request_id() == sample::id(MARKER) {
            return Ok(seen);
        }
        let (times, seq) = seen.entry((event.subject.clone(), event.rank)).or_insert((0, 0));
        *times += 1;
        *seq = event.seq.get();
    }
}

/// One job after another: two slots, and a fill of the first.
async fn write(persist: Persist, writer: u64, stop: Arc<AtomicBool>, written: Arc<AtomicU64>) -> Result<()> {
    let mut number = writer;
    while !stop.load(Ordering::Relaxed) {
        number += WRITERS;
        persist
            .record_job_state(sample::job(number, JobState::Queued))
            .await?;
        persist
            .record_job_state(sample::job(number, JobState::Running))
            .await?;
        let filling = sample::job(number, JobState::Queued).reason("seen later");
        persist.record_job_state(filling).await?;
        written.fetch_add(2, Ordering::Relaxed);
    }
    Ok(())
}

/// Ends some of the connections of these stores' programs, again and again.
async fn kill(place: &Place, length: Duration) -> u64 {
    let mut connection = cluster::connect(place.url()).await;
    let (end, mut killed) = (Instant::now() + length, 0);
    while Instant::now() < end {
        let some = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() \
                    AND datname = current_database() AND backend_type = 'client backend' AND random() < 0.2";
        killed += connection.fetch_all(some).await.unwrap().len() as u64;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    connection.close().await.unwrap();
    killed
}

#[tokio::test(flavor = "multi_thread")]
async fn every_watcher_sees_every_change_while_connections_are_killed() {
    // A database of its own: all of its connections are fair game.
    let place = Place::at(cluster::shared().fresh_database_url().await);
    assert_eq!(place.database(), Database::Postgres);
    place.migrated().await.unwrap().close().await.unwrap();
    // A handle for each, as so many processes have: one alone would put their updates into few transactions.
    let writers = join_all((0..WRITERS).map(|_| connect(&place))).await;
    let watcher = connect(&place).await;
    let mut watching = Vec::new();
    for from_start in [true, false].into_iter().cycle().take(soak::or(20, 100)) {
        let from = if from_start {
            WatchFrom::Start
        } else {
            WatchFrom::Now
        };
        // Half of them beside the writers, and half as another process would.
        for persist in [&writers[0], &watcher] {
            let stream = persist
                .watch(WatchQuery::default().from(from.clone()))
                .await
                .unwrap();
            let in_batches = watching.len().is_multiple_of(3);
            watching.push(tokio::spawn(all_seen(stream, in_batches)));
        }
    }
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writing: Vec<_> = (0..)
        .zip(&writers)
        .map(|(number, writer)| {
            let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
            tokio::spawn(write(writer.clone(), number, stop, written))
        })
        .collect();
    let killed = kill(&place, soak::or(Duration::from_secs(4), Duration::from_secs(300))).await;
    stop.store(true, Ordering::Relaxed);
    for writing in writing {
        writing.await.unwrap().unwrap();
    }
    watcher
        .record_job_state(sample::job(MARKER, JobState::Queued))
        .await
        .unwrap();
    let history: Vec<_> = watcher
        .backend()
        .all_events(EventQuery::default())
        .try_collect()
        .await
        .unwrap();
    let written = written.load(Ordering::Relaxed);
    assert_eq!(history.len() as u64, written + 1);
    let count = watching.len();
    for seen in join_all(watching).await {
        let seen = seen.unwrap().unwrap();
        assert_eq!(seen.len() as u64, written, "every slot");
        for event in history
            .iter()
            .filter(|event| event.subject.request_id() != sample::id(MARKER))
        {
            let (times, seq) = seen[&(event.subject.clone(), event.rank)];
            assert_eq!(seq, event.seq.get(), "as it is in the end");
            assert!(times <= 2, "claimed and filled: {times}");
        }
    }
    println!("{count} watchers saw {written} slots; {killed} connections were killed");
    assert!(killed > 0 && written > 0, "{killed} {written}");
    for persist in writers.into_iter().chain([watcher]) {
        persist.close().await.unwrap();
    }
}
