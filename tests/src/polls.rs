//! Futures that are dropped while they wait.

use std::pin::pin;
use std::task::Poll;

/// Polls a call so many times, then drops it: its answer, if it had ended before.
pub async fn ended_within<T>(polls: u32, call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        call.as_mut().poll(context).map(Some)
    })
    .await
}
