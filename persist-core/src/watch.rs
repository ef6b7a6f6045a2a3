//! A watcher of its own over one backend, and how often any watcher looks.

use std::collections::VecDeque;
use std::time::Duration;

use futures_core::Stream;
use futures_util::stream;
use tokio::time::timeout;

use crate::backend::PersistBackend;
use crate::changes::{Change, ChangeQuery, Changes};
use crate::cursor::Cursor;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::OncePer;
use crate::limits;

/// What comes within this time of a hint is read with it, where the look before found nothing.
const DEBOUNCE: Duration = Duration::from_millis(5);
/// Changes of an answer: some 50 kB. Of larger ones that came over TCP from a server on the same machine, busy with other work,
/// one in a hundred stood still for 48 ms: they do not fit the window that the kernel begins with, and wait for a delayed
/// acknowledgement (Linux 6.18, 2026-11-28; not over a Unix socket).
const USUAL: u32 = 256;
/// After so many answers in a row that left some, the next ones are as large as they may be: who is far behind, or far away, comes
/// nearer by larger steps.
const BEHIND: u32 = 8;
/// One line of a store that does not answer in this time.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// How long a watcher waits between two looks, longer each time as long as nothing comes, and how much it asks for.
///
/// A hint makes a wait shorter: to 5 ms where nothing had come just before, so that what comes alone is told at once, and to
/// [`SHORTEST`](Self::SHORTEST) where something had, as a hundred who are woken 50 times a second instead of 200 leave more of
/// a busy machine to those who write (docs/BENCHMARKS.md).
#[derive(Debug, Clone)]
pub struct Pace {
    longest: Duration,
    next: Duration,
    is_busy: bool,
    /// Answers in a row that left some.
    left: u32,
}

impl Pace {
    /// After something came.
    pub const SHORTEST: Duration = Duration::from_millis(20);
    /// Unless another time is set.
    pub const LONGEST: Duration = Duration::from_secs(1);

    /// No longer than this; no shorter than [`SHORTEST`](Self::SHORTEST) for that.
    pub fn new(longest: Duration) -> Self {
        let longest = longest.max(Self::SHORTEST);
        Self {
            longest,
            next: Self::SHORTEST,
            is_busy: false,
            left: 0,
        }
    }

    /// Most changes of the next answer: 256, or 1,000 after eight in a row that left some.
    pub fn most(&self) -> u32 {
        if self.left < BEHIND {
            USUAL
        } else {
            limits::LARGEST_PAGE
        }
    }

    /// An answer came; whether it left some.
    pub fn answered(&mut self, more: bool) {
        self.left = if more { self.left.saturating_add(1) } else { 0 };
    }

    /// Something came: the next one comes soon.
    pub fn reset(&mut self) {
        self.next = Self::SHORTEST;
        self.is_busy = true;
    }

    /// The next wait.
    pub fn step(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        wait
    }

    /// Waits for the time, or for the store's [`hint`](Changes::hint) and whatever comes with it. Cancel-safe.
    pub async fn wait(&mut self, changes: &dyn Changes) {
        let debounce = if std::mem::take(&mut self.is_busy) {
            Self::SHORTEST
        } else {
            DEBOUNCE
        };
        let wait = self.step();
        if timeout(wait, changes.hint()).await.is_ok() {
            // What was committed just now is seen once older transactions have ended: soon.
            self.next = Self::SHORTEST;
            tokio::time::sleep(debounce).await;
        }
    }
}

impl Default for Pace {
    /// Up to [`LONGEST`](Self::LONGEST).
    fn default() -> Self {
        Self::new(Self::LONGEST)
    }
}

struct Watch<'b, B: ?Sized> {
    backend: &'b B,
    query: ChangeQuery,
    ready: VecDeque<Change>,
    pace: Pace,
    line: OncePer,
    /// Whether all that was to be had was read.
    is_idle: bool,
    is_over: bool,
}

/// See [`PersistExt::watch`](crate::PersistExt::watch).
pub(crate) fn stream<B: PersistBackend + ?Sized>(
    backend: &B,
    from: Option<Cursor>,
) -> impl Stream<Item = Result<Change>> + Send {
    let watch = Watch {
        backend,
        query: ChangeQuery::default().after(from),
        ready: VecDeque::new(),
        pace: Pace::default(),
        line: OncePer::new(BETWEEN_LINES),
        is_idle: false,
        is_over: false,
    };
    stream::unfold(watch, |mut watch| async move {
        if watch.is_over {
            return None;
        }
        let next = watch.next().await;
        watch.is_over = next.is_err();
        Some((next, watch))
    })
}

impl<B: PersistBackend + ?Sized> Watch<'_, B> {
    async fn next(&mut self) -> Result<Change> {
        let changes = self.backend.changes().ok_or_else(unwatched)?;
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            if self.is_idle {
                self.pace.wait(changes).await;
            }
            self.is_idle = true;
            self.query.limit = self.pace.most();
            match changes.since(&self.query).await {
                Ok(changed) => {
                    if !changed.changes.is_empty() {
                        self.pace.reset();
                    }
                    self.pace.answered(changed.more);
                    self.is_idle = !changed.more;
                    self.query.after = Some(changed.next.cursor());
                    self.ready = changed.changes.into();
                }
                Err(error) if error.is_retryable() => {
                    if let Some(held_back) = self.line.pass() {
                        let kind = error.kind().name();
                        tracing::warn!(kind, %error, held_back, "the store does not answer who watches; trying again");
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn unwatched() -> Error {
    Error::new(ErrorKind::Unsupported, "this store can't be watched").during("watch")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_slows_down_to_its_longest_and_starts_anew() {
        let mut pace = Pace::new(Duration::from_millis(100));
        let waits: Vec<_> = (0..5).map(|_| pace.step().as_millis()).collect();
        assert_eq!(waits, [20, 40, 80, 100, 100]);
        pace.reset();
        assert_eq!(pace.step(), Pace::SHORTEST);
        let mut busy = Pace::new(Duration::ZERO);
        assert_eq!((busy.step(), busy.step()), (Pace::SHORTEST, Pace::SHORTEST));
    }

    #[test]
    fn who_is_far_behind_asks_for_more() {
        let mut pace = Pace::default();
        for _ in 0..BEHIND {
            assert_eq!(pace.most(), USUAL);
            pace.answered(true);
        }
        assert_eq!(pace.most(), limits::LARGEST_PAGE);
        pace.answered(false);
        assert_eq!(pace.most(), USUAL);
    }

    /// What changes all the time.
    #[derive(Debug)]
    struct Ringing;

    #[async_trait::async_trait]
    impl Changes for Ringing {
        async fn now(&self) -> Result<crate::ChangePosition> {
            unreachable!("only the pace is asked for")
        }

        async fn since(&self, _: &ChangeQuery) -> Result<crate::Changed> {
            unreachable!("only the pace is asked for")
        }

        async fn hint(&self) {}
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_alone_is_told_at_once_and_the_rest_together() {
        let mut pace = Pace::default();
        let mut waited = async |something_came: bool| {
            if something_came {
                pace.reset();
            }
            let before = tokio::time::Instant::now();
            pace.wait(&Ringing).await;
            before.elapsed()
        };
        assert_eq!(waited(false).await, DEBOUNCE);
        assert_eq!(waited(true).await, Pace::SHORTEST);
        assert_eq!(waited(true).await, Pace::SHORTEST);
        // Hints of what can't be seen yet, or was seen before.
        assert_eq!(waited(false).await, DEBOUNCE);
        assert_eq!(waited(false).await, DEBOUNCE);
    }
}
