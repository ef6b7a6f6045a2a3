//! Callers of a handle through which a hundred watch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use persist::{Clock as _, Persist, SystemClock, WatchQuery, Watching};
use sqlx::{Executor as _, Row as _};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::ours::{Load, load};
use super::server::{Server, cpu_of};
use crate::contest::Contender;
use crate::slice::Slice;
use crate::targets::WAY;
use crate::workload;

/// Those who watch.
const WATCHERS: u64 = 100;
/// Of which so many look at their clocks.
const TIMED: u64 = 4;
/// For all of them to see all, after the last update.
const PATIENCE: Duration = Duration::from_secs(30);

/// What each of them wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Every change.
    All,
    /// The changes of a job of its own.
    OneJob,
    /// Nothing: nobody watches.
    Nothing,
}

pub(crate) struct Watched {
    pub(crate) server: Arc<Server>,
    pub(crate) callers: u64,
    pub(crate) length: Duration,
    pub(crate) wanted: Wanted,
}

/// What one has seen: how many changes, the sum of their numbers, and their ways from the caller to here, in µs.
#[derive(Debug, Default)]
struct Seen {
    changes: u64,
    numbers: i64,
    ways_us: Vec<u32>,
}

impl Seen {
    /// Reads on until it has seen as much as it is told there is, once it is told.
    async fn all(
        mut self,
        mut watching: Watching,
        mut end: watch::Receiver<Option<u64>>,
        is_timed: bool,
    ) -> Self {
        let mut expected = None;
        while expected.is_none_or(|expected| self.changes < expected) {
            tokio::select! {
                // What can be taken is taken: asking for the end each time would be half of the work.
                biased;
                batch = watching.next_batch() => {
                    let batch = batch.expect("it goes on").expect("it is read");
                    for change in batch.iter() {
                        self.changes += 1;
                        self.numbers += change.event.seq.get();
                        if is_timed {
                            let way = SystemClock.now() - change.event.at;
                            let way = way.num_microseconds().unwrap_or(i64::MAX);
                            self.ways_us.push(u32::try_from(way.max(0)).unwrap_or(u32::MAX));
                        }
                    }
                }
                told = end.changed(), if expected.is_none() => {
                    told.expect("somebody tells");
                    expected = *end.borrow();
                }
            }
        }
        self
    }
}

impl Watched {
    /// How many changes there are for the n-th of them, and the sum of their numbers, as the tables say.
    async fn stored(&self, nth: u64) -> (u64, i64) {
        let mut connection = self.server.connection().await;
        let sql = "SELECT count(*), coalesce(sum(seq), 0)::bigint FROM events";
        let row = match self.wanted {
            Wanted::All | Wanted::Nothing => connection.fetch_one(sql).await,
            Wanted::OneJob => {
                let of = sqlx::query(
                    "SELECT count(*), coalesce(sum(seq), 0)::bigint FROM events WHERE request_id = $1",
                );
                connection.fetch_one(of.bind(workload::job(nth))).await
            }
        };
        let row = row.expect("it is counted");
        (row.get::<i64, _>(0).unsigned_abs(), row.get(1))
    }

    fn watchers(&self) -> u64 {
        if self.wanted == Wanted::Nothing {
            0
        } else {
            WATCHERS
        }
    }

    async fn seated(&self, persist: &Persist) -> (JoinSet<(u64, Seen)>, Vec<watch::Sender<Option<u64>>>) {
        let (mut all, mut ends) = (JoinSet::new(), Vec::new());
        for nth in 0..self.watchers() {
            let query = match self.wanted {
                Wanted::All | Wanted::Nothing => WatchQuery::default(),
                Wanted::OneJob => WatchQuery::default().job(workload::job(nth)),
            };
            let watching = persist.watch(query).await.expect("it can be watched");
            let (tell, end) = watch::channel(None);
            ends.push(tell);
            let is_timed = nth < TIMED || self.wanted == Wanted::OneJob;
            all.spawn(async move { (nth, Seen::default().all(watching, end, is_timed).await) });
        }
        (all, ends)
    }
}

#[async_trait]
impl Contender for Watched {
    fn name(&self) -> String {
        match self.wanted {
            Wanted::All => format!("persist, {WATCHERS} watch all"),
            Wanted::OneJob => format!("persist, {WATCHERS} watch a job each"),
            Wanted::Nothing => "persist, nobody watches".into(),
        }
    }

    fn callers(&self) -> u64 {
        self.callers
    }

    async fn slice(&mut self) -> Slice {
        self.server.fresh().await;
        let persist = self.server.persist().await;
        let (mut watchers, ends) = self.seated(&persist).await;
        let before = self.server.cpu();
        let (mut slice, repeated) = load(&persist, self.callers, self.length, Load::Uniform).await;
        cpu_of(&self.server, before, &mut slice);
        let written = Instant::now();
        self.server.check(slice.done - repeated).await;
        let mut stored = Vec::new();
        for nth in 0..self.watchers() {
            let of_one = match (self.wanted, stored.first()) {
                (Wanted::All, Some(same)) => *same,
                _ => self.stored(nth).await,
            };
            ends[nth as usize].send_replace(Some(of_one.0));
            stored.push(of_one);
        }
        let mut ways = Vec::new();
        let all = async {
            while let Some(seen) = watchers.join_next().await {
                let (nth, seen) = seen.expect("it watches on");
                let expected = stored[nth as usize];
                assert_eq!(
                    (seen.changes, seen.numbers),
                    expected,
                    "the {nth}th saw every change, once"
                );
                ways.extend(seen.ways_us);
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, all).await;
        in_time.unwrap_or_else(|_| panic!("not all was seen {:?} after it was written", written.elapsed()));
        persist.close().await.expect("it closes");
        if self.wanted == Wanted::Nothing {
            return slice;
        }
        let ways = Slice::of(ways, self.length);
        slice.extras.insert(WAY, f64::from(ways.quantile(0.99)) / 1_000.0);
        slice
    }
}
