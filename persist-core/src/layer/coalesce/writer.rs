//! The end of the queue where callers stand.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::flusher::Flusher;
use super::queue::Waiting;
use super::settings::Coalesce;
use crate::claim::Claim;
use crate::error::{Error, ErrorKind, Result, UpdateOutcome};
use crate::layer::{Counts, Ticket};
use crate::outcome::Outcome;

/// Where flushes go.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Applies claims and answers after the commit: one outcome for each, by position.
    ///
    /// # Errors
    /// Whatever meets it, with [`Error::outcome`] for all of the claims. One that
    /// [is of one claim](Error::is_of_one_claim) has the flush halved until that claim's call stands alone.
    async fn flush(&self, claims: &[Claim]) -> Result<Vec<Outcome>>;
}

/// Applies the updates of concurrent callers together, and answers each after the commit.
///
/// First in, first out among calls that name one job first, which is all calls of a single update. A caller that
/// goes away does not take back what it has queued. When room is short, callers wait for it in their order: there is
/// no unbounded buffer. What the sink refuses for the sake of one claim fails for its own caller alone. A panic in
/// the sink is an error of those that it concerned.
pub struct Writer {
    sender: mpsc::UnboundedSender<Waiting>,
    room: Arc<Semaphore>,
    settings: Coalesce,
    closed: AtomicBool,
    counts: Arc<Counts>,
}

impl Writer {
    /// Over a sink. Must be called inside of a tokio runtime, whose tasks do the flushing; they end when the
    /// writer is dropped and everything is answered.
    pub fn new<S: Sink>(sink: Arc<S>, settings: Coalesce) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let counts = Arc::new(Counts::new(settings.backend));
        tokio::spawn(Flusher::new(sink, settings, Arc::clone(&counts)).run(receiver));
        Self {
            sender,
            room: Arc::new(Semaphore::new(settings.room as usize)),
            settings,
            closed: AtomicBool::new(false),
            counts,
        }
    }

    /// Applies claims in order; by chunks of a flush's size, so that a large batch leaves room to others between
    /// its chunks.
    ///
    /// Cancel-safe: what is queued is applied whether or not the caller still waits, unless its time runs out before
    /// its turn comes.
    ///
    /// # Errors
    /// `Closed` after [`close`](Self::close); `Busy` when there was no room in time; `Timeout` after the patience of
    /// the settings, for each chunk, with `NotApplied` where it was not sent yet; `OutcomeUnknown` when a flush
    /// ended without an answer; and whatever the sink says.
    pub async fn apply(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        if self.is_closed() {
            return Err(closed());
        }
        let mut outcomes = Vec::with_capacity(claims.len());
        for chunk in claims.chunks(self.settings.batch) {
            match self.chunk(chunk.to_vec()).await {
                Ok(of_chunk) if outcomes.is_empty() => outcomes = of_chunk,
                Ok(of_chunk) => outcomes.extend(of_chunk),
                Err(error) if outcomes.is_empty() => return Err(error),
                // Chunks before it are stored.
                Err(error) => return Err(error.outcome_as(UpdateOutcome::Unknown)),
            }
        }
        Ok(outcomes)
    }

    async fn chunk(&self, claims: Vec<Claim>) -> Result<Vec<Outcome>> {
        let since = Instant::now();
        let end = since + self.settings.patience;
        // Whoever brings more than there is room has all of it.
        let need = u32::try_from(claims.len())
            .unwrap_or(u32::MAX)
            .min(self.settings.room);
        // A timer is made only where there is no room, which is seldom. Nobody who waits is passed over: what is given
        // back goes to them first.
        let room = match Arc::clone(&self.room).try_acquire_many_owned(need) {
            Ok(room) => room,
            Err(_) => self.wait_for_room(need, end).await?,
        };
        if self.is_closed() {
            return Err(closed());
        }
        let queued = self.counts.meter().queued(claims.len());
        let (reply, answer) = oneshot::channel();
        let ticket = Ticket::default();
        let waiting = Waiting {
            claims,
            since,
            end,
            ticket: ticket.clone(),
            reply,
            room,
            _queued: queued,
        };
        if self.sender.send(waiting).is_err() {
            let what = "the runtime in which this handle was opened has ended";
            return Err(Error::new(ErrorKind::Closed, what));
        }
        match timeout_at(end, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => {
                let what = "the flush ended before its answer came; sending again is safe";
                Err(Error::new(ErrorKind::OutcomeUnknown, what))
            }
            Err(_) if ticket.withdraw() => Err(late(&self.settings)),
            Err(_) => {
                let waited = self.settings.patience.as_millis();
                let what = format!("no answer within {waited} ms; sending again is safe");
                Err(Error::new(ErrorKind::Timeout, what))
            }
        }
    }

    async fn wait_for_room(&self, need: u32, end: Instant) -> Result<OwnedSemaphorePermit> {
        let room = Arc::clone(&self.room).acquire_many_owned(need);
        match timeout_at(end, room).await {
            Ok(room) => room.map_err(|_| closed()),
            Err(_) => Err(full(&self.settings)),
        }
    }

    /// Refuses new updates and waits until all that were accepted are answered. Cancel-safe: call it again.
    pub async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // All room is free when everything that was accepted is answered. An error: somebody else closed it.
        let all = self.room.acquire_many(self.settings.room).await;
        drop(all);
        self.room.close();
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Flushes that were answered well since the start, and the updates in them.
    pub fn flushed(&self) -> (u64, u64) {
        self.counts.get()
    }

    /// Updates that wait or are in the air.
    pub fn depth(&self) -> usize {
        (self.settings.room as usize).saturating_sub(self.room.available_permits())
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "this handle was closed")
}

fn full(settings: &Coalesce) -> Error {
    let (room, waited) = (settings.room, settings.patience.as_millis());
    let what = format!("the queue of the writer was full for {waited} ms: {room} updates wait");
    Error::new(ErrorKind::Busy, what).outcome_as(UpdateOutcome::NotApplied)
}

/// The error of what was not sent in time.
pub(super) fn late(settings: &Coalesce) -> Error {
    let waited = settings.patience.as_millis();
    let what = format!("waited {waited} ms for its turn in the queue of the writer; withdrawn");
    Error::new(ErrorKind::Timeout, what).outcome_as(UpdateOutcome::NotApplied)
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("settings", &self.settings)
            .field("depth", &self.depth())
            .finish_non_exhaustive()
    }
}
