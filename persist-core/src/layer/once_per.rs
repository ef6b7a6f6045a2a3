//! One line of a log in an interval, with a count of those that it stands for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lets one through in each interval, and counts the others.
#[derive(Debug)]
pub struct OncePer {
    interval: Duration,
    /// When one was let through last, and how many were not since.
    last: Mutex<(Option<Instant>, u64)>,
}

impl OncePer {
    /// One in each interval; the first at once.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            last: Mutex::new((None, 0)),
        }
    }

    /// `Some` when it is time for one: how many were held back since the one before.
    pub fn pass(&self) -> Option<u64> {
        let now = Instant::now();
        let (last, held_back) = &mut *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now.saturating_duration_since(last) < self.interval) {
            *held_back += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_passes_in_each_interval_and_tells_of_the_others() {
        let line = OncePer::new(Duration::from_secs(60));
        let mut told = Vec::new();
        for _ in 0..180 {
            told.extend(line.pass());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(told, [0, 59, 59]);
    }
}
