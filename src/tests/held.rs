//! An outbox in memory that fails on demand, and a facade over it: a file would not go by a paused clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use super::flaky::{Opener, connector, queued};
use crate::builder::spooled;
use crate::spool::{Behaviour, Spooling};
use crate::*;

/// What each update takes of the room.
pub(super) const BYTES: u64 = 100;

#[derive(Debug, Default)]
pub(super) struct HeldOutbox {
    state: Mutex<State>,
    /// What writing meets.
    pub(super) failure: Mutex<Option<ErrorKind>>,
    /// Whether somebody puts in one more each time it is looked into.
    pub(super) is_fed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Entry>,
    dead: Vec<Entry>,
    last: u64,
    bound_to: Option<Uuid>,
    max_bytes: Option<u64>,
}

impl HeldOutbox {
    pub(super) fn bounded(max_bytes: u64) -> Arc<Self> {
        let outbox = Self::default();
        outbox.state.lock().max_bytes = Some(max_bytes);
        Arc::new(outbox)
    }

    fn answer(&self) -> Result<()> {
        match *self.failure.lock() {
            Some(kind) => Err(Error::new(kind, "the spool was made to fail")),
            None => Ok(()),
        }
    }

    /// Puts in what no persist of today would.
    pub(super) fn put(&self, line: &str) {
        let mut state = self.state.lock();
        state.last += 1;
        let entry = Entry::new(state.last, line.to_owned(), SystemClock.now());
        state.waiting.push(entry);
    }

    pub(super) fn errors(&self) -> Vec<(u32, Option<String>)> {
        let state = self.state.lock();
        let told = |entry: &Entry| (entry.attempts, entry.last_error.clone());
        state.waiting.iter().chain(&state.dead).map(told).collect()
    }
}

#[async_trait]
impl Outbox for HeldOutbox {
    async fn push(&self, claims: &[Claim], now: Timestamp) -> Result<()> {
        self.answer()?;
        let mut state = self.state.lock();
        let after = (state.waiting.len() + state.dead.len() + claims.len()) as u64 * BYTES;
        if state.max_bytes.is_some_and(|max| after > max) {
            return Err(Error::new(ErrorKind::Full, "the spool is full"));
        }
        for claim in claims {
            state.last += 1;
            let entry = Entry::new(state.last, jsonl::claim_line(claim), now);
            state.waiting.push(entry);
        }
        Ok(())
    }
    async fn waiting(&self, after: u64, limit: u32) -> Result<Vec<Entry>> {
        if self.is_fed.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let claim = queued(0xfed).check(&SystemClock)?;
            self.put(&jsonl::claim_line(&claim));
        }
        let state = self.state.lock();
        let behind = state.waiting.iter().filter(|entry| entry.seq > after);
        Ok(behind.take(limit as usize).cloned().collect())
    }
    async fn dead(&self, _: u64, _: u32) -> Result<Vec<Entry>> {
        Ok(self.state.lock().dead.clone())
    }
    async fn done(&self, entries: &[u64]) -> Result<()> {
        self.answer()?;
        self.state
            .lock()
            .waiting
            .retain(|entry| !entries.contains(&entry.seq));
        Ok(())
    }
    async fn failed(&self, entries: &[u64], error: &Error) -> Result<()> {
        for entry in &mut self.state.lock().waiting {
            if entries.contains(&entry.seq) {
                entry.attempts += 1;
                entry.last_error = Some(error.to_string());
            }
        }
        Ok(())
    }
    async fn bury(&self, seq: u64, error: &Error) -> Result<()> {
        let mut state = self.state.lock();
        let died: Vec<_> = state.waiting.extract_if(.., |entry| entry.seq == seq).collect();
        state.dead.extend(died.into_iter().map(|mut entry| {
            entry.last_error = Some(error.to_string());
            entry
        }));
        Ok(())
    }
    async fn discard_dead(&self) -> Result<u64> {
        Ok(self.state.lock().dead.drain(..).count() as u64)
    }
    async fn bind(&self, store: Uuid) -> Result<()> {
        let mut state = self.state.lock();
        match state.bound_to {
            Some(bound) if bound != store && !state.waiting.is_empty() => {
                Err(Error::new(ErrorKind::Unavailable, "another database answers")
                    .with("bound_to", bound)
                    .with("instance_id", store))
            }
            _ => {
                state.bound_to = Some(store);
                Ok(())
            }
        }
    }
    fn status(&self) -> OutboxStatus {
        let state = self.state.lock();
        let mut status = OutboxStatus::default();
        (status.waiting, status.dead) = (state.waiting.len() as u64, state.dead.len() as u64);
        status.bytes = (status.waiting + status.dead) * BYTES;
        status.oldest = state.waiting.first().map(|entry| entry.created_at);
        (status.max_bytes, status.bound_to) = (state.max_bytes, state.bound_to);
        status
    }
    async fn close(&self) {}
}

/// Goes with the runtime's clock, which the tests pause.
#[derive(Debug)]
struct Ticking {
    begun: Instant,
    at: Timestamp,
}

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        self.at + self.begun.elapsed()
    }
}

/// A facade over this driver and this outbox, which tells after a minute that something waits for too long.
pub(super) async fn spool(open: Opener, outbox: &Arc<HeldOutbox>, when_full: WhenFull) -> Result<Persist> {
    let behaviour = Behaviour {
        max_age: Duration::from_secs(60),
        when_full,
        patience: Duration::from_secs(10),
    };
    let clock: Arc<dyn Clock> = Arc::new(Ticking {
        begun: Instant::now(),
        at: SystemClock.now(),
    });
    let held = Arc::clone(outbox) as Arc<dyn Outbox>;
    let spooling = Spooling::new(held, behaviour, Arc::clone(&clock));
    let switch = spooled(
        connector(open),
        spooling,
        &Deadlines::default(),
        Arc::clone(&clock),
    )
    .await?;
    Ok(Persist::over(
        switch,
        clock,
        Some("tester".to_owned()),
        Duration::from_secs(1),
        Pace::LONGEST,
    ))
}
