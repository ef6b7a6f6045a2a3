//! The callers of a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use persist::{Error, Persist, SystemClock};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::latencies::Latencies;
use super::life::{Jobs, Life};
use super::range::Range;
use super::{Mix, acknowledged};
use crate::signals::Stop;
use crate::talk;

/// A caller whose calls fail one after the other gives up.
const MOST_FAILURES: u32 = 10;

pub(crate) struct Load {
    pub(crate) callers: u32,
    pub(crate) length: Duration,
    pub(crate) hot: Option<u32>,
    pub(crate) mix: Mix,
    pub(crate) read_share: f64,
    pub(crate) outcomes: bool,
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Latencies of updates, and of reads, after the warm-up: µs.
    pub(crate) updates: Histogram<u64>,
    pub(crate) reads: Histogram<u64>,
    /// From the end of the warm-up to the last answer.
    pub(crate) took: Duration,
    /// Of the whole run.
    pub(crate) tally: Tally,
}

/// What calls came to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Updates that are stored.
    pub(crate) acknowledged: u64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<Error>,
}

/// What all callers of a run share.
struct Shared {
    persist: Persist,
    jobs: Jobs,
    is_over: AtomicBool,
    measures_from: Instant,
    updates: Latencies,
    reads: Latencies,
    read_share: f64,
    /// Where each acknowledged update is told, if it is.
    told: Option<mpsc::Sender<String>>,
}

impl Load {
    pub(crate) async fn run(
        &self,
        persist: &Persist,
        range: Range,
        told: mpsc::Sender<String>,
        mut stop: Stop,
    ) -> Measured {
        let warm_up = (self.length / 5).min(Duration::from_secs(1));
        let shared = Arc::new(Shared {
            persist: persist.clone(),
            jobs: Jobs::new(range, self.mix, self.hot.unwrap_or(0)),
            is_over: AtomicBool::new(false),
            measures_from: Instant::now() + warm_up,
            updates: Latencies::new(),
            reads: Latencies::new(),
            read_share: self.read_share,
            told: self.outcomes.then_some(told),
        });
        let mut callers = JoinSet::new();
        for number in 0..self.callers {
            callers.spawn(caller(Arc::clone(&shared), u64::from(number)));
        }
        let bar = talk::spinner("measuring");
        let mut tally = Tally::default();
        tokio::select! {
            () = tokio::time::sleep(warm_up + self.length) => {}
            _ = stop.wait_for(Option::is_some) => {}
            () = shared.nobody_reads() => {}
            // All of them gave up.
            () = tally.of_all(&mut callers) => {}
        }
        shared.is_over.store(true, Ordering::Relaxed);
        tally.of_all(&mut callers).await;
        let took = shared.measures_from.elapsed();
        bar.finish_and_clear();
        Measured {
            updates: shared.updates.of_all(),
            reads: shared.reads.of_all(),
            took,
            tally,
        }
    }
}

impl Shared {
    /// Ends when what is told is printed no more.
    async fn nobody_reads(&self) {
        match &self.told {
            Some(told) => told.closed().await,
            None => std::future::pending().await,
        }
    }
}

impl Tally {
    /// Adds what callers came to, until there is none left. Cancel-safe: it goes on where it was.
    async fn of_all(&mut self, callers: &mut JoinSet<Self>) {
        while let Some(joined) = callers.join_next().await {
            match joined {
                Ok(one) => self.add(one),
                Err(_) => self.errors += 1,
            }
        }
    }

    fn add(&mut self, one: Self) {
        self.acknowledged += one.acknowledged;
        self.errors += one.errors;
        self.first_error = self.first_error.take().or(one.first_error);
    }
}

async fn caller(shared: Arc<Shared>, number: u64) -> Tally {
    let mut mine = Tally::default();
    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut life = Life::default();
    let mut failures = 0;
    while !shared.is_over.load(Ordering::Relaxed) && failures < MOST_FAILURES {
        random = xorshift(random);
        let is_read = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let is_read = is_read < shared.read_share;
        let mut line = None;
        let begun = Instant::now();
        let result = if is_read {
            shared
                .persist
                .job(life.job(&shared.jobs, xorshift(random)))
                .await
                .map(|_| ())
        } else {
            let update = life.next(&shared.jobs, xorshift(random));
            if shared.told.is_some() {
                line = update
                    .clone()
                    .check(&SystemClock)
                    .ok()
                    .map(|claim| acknowledged::line(&claim));
            }
            shared.persist.record(vec![update]).await.map(|_| ())
        };
        let took = begun.elapsed();
        match result {
            Ok(()) => failures = 0,
            Err(error) => {
                failures += 1;
                mine.errors += 1;
                mine.first_error.get_or_insert(error);
                continue;
            }
        }
        mine.acknowledged += u64::from(!is_read);
        if begun >= shared.measures_from {
            let latencies = if is_read { &shared.reads } else { &shared.updates };
            latencies.record(number, took);
        }
        if let (Some(told), Some(line)) = (&shared.told, line)
            && told.send(line).await.is_err()
        {
            // Nobody reads any more.
            break;
        }
    }
    mine
}

fn xorshift(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ (state << 17)
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn a_run_whose_callers_have_all_given_up_is_over() {
        let persist = Persist::new(Some("memory:".into())).await.unwrap();
        persist.close().await.unwrap();
        let load = Load {
            callers: 3,
            length: Duration::from_secs(3_600),
            hot: None,
            mix: Mix::Jobs,
            read_share: 0.0,
            outcomes: false,
        };
        let (_nobody, stop) = watch::channel(None);
        let (told, _nothing) = mpsc::channel(1);
        let run = load.run(&persist, Range::new(0), told, stop);
        let measured = tokio::time::timeout(Duration::from_secs(20), run).await;
        let tally = measured.expect("it does not sit out its hour").tally;
        assert_eq!(
            (tally.acknowledged, tally.errors),
            (0, 3 * u64::from(MOST_FAILURES))
        );
    }
}
