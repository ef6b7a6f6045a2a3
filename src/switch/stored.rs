//! When an update was stored last.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Told at every update by every caller, so it takes no lock.
#[derive(Debug)]
pub(super) struct Stored {
    born: Instant,
    /// In microseconds since then, and one more; 0 is never.
    last_us: AtomicU64,
}

impl Stored {
    pub(super) fn never() -> Self {
        Self {
            born: Instant::now(),
            last_us: AtomicU64::new(0),
        }
    }

    pub(super) fn now(&self) {
        let since = u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX - 1);
        self.last_us.store(since + 1, Ordering::Relaxed);
    }

    /// How long ago it was, if ever.
    pub(super) fn ago(&self) -> Option<Duration> {
        let last = self.last_us.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.born.elapsed().saturating_sub(Duration::from_micros(last)))
    }

    /// From now on never; whether it was ever before.
    pub(super) fn forget(&self) -> bool {
        self.last_us.swap(0, Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_tells_how_long_ago_and_forgets() {
        let stored = Stored::never();
        assert!(stored.ago().is_none() && !stored.forget());
        stored.now();
        assert_eq!(stored.ago(), Some(Duration::ZERO));
        tokio::time::advance(Duration::from_millis(1_500)).await;
        assert_eq!(stored.ago(), Some(Duration::from_millis(1_500)));
        stored.now();
        assert_eq!(stored.ago(), Some(Duration::ZERO));
        assert!(stored.forget() && !stored.forget());
        assert!(stored.ago().is_none());
    }
}
