//! How long calls took, in memory that grows neither with their number nor with that of the callers.

use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// A histogram of one caller's own would be 12 GB for 65,536 of them, one for all a lock that all threads want. Only
/// callers on different threads can meet at a lock, which is held for some 20 ns of a call: a few are enough.
const SHARES: usize = 16;
/// Far above the deadlines of a call; what is above counts as this.
const LONGEST_US: u64 = 3_600_000_000;
/// 184 KiB a histogram, and no value off by more than a thousandth.
const DIGITS: u8 = 3;

/// The latencies of a kind of call, by shares of the callers.
#[derive(Debug)]
pub(crate) struct Latencies(Vec<Mutex<Histogram<u64>>>);

impl Latencies {
    pub(crate) fn new() -> Self {
        Self((0..SHARES).map(|_| Mutex::new(empty())).collect())
    }

    pub(crate) fn record(&self, caller: u64, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let share = (caller % SHARES as u64) as usize;
        self.0[share].lock().saturating_record(us);
    }

    /// Those of all callers, in microseconds.
    pub(crate) fn of_all(&self) -> Histogram<u64> {
        let mut all = empty();
        for share in &self.0 {
            all.add(&*share.lock()).expect("has the same bounds");
        }
        all
    }
}

/// A histogram of microseconds.
fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, DIGITS).expect("the bounds are in order")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All numbers to a million, once each, by more callers than there are shares.
    #[test]
    fn quantiles_of_all_callers_are_right_to_a_thousandth() {
        let latencies = Latencies::new();
        for us in 1..=1_000_000 {
            latencies.record(us % 65_536, Duration::from_micros(us));
        }
        let all = latencies.of_all();
        assert_eq!(all.len(), 1_000_000);
        for share in [0.5, 0.9, 0.99, 0.999, 1.0] {
            let (told, is) = (all.value_at_quantile(share) as f64, share * 1e6);
            assert!((told / is - 1.0).abs() <= 0.001, "{share}: {told}");
        }
    }

    #[test]
    fn memory_is_the_same_for_any_number_and_any_time() {
        let latencies = Latencies::new();
        let cells = || -> usize {
            latencies
                .0
                .iter()
                .map(|share| share.lock().distinct_values())
                .sum()
        };
        let at_first = cells();
        for caller in 0..100_000 {
            latencies.record(caller, Duration::from_micros(caller * caller));
        }
        latencies.record(7, Duration::MAX);
        latencies.record(7, Duration::ZERO);
        assert_eq!(cells(), at_first);
        let all = latencies.of_all();
        assert_eq!(all.len(), 100_002, "none is left out");
        assert!(all.max() >= LONGEST_US && all.min() == 0);
    }
}
