//! The hint to those who watch in the process that writes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// Rings after each commit, for those who watch in this process. For backends: [`Changes::hint`](crate::Changes::hint).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (writer, watcher) = { let bell = persist_core::Bell::default(); (bell.another(), bell) };
/// writer.ring();
/// watcher.rung().await;
/// # }
/// ```
pub struct Bell {
    rung: Arc<watch::Sender<u64>>,
    /// What of it was heard by whoever has this one.
    heard: AtomicU64,
}

impl Bell {
    /// The same bell, with ears of its own: for one more handle onto a store.
    #[must_use]
    pub fn another(&self) -> Self {
        Self {
            rung: Arc::clone(&self.rung),
            heard: AtomicU64::new(*self.rung.borrow()),
        }
    }

    /// Rings. Waits for nobody.
    pub fn ring(&self) {
        self.rung.send_modify(|times| *times = times.wrapping_add(1));
    }

    /// Waits until it was rung since the last call of this. Cancel-safe; of several who wait at once all hear it.
    pub async fn rung(&self) {
        let before = self.heard.load(Ordering::Acquire);
        let mut ears = self.rung.subscribe();
        // An error would mean that the sender went, which this holds.
        if let Ok(times) = ears.wait_for(|times| *times != before).await {
            self.heard.store(*times, Ordering::Release);
        }
    }
}

impl Default for Bell {
    fn default() -> Self {
        Self {
            rung: Arc::new(watch::Sender::new(0)),
            heard: AtomicU64::new(0),
        }
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell")
            .field("rung", &*self.rung.borrow())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn what_rang_between_two_calls_is_heard_once_by_each() {
        let bell = Bell::default();
        let other = bell.another();
        assert!(bell.rung().now_or_never().is_none(), "nobody has rung");
        {
            let (mut one, mut two) = (pin!(bell.rung()), pin!(bell.rung()));
            assert!(one.as_mut().now_or_never().is_none() && two.as_mut().now_or_never().is_none());
            other.ring();
            assert!(one.now_or_never().is_some() && two.now_or_never().is_some());
        }
        assert!(bell.rung().now_or_never().is_none(), "that was heard");
        other.ring();
        other.ring();
        for ears in [&bell, &other] {
            assert!(ears.rung().now_or_never().is_some());
            assert!(ears.rung().now_or_never().is_none());
        }
    }
}
