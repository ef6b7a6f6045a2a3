//! Keeps an account of what was refused, beside the updates and at a bounded rate.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Weak;
use std::time::Duration;

use parking_lot::Mutex;
use persist_core::layer::OncePer;
use persist_core::{CHUNK, Claim, Error, ErrorKind, Outcome, PersistBackend, Result, Subject, Tried};
use tokio::time::timeout;

use crate::heal::BETWEEN_WARNINGS;
use crate::switch::Switch;

/// Between two writes: whoever tries the same in vain again and again costs one write in this time, with all the tries.
const BETWEEN: Duration = Duration::from_secs(1);
/// Before it is tried again where it failed.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// The same where it takes a person: the schema lacks the table, or the role a right.
const AFTER_REFUSAL: Duration = Duration::from_secs(60);
/// How long closing waits for it.
const AT_CLOSE: Duration = Duration::from_secs(2);
/// Slots and states that wait to be kept; what comes beyond is counted and not kept.
const WAITING: usize = 8_192;

type Key = (Subject, i64, &'static str);

/// What waits to be kept. Nobody waits for it: the answer to an update does not depend on it.
#[derive(Debug)]
pub(crate) struct Refusals {
    waiting: Mutex<Waiting>,
    /// One write at a time, and closing waits for it.
    writing: tokio::sync::Mutex<()>,
    line: OncePer,
}

#[derive(Debug, Default)]
struct Waiting {
    tried: BTreeMap<Key, Tried>,
    /// How many are being written.
    out: usize,
    /// Came beyond what may wait.
    lost: u64,
    /// Whether a task is at work.
    at_work: bool,
}

impl Refusals {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            line: OncePer::new(BETWEEN_WARNINGS),
        }
    }

    /// Notes what of a batch was refused, and sees to it that it is kept.
    pub(crate) fn note(&self, switch: &Weak<Switch>, claims: &[Claim], outcomes: &[Outcome]) {
        let tried = Tried::of(claims, outcomes);
        if tried.is_empty() {
            return;
        }
        let mut waiting = self.waiting.lock();
        waiting.add(tried);
        if !std::mem::replace(&mut waiting.at_work, true) {
            tokio::spawn(work(Weak::clone(switch)));
        }
    }

    /// Keeps all that waits now; what comes meanwhile waits for the next time.
    pub(crate) async fn flush(&self, backend: &dyn PersistBackend) -> Result<()> {
        let Some(ledger) = backend.ledger() else {
            self.waiting.lock().tried.clear();
            return Ok(());
        };
        let _writing = self.writing.lock().await;
        let mut out = Out::of(&self.waiting);
        while !out.tried.is_empty() {
            let some = out.tried.len().min(CHUNK);
            ledger.keep(&out.tried[..some]).await?;
            out.is_kept(some);
        }
        Ok(())
    }

    /// What was not kept for want of room, since it was told last.
    fn tell_lost(&self) {
        let mut waiting = self.waiting.lock();
        if waiting.lost > 0
            && let Some(held_back) = self.line.pass()
        {
            let lost = std::mem::take(&mut waiting.lost);
            tracing::warn!(
                lost,
                held_back,
                "more was refused at once than can wait to be kept"
            );
        }
    }

    pub(crate) fn tell(&self, error: &Error, what: &str) {
        let (waiting, lost) = {
            let waiting = self.waiting.lock();
            (waiting.len(), waiting.lost)
        };
        if let Some(held_back) = self.line.pass() {
            let kind = error.kind().name();
            tracing::warn!(kind, %error, waiting, lost, held_back, "{what}");
        }
    }

    /// Whether the task may end, as nothing waits; what comes from now on begins one anew.
    fn rests(&self) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.at_work = !waiting.tried.is_empty();
        !waiting.at_work
    }

    /// The last time before the driver is closed, and no longer than closing can wait for it.
    pub(crate) async fn end(&self, backend: &dyn PersistBackend) {
        match timeout(AT_CLOSE, self.flush(backend)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.tell(&error, "refusals could not be kept before closing"),
            Err(_) => {
                let error = Error::deadline("keep", AT_CLOSE);
                self.tell(&error, "refusals could not be kept before closing");
            }
        }
    }

    /// What waits when all is closed is kept by nobody.
    pub(crate) fn tell_left(&self) {
        let waiting = self.waiting.lock();
        let (waiting, lost) = (waiting.len(), waiting.lost);
        if waiting > 0 || lost > 0 {
            tracing::warn!(
                waiting,
                lost,
                "refusals were not kept: the handle was closed before"
            );
        }
    }
}

/// What is being written. It waits again where that fails, or has no end in the time that closing has.
struct Out<'r> {
    waiting: &'r Mutex<Waiting>,
    tried: Vec<Tried>,
}

impl<'r> Out<'r> {
    /// All that waits, in the order of keys.
    fn of(waiting: &'r Mutex<Waiting>) -> Self {
        let mut held = waiting.lock();
        let tried: Vec<_> = std::mem::take(&mut held.tried).into_values().collect();
        held.out = tried.len();
        drop(held);
        Self { waiting, tried }
    }

    /// The first so many.
    fn is_kept(&mut self, some: usize) {
        self.tried.drain(..some);
        self.waiting.lock().out = self.tried.len();
    }
}

impl Drop for Out<'_> {
    fn drop(&mut self) {
        if self.tried.is_empty() {
            return;
        }
        let mut waiting = self.waiting.lock();
        waiting.out = 0;
        // What came first is what is kept.
        let newer = std::mem::take(&mut waiting.tried);
        waiting.add(std::mem::take(&mut self.tried));
        waiting.add(newer.into_values().collect());
    }
}

impl Waiting {
    fn len(&self) -> usize {
        self.tried.len() + self.out
    }

    fn add(&mut self, tried: Vec<Tried>) {
        for one in tried {
            let is_full = self.len() >= WAITING;
            let (subject, rank, state) = one.key();
            match self.tried.entry((subject.clone(), rank, state)) {
                Entry::Occupied(mut held) => {
                    let held = held.get_mut();
                    held.tries = held.tries.saturating_add(one.tries);
                    held.standing = one.standing;
                }
                Entry::Vacant(_) if is_full => self.lost += u64::from(one.tries),
                Entry::Vacant(free) => {
                    free.insert(one);
                }
            }
        }
    }
}

/// A task that went with its runtime, or panicked, is at work no more. One that has come to its end has said so, and another may
/// be at work since.
struct AtWork {
    switch: Weak<Switch>,
    has_ended: bool,
}

impl Drop for AtWork {
    fn drop(&mut self) {
        if let Some(switch) = self.switch.upgrade().filter(|_| !self.has_ended) {
            switch.refusals.waiting.lock().at_work = false;
        }
    }
}

/// Writes down what waits, until nothing does. Holds no handle while it rests.
async fn work(switch: Weak<Switch>) {
    let mut at_work = AtWork {
        switch: Weak::clone(&switch),
        has_ended: false,
    };
    loop {
        let Some(held) = switch.upgrade() else { return };
        let kept = held.keep_refusals().await;
        let pause = match &kept {
            Ok(()) => {
                held.refusals.tell_lost();
                BETWEEN
            }
            Err(error) => {
                let refused = [ErrorKind::SchemaMismatch, ErrorKind::Auth, ErrorKind::Unsupported];
                let takes_a_person = refused.contains(&error.kind());
                if takes_a_person {
                    AFTER_REFUSAL
                } else {
                    AFTER_FAILURE
                }
            }
        };
        drop(held);
        tokio::time::sleep(pause).await;
        let Some(held) = switch.upgrade() else { return };
        at_work.has_ended = held.refusals.rests();
        if at_work.has_ended || held.is_closed() {
            return;
        }
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

    fn tries(refusals: &Refusals) -> Vec<u32> {
        let waiting = refusals.waiting.lock();
        waiting.tried.values().map(|one| one.tries).collect()
    }

    #[test]
    fn the_same_waits_once_with_all_its_tries() {
        let refusals = Refusals::new();
        let add = |tried| refusals.waiting.lock().add(tried);
        add(vec![tried(2), tried(1), tried(2).tries(3)]);
        add(vec![tried(2)]);
        assert_eq!(tries(&refusals), [1, 5], "in the order of keys");
    }

    #[test]
    fn what_was_being_written_waits_again_where_that_came_to_nothing() {
        let refusals = Refusals::new();
        refusals.waiting.lock().add(vec![tried(1), tried(2)]);
        let out = Out::of(&refusals.waiting);
        assert_eq!((tries(&refusals), refusals.waiting.lock().len()), (vec![], 2));
        let mut later = tried(1);
        later.standing = State::Job(JobState::Lost);
        refusals.waiting.lock().add(vec![later]);
        drop(out);
        assert_eq!(tries(&refusals), [2, 1]);
        let waiting = refusals.waiting.lock();
        let first = waiting.tried.values().next().unwrap();
        assert_eq!(first.standing.name(), "lost", "what stands is what stood last");
        assert_eq!(waiting.len(), 2);
    }

    #[test]
    fn memory_is_bounded_and_what_is_beyond_is_counted() {
        let refusals = Refusals::new();
        let add = |tried| refusals.waiting.lock().add(tried);
        add((1..=WAITING as u128).map(tried).collect());
        add(vec![tried(1), tried(u128::MAX).tries(7)]);
        let all = tries(&refusals);
        assert_eq!((all.len(), refusals.waiting.lock().lost), (WAITING, 7));
        assert_eq!(all[0], 2, "what waits is counted on");
    }
}
