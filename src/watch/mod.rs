//! Watching a store: one task asks it for all who watch (`poller`); this is one of them.
//!
//! Who watches stands at a place among the changes. Behind, it reads by itself: at first, and when it was so slow that the
//! task's last answers are gone. It is told of answers from before its first read on, so that they join on to what it has
//! read, or tell part of it again, which is passed over. So nothing is lost, and little is kept for the slow.

mod batch;
mod poller;
mod query;

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use persist_core::{
    Capabilities as _, Change, ChangePosition, ChangeQuery, Changes as _, Cursor, Error, ErrorKind, Pace,
    Result,
};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

pub use self::batch::ChangeBatch;
use self::batch::{Batch, Rest};
pub(crate) use self::poller::Poller;
use self::poller::Told;
pub use self::query::{WatchFrom, WatchQuery};

/// What changes, as it comes: a stream of slots that were claimed or filled. See [`Persist::watch`](crate::Persist::watch).
///
/// It ends after its first error. It may be dropped at any time; [`Change::cursor`] of the last change that was taken is
/// where another one goes on.
pub struct Watching(State);

/// A change that was read is taken without a future: of a hundred who watch each takes every one.
enum State {
    /// Something may be there to take.
    Seated(Box<Seat>),
    /// It waits for more.
    Waits(Waiting),
    Over,
}

type Waiting = Pin<Box<dyn Future<Output = Result<Box<Seat>>> + Send>>;

impl Watching {
    /// The next change; `None` after an error. Cancel-safe.
    ///
    /// # Errors
    /// `Lagged` where slots that were not seen yet were pruned; `Closed` after [`Persist::close`](crate::Persist::close);
    /// `InvalidInput` where another store took the place of this one. What may pass, such as a database that is away, is no
    /// error: it is waited for.
    pub async fn next(&mut self) -> Option<Result<Arc<Change>>> {
        poll_fn(|cx| self.poll_taken(cx, Seat::take)).await
    }

    /// What is left of one read of the store, once there is any: up to 1,000 changes, not copied for each who watches; there may
    /// be more at once. `None` after an error. For many who watch much: a change taken by itself costs each of them 0.1 µs,
    /// and of a batch what is done with it (docs/BENCHMARKS.md). Cancel-safe.
    ///
    /// ```
    /// # async fn example(persist: persist::Persist) -> persist::Result<()> {
    /// let mut watching = persist.watch(persist::WatchQuery::default()).await?;
    /// while let Some(batch) = watching.next_batch().await.transpose()? {
    ///     for change in batch.iter() {
    ///         println!("{} is {}", change.event.subject, change.event.state);
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn next_batch(&mut self) -> Option<Result<ChangeBatch>> {
        poll_fn(|cx| self.poll_taken(cx, Seat::take_all)).await
    }

    fn poll_taken<T>(
        &mut self,
        cx: &mut Context<'_>,
        take: fn(&mut Seat) -> Option<T>,
    ) -> Poll<Option<Result<T>>> {
        loop {
            self.0 = match std::mem::replace(&mut self.0, State::Over) {
                State::Over => return Poll::Ready(None),
                State::Seated(mut seat) => match take(&mut seat) {
                    Some(taken) => {
                        self.0 = State::Seated(seat);
                        return Poll::Ready(Some(Ok(taken)));
                    }
                    None => State::Waits(Box::pin(seat.wait())),
                },
                State::Waits(mut waiting) => match waiting.as_mut().poll(cx) {
                    Poll::Ready(Ok(seat)) => State::Seated(seat),
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Poll::Pending => {
                        self.0 = State::Waits(waiting);
                        return Poll::Pending;
                    }
                },
            };
        }
    }
}

impl Stream for Watching {
    type Item = Result<Arc<Change>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_taken(cx, Seat::take)
    }
}

impl fmt::Debug for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watching").finish_non_exhaustive()
    }
}

/// One who watches.
struct Seat {
    poller: Arc<Poller>,
    /// Taken only when it is dropped.
    told: Option<broadcast::Receiver<Told>>,
    query: WatchQuery,
    /// After all that was read and is not in `ready`.
    place: Option<ChangePosition>,
    /// What was read, and what of it is yet to be looked at.
    ready: Option<Rest>,
    is_behind: bool,
    pace: Pace,
}

/// Takes a seat, and looks whether the place can be watched from.
pub(crate) async fn watch(poller: &Arc<Poller>, query: WatchQuery) -> Result<Watching> {
    let switch = &poller.switch;
    if switch.changes().is_none() {
        // Of one that is off or closed there is more to say.
        switch.reader("watch")?;
        let what = "this store can't be watched";
        return Err(Error::new(ErrorKind::Unsupported, what).during("watch"));
    }
    // Before the store is asked, so that what comes meanwhile is told of.
    let told = Some(poller.subscribe());
    let mut seat = Seat {
        poller: Arc::clone(poller),
        told,
        place: None,
        ready: None,
        is_behind: true,
        pace: poller.pace(),
        query,
    };
    match seat.query.from.clone() {
        WatchFrom::Now => seat.place = Some(switch.now().await?),
        WatchFrom::Start => seat.read_on(None).await?,
        WatchFrom::After(cursor) => seat.read_on(Some(cursor)).await?,
    }
    Ok(Watching(State::Seated(Box::new(seat))))
}

impl Seat {
    /// Until something was read, or may be.
    async fn wait(mut self: Box<Self>) -> Result<Box<Self>> {
        if self.is_behind {
            let after = match (self.place, &self.query.from) {
                (Some(place), _) => Some(place.cursor()),
                (None, WatchFrom::After(cursor)) => Some(cursor.clone()),
                (None, _) => None,
            };
            self.read_on(after).await?;
        } else {
            self.listen().await;
        }
        Ok(self)
    }

    /// The next change of what was read that is wanted, and was not taken before.
    fn take(&mut self) -> Option<Arc<Change>> {
        let rest = self.ready.as_mut()?;
        while let Some(change) = rest.next() {
            if self.query.matches(&change.event) {
                return Some(Arc::clone(change));
            }
        }
        self.pass();
        None
    }

    /// All of them.
    fn take_all(&mut self) -> Option<ChangeBatch> {
        self.pass().and_then(|rest| ChangeBatch::of(rest, &self.query))
    }

    /// What was read is behind from now on.
    fn pass(&mut self) -> Option<Rest> {
        let rest = self.ready.take()?;
        let next = rest.batch.next;
        if self.place.is_none_or(|place| place < next) {
            self.place = Some(next);
        }
        Some(rest)
    }

    /// Reads by itself, and waits a little where that may help.
    async fn read_on(&mut self, after: Option<Cursor>) -> Result<()> {
        let query = ChangeQuery::default().after(after).limit(self.pace.most());
        match self.poller.switch.since(&query).await {
            Ok(changed) => {
                self.pace.reset();
                self.pace.answered(changed.more);
                self.is_behind = changed.more;
                self.ready = Some(Rest::of(Batch::new(changed), &self.query, self.place));
            }
            // The poller tells of it.
            Err(error) if error.is_retryable() => tokio::time::sleep(self.pace.step()).await,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Waits for what the poller has read.
    async fn listen(&mut self) {
        let Some(told) = &mut self.told else { return };
        match told.recv().await {
            Ok(Told::Read(batch)) => self.ready = Some(Rest::of(batch, &self.query, self.place)),
            Ok(Told::Look) | Err(RecvError::Lagged(_)) => self.is_behind = true,
            // The task panicked, or went as this one came.
            Err(RecvError::Closed) => {
                self.told = Some(self.poller.subscribe());
                self.is_behind = true;
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.told = None;
        self.poller.left();
    }
}
