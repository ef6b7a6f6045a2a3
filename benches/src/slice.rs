//! A closed loop of so many callers for so long.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

/// What a slice gave.
#[derive(Debug, Clone, Default)]
pub struct Slice {
    /// Operations that were answered.
    pub done: u64,
    /// From the first to the last answer.
    pub took: Duration,
    /// µs, in order; empty where a rival does not tell them one by one.
    pub latencies_us: Vec<u32>,
    /// Mean latency, µs.
    pub mean_us: f64,
    /// What else a contender tells, by name.
    pub extras: BTreeMap<&'static str, f64>,
}

impl Slice {
    /// Of operations that took so many µs each, in any order.
    pub(crate) fn of(mut latencies_us: Vec<u32>, took: Duration) -> Self {
        latencies_us.sort_unstable();
        let sum: f64 = latencies_us.iter().map(|us| f64::from(*us)).sum();
        Self {
            done: latencies_us.len() as u64,
            took,
            mean_us: sum / latencies_us.len().max(1) as f64,
            latencies_us,
            extras: BTreeMap::new(),
        }
    }

    /// Operations a second.
    pub fn rate(&self) -> f64 {
        self.done as f64 / self.took.as_secs_f64().max(f64::EPSILON)
    }

    /// The latency that this share of all operations is not above, µs.
    pub fn quantile(&self, share: f64) -> u32 {
        let rank = (self.latencies_us.len() as f64 * share).ceil() as usize;
        self.latencies_us
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or(0)
    }
}

/// Each caller does one operation after the other until the time is up. `operation` is given the caller and how
/// many it has done.
///
/// # Panics
/// If an operation does.
pub async fn closed_loop<F, Fut>(callers: u64, length: Duration, operation: F) -> Slice
where
    F: Fn(u64, u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send,
{
    let (operation, is_over) = (Arc::new(operation), Arc::new(AtomicBool::new(false)));
    let begun = Instant::now();
    let mut all = JoinSet::new();
    for caller in 0..callers {
        let (operation, is_over) = (Arc::clone(&operation), Arc::clone(&is_over));
        all.spawn(async move {
            let mut latencies = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let asked = Instant::now();
                operation(caller, latencies.len() as u64).await;
                latencies.push(u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX));
            }
            latencies
        });
    }
    tokio::time::sleep(length).await;
    is_over.store(true, Ordering::Relaxed);
    let latencies = all.join_all().await.concat();
    Slice::of(latencies, begun.elapsed())
}
