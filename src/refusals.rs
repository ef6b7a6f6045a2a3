//! Keeps an account of what was refused, at a bounded rate.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use persist_core::layer::OncePer;
use persist_core::{Claim, Outcome, PersistBackend, Subject, Tried};
use tokio::time::Instant;

use crate::heal::BETWEEN_WARNINGS;

/// Whoever tries the same in vain again and again is written down once in this time, with all its tries.
const BETWEEN: Duration = Duration::from_secs(10);
/// Slots and states that are remembered; the oldest is forgotten first, with the tries that were not written down.
const REMEMBERED: usize = 1_024;

type Key = (Subject, i64, &'static str);

/// What was written down lately.
#[derive(Debug)]
pub(crate) struct Refusals {
    lately: Mutex<Lately>,
    line: OncePer,
}

#[derive(Debug, Default)]
struct Lately {
    /// When, and the tries since.
    kept: HashMap<Key, (Instant, u32)>,
    order: VecDeque<Key>,
}

impl Refusals {
    pub(crate) fn new() -> Self {
        Self {
            lately: Mutex::new(Lately::default()),
            line: OncePer::new(BETWEEN_WARNINGS),
        }
    }

    /// Keeps what a batch was refused. The answer to an update does not depend on it: what can't be kept is told in the log.
    pub(crate) async fn keep(&self, backend: &dyn PersistBackend, claims: &[Claim], outcomes: &[Outcome]) {
        let Some(ledger) = backend.ledger() else { return };
        let due = self
            .lately
            .lock()
            .due(&Tried::of(claims, outcomes), Instant::now());
        if due.is_empty() {
            return;
        }
        if let Err(error) = ledger.keep(&due).await
            && let Some(held_back) = self.line.pass()
        {
            let kind = error.kind().name();
            tracing::warn!(kind, %error, held_back, "a refusal could not be kept; the update was answered all the same");
        }
    }
}

impl Lately {
    /// Those to be written down now.
    fn due(&mut self, tried: &[Tried], now: Instant) -> Vec<Tried> {
        let mut due = Vec::new();
        for one in Tried::merged(tried) {
            let (subject, rank, state) = one.key();
            let key = (subject.clone(), rank, state);
            if let Some((kept, since)) = self.kept.get_mut(&key) {
                *since = since.saturating_add(one.tries);
                if now.saturating_duration_since(*kept) >= BETWEEN {
                    *kept = now;
                    due.push(one.tries(std::mem::take(since)));
                }
                continue;
            }
            self.kept.insert(key.clone(), (now, 0));
            self.order.push_back(key);
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.kept.remove(&oldest);
            }
            due.push(one);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JobState, JobUpdate, State, SystemClock};

    fn tried(n: u128) -> Tried {
        let update = JobUpdate::new(uuid::Uuid::from_u128(n), JobState::Failed);
        Tried::new(
            update.check(&SystemClock).unwrap(),
            State::Job(JobState::Succeeded),
        )
    }

    #[test]
    fn the_same_is_due_once_in_its_time_with_all_its_tries() {
        let (mut lately, begun) = (Lately::default(), Instant::now());
        let tries = |due: Vec<Tried>| due.iter().map(|one| one.tries).collect::<Vec<_>>();
        assert_eq!(tries(lately.due(&[tried(1), tried(1)], begun)), [2], "at once");
        let soon = begun + BETWEEN - Duration::from_nanos(1);
        assert_eq!(
            tries(lately.due(&[tried(1), tried(2)], soon)),
            [1],
            "another is due"
        );
        assert_eq!(tries(lately.due(&[tried(1)], soon)), [0; 0]);
        assert_eq!(
            tries(lately.due(&[tried(1)], begun + BETWEEN)),
            [3],
            "with those between"
        );
        assert_eq!(tries(lately.due(&[tried(1)], begun + BETWEEN)), [0; 0]);
        assert_eq!(tries(lately.due(&[tried(1)], begun + BETWEEN * 2)), [2]);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes_first() {
        let (mut lately, now) = (Lately::default(), Instant::now());
        for n in 1..=(REMEMBERED as u128 + 1) {
            assert_eq!(lately.due(&[tried(n)], now).len(), 1);
        }
        assert_eq!((lately.kept.len(), lately.order.len()), (REMEMBERED, REMEMBERED));
        assert_eq!(lately.due(&[tried(2)], now), [], "it is still remembered");
        assert_eq!(lately.due(&[tried(1)], now).len(), 1, "it was forgotten");
    }
}
