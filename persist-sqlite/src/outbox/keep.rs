//! What a flush of the outbox does, and how much is held.

use std::sync::Arc;

use parking_lot::Mutex;
use persist_core::{Error, ErrorKind, OutboxStatus, Result, Timestamp};
use rusqlite::Connection;

use super::lock::Lock;
use super::table::{self, Change, OVERHEAD};
use crate::error::Failed;
use crate::flush::Work;

/// How much is held, and how much was promised room.
#[derive(Debug)]
pub(super) struct Held {
    state: Mutex<State>,
    max_bytes: u64,
}

#[derive(Debug, Default)]
struct State {
    status: OutboxStatus,
    promised: u64,
    /// Whether a commit may have been made that was not counted.
    is_doubtful: bool,
}

impl Held {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            state: Mutex::default(),
            max_bytes,
        }
    }

    pub(super) fn set(&self, status: OutboxStatus) {
        self.state.lock().status = status;
    }

    pub(super) fn status(&self) -> OutboxStatus {
        let mut status = self.state.lock().status.clone();
        status.max_bytes = Some(self.max_bytes).filter(|max| *max > 0);
        status
    }

    /// Notes what a commit has changed; counts anew after one that may have been made.
    pub(super) fn change(&self, connection: &Connection, change: &Change) {
        let is_doubtful = self.state.lock().is_doubtful;
        // Not under the lock, which callers wait for; nobody else but this thread changes the file.
        let counted = is_doubtful.then(|| table::examine(connection));
        let mut state = self.state.lock();
        match counted {
            Some(Ok(status)) => {
                state.status = status;
                state.is_doubtful = false;
                return;
            }
            Some(Err(_)) => {
                tracing::debug!("the spool could not be counted; it will be with the next change");
                return;
            }
            None => {}
        }
        let status = &mut state.status;
        status.waiting = status.waiting.saturating_sub(change.left);
        status.dead = (status.dead + change.died).saturating_sub(change.discarded);
        status.bytes = status.bytes.saturating_sub(change.freed);
        if let Some(oldest) = change.oldest {
            status.oldest = oldest;
        }
        if change.bound_to.is_some() {
            status.bound_to = change.bound_to;
        }
    }

    /// After a commit of which it is not known whether it was made.
    pub(super) fn doubt(&self) {
        self.state.lock().is_doubtful = true;
    }

    fn keep(&self, connection: &Connection, items: &[&Lines]) {
        let mut state = self.state.lock();
        for item in items {
            // Its room is held from now on, and not promised any more.
            let bytes = std::mem::take(&mut *item.promise.bytes.lock());
            state.promised -= bytes;
            state.status.bytes += bytes;
            state.status.waiting += item.lines.len() as u64;
            state.status.oldest.get_or_insert(item.at);
        }
        let is_doubtful = state.is_doubtful;
        drop(state);
        if is_doubtful {
            self.change(connection, &Change::default());
        }
    }
}

/// Room that was promised, given back when it is not used.
#[derive(Debug)]
struct Promise {
    held: Arc<Held>,
    bytes: Mutex<u64>,
}

impl Drop for Promise {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.held.state.lock().promised -= bytes;
    }
}

/// The updates of one caller, with room for them.
#[derive(Debug)]
pub(super) struct Lines {
    lines: Vec<String>,
    at: Timestamp,
    promise: Promise,
}

impl Lines {
    /// # Errors
    /// `Full` when there is no room for them.
    pub(super) fn reserve(held: &Arc<Held>, lines: Vec<String>, at: Timestamp) -> Result<Self> {
        let bytes: u64 = lines.iter().map(|line| line.len() as u64 + OVERHEAD).sum();
        let mut state = held.state.lock();
        let after = state.status.bytes + state.promised + bytes;
        if after > held.max_bytes {
            let OutboxStatus { waiting, dead, .. } = state.status;
            let what = format!(
                "the spool is full: {waiting} updates wait and {dead} were put aside, and with {} more it would hold \
                 {after} bytes of {}",
                lines.len(),
                held.max_bytes
            );
            return Err(Error::new(ErrorKind::Full, what));
        }
        state.promised += bytes;
        drop(state);
        Ok(Self {
            lines,
            at,
            promise: Promise {
                held: Arc::clone(held),
                bytes: Mutex::new(bytes),
            },
        })
    }
}

/// The work of the thread: what waits is put at the end, in its order.
#[derive(Debug)]
pub(super) struct Keeping {
    held: Arc<Held>,
    /// Here, so that it is let go when the thread is at its end.
    _lock: Lock,
}

impl Keeping {
    pub(super) fn new(held: Arc<Held>, lock: Lock) -> Self {
        Self { held, _lock: lock }
    }
}

impl Work for Keeping {
    type Item = Lines;
    type Answer = ();

    const NAME: &'static str = "spool";

    fn updates(item: &Lines) -> usize {
        item.lines.len()
    }

    fn work(&self, connection: &Connection, items: &[&Lines]) -> Result<Vec<()>, Failed> {
        for item in items {
            table::add(connection, &item.lines, item.at)?;
        }
        Ok(vec![(); items.len()])
    }

    fn committed(&self, connection: &Connection, items: &[&Lines]) {
        self.held.keep(connection, items);
    }

    fn in_doubt(&self) {
        self.held.doubt();
    }
}
