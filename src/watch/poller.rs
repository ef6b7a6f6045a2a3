//! The one task that asks the store for all who watch. It begins with the first of them and ends with the last.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use persist_core::layer::OncePer;
use persist_core::{ChangePosition, ChangeQuery, Changes as _, Error, ErrorKind, Pace, Result};
use tokio::sync::{Notify, broadcast};

use super::batch::Batch;
use crate::heal::BETWEEN_WARNINGS;
use crate::switch::Switch;

/// Answers that are kept for the slow, of up to 1,000 changes each: who has not taken the oldest when one more comes reads by
/// itself.
const KEPT: usize = 32;

/// What those who watch are told.
#[derive(Debug, Clone)]
pub(super) enum Told {
    /// What came.
    Read(Batch),
    /// There may be something that was not told: each is to look for itself.
    Look,
}

/// What all who watch through one handle share.
#[derive(Debug)]
pub(crate) struct Poller {
    pub(super) switch: Arc<Switch>,
    longest: Duration,
    /// Of the task, as long as it lives.
    telling: Mutex<Option<broadcast::WeakSender<Told>>>,
    left: Notify,
}

impl Poller {
    /// Over a store that is asked at least so often while anybody watches.
    pub(crate) fn new(switch: Arc<Switch>, longest: Duration) -> Arc<Self> {
        Arc::new(Self {
            switch,
            longest,
            telling: Mutex::default(),
            left: Notify::new(),
        })
    }

    pub(super) fn pace(&self) -> Pace {
        Pace::new(self.longest)
    }

    /// From now on whatever is read is told.
    pub(super) fn subscribe(self: &Arc<Self>) -> broadcast::Receiver<Told> {
        let mut telling = self.telling.lock();
        if let Some(sender) = telling.as_ref().and_then(broadcast::WeakSender::upgrade) {
            return sender.subscribe();
        }
        let (sender, receiver) = broadcast::channel(KEPT);
        *telling = Some(sender.downgrade());
        tokio::spawn(poll(Arc::clone(self), sender));
        receiver
    }

    /// Somebody watches no more.
    pub(super) fn left(&self) {
        self.left.notify_one();
    }

    /// Whether nobody watches; who comes after that begins a task anew.
    fn is_deserted(&self, sender: &broadcast::Sender<Told>) -> bool {
        let mut telling = self.telling.lock();
        let is_deserted = sender.receiver_count() == 0;
        if is_deserted {
            *telling = None;
        }
        is_deserted
    }
}

/// Looks, tells, and waits, until nobody watches or the store is closed.
async fn poll(poller: Arc<Poller>, sender: broadcast::Sender<Told>) {
    let mut modes = poller.switch.watch();
    let (mut is_open, mut place, mut pace) = (true, None, poller.pace());
    let line = OncePer::new(BETWEEN_WARNINGS);
    while !poller.is_deserted(&sender) {
        match look(&poller.switch, &mut place, pace.most()).await {
            Ok((told, more)) => {
                pace.answered(more);
                if let Some(told) = told {
                    pace.reset();
                    // An error: the last one has left just now.
                    let _ = sender.send(told);
                }
                if more {
                    continue;
                }
            }
            Err(error) if error.kind() == ErrorKind::Closed => {
                // There will be nothing to tell, however long somebody keeps the seat.
                let _ = sender.send(Told::Look);
                return;
            }
            Err(error) if error.is_retryable() => tell(&line, &error),
            Err(_) => {
                // Each finds out by itself what it means for its own place, and tells who asked.
                place = None;
                let _ = sender.send(Told::Look);
            }
        }
        tokio::select! {
            () = pace.wait(&*poller.switch) => {}
            changed = modes.changed(), if is_open => {
                is_open = changed.is_ok();
                pace.reset();
            }
            () = poller.left.notified() => {}
        }
    }
}

/// What there is to tell, and whether more is to be had at once.
async fn look(
    switch: &Switch,
    place: &mut Option<ChangePosition>,
    most: u32,
) -> Result<(Option<Told>, bool)> {
    let Some(after) = *place else {
        *place = Some(switch.now().await?);
        // What was there before this is for each to read.
        return Ok((Some(Told::Look), true));
    };
    let query = ChangeQuery::default().after(Some(after.cursor())).limit(most);
    let changed = switch.since(&query).await?;
    let more = changed.more;
    *place = Some(changed.next);
    if changed.changes.is_empty() {
        return Ok((None, more));
    }
    Ok((Some(Told::Read(Batch::new(changed))), more))
}

fn tell(line: &OncePer, error: &Error) {
    let kind = error.kind().name();
    match line.pass() {
        Some(held_back) => {
            tracing::warn!(kind, %error, held_back, "who watches waits for the database");
        }
        None => tracing::debug!(kind, %error, "who watches waits for the database"),
    }
}
