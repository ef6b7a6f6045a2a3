//! Reads of one row by its key: those that wait at the same time go out as one statement.
//!
//! A statement for one row costs both sides some 30 µs, most of it for the statement and hardly any for the row. The
//! first few callers are sent at once, each alone, as their round trips overlap; who comes while those are in the air goes
//! with the next, as in the writer: without a timer to fill it, and whoever is alone waits for nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use persist_core::{Error, ErrorKind, Result, end_of};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::connection::{Pool, Scope, Work};
use crate::session::Session;
use crate::statements::Statements;

/// In the air before anybody waits for another. 2 and 3 make the most with 16 callers on 2 cores, 4 a fifth
/// less there and as much with 64 (docs/BENCHMARKS.md, 2026-11); a server that is far away wants more rather than fewer.
const FEW: usize = 4;
/// Most keys of a statement.
const BATCH: usize = 64;
/// Whoever waited for so long has a statement sent for all who wait: what is in the air is held up.
const HELD_UP: Duration = Duration::from_millis(10);

/// The rows of keys that have one. A row that can't be read fails for its own key.
pub(crate) type Rows<K, R> = Vec<(K, Result<R>)>;
/// The statement of one kind of row.
type ByKey<K, R> = fn(&mut Session, Arc<Statements>, Arc<[K]>) -> Work<'_, Rows<K, R>>;
type Reading<K, R> = Pin<Box<dyn Future<Output = Result<Rows<K, R>>> + Send>>;
type Read<K, R> = dyn Fn(Arc<[K]>, Instant) -> Reading<K, R> + Send + Sync;

/// Reads of one kind of row.
pub(crate) struct Points<K, R> {
    read: Box<Read<K, R>>,
    deadline: Duration,
    waiting: Mutex<Waiting<K, R>>,
    landed: Notify,
}

struct Waiting<K, R> {
    calls: Vec<Call<K, R>>,
    in_air: usize,
}

struct Call<K, R> {
    key: K,
    end: Instant,
    reply: oneshot::Sender<Result<Option<R>>>,
}

/// One of those in the air, until it is dropped.
struct Flight<K, R> {
    points: Arc<Points<K, R>>,
    has_landed: bool,
}

impl<K, R> Points<K, R>
where
    K: Ord + Clone + Send + Sync + 'static,
    R: Clone + Send + 'static,
{
    /// By statements on the connections of a pool.
    pub(crate) fn over(
        pool: &Arc<Pool>,
        statements: &Arc<Statements>,
        deadline: Duration,
        by_key: ByKey<K, R>,
    ) -> Arc<Self> {
        let (pool, statements) = (Arc::clone(pool), Arc::clone(statements));
        Self::new(deadline, move |keys, end| {
            let (pool, statements) = (Arc::clone(&pool), Arc::clone(&statements));
            Box::pin(async move {
                pool.attempts(end, deadline, Scope::Single, &move |session: &mut Session| {
                    by_key(session, Arc::clone(&statements), Arc::clone(&keys))
                })
                .await
            })
        })
    }

    /// By what `read` returns for keys until such a time, each call within the deadline.
    fn new<F>(deadline: Duration, read: F) -> Arc<Self>
    where
        F: Fn(Arc<[K]>, Instant) -> Reading<K, R> + Send + Sync + 'static,
    {
        let waiting = Waiting {
            calls: Vec::new(),
            in_air: 0,
        };
        Arc::new(Self {
            read: Box::new(read),
            deadline,
            waiting: Mutex::new(waiting),
            landed: Notify::new(),
        })
    }

    /// The row of a key. Sees all that was answered before this was called. Cancel-safe.
    pub(crate) async fn get(self: &Arc<Self>, key: K) -> Result<Option<R>> {
        let (reply, mut answer) = oneshot::channel();
        let end = end_of(self.deadline);
        let calls = {
            let mut waiting = self.waiting();
            waiting.calls.push(Call { key, end, reply });
            let goes = waiting.in_air < FEW || waiting.calls.len() >= BATCH;
            if goes { waiting.take_off() } else { None }
        };
        self.send(calls);
        let answer = match timeout(HELD_UP.min(self.deadline / 2), &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                let held_up = self.waiting().take_off();
                self.send(held_up);
                answer.await
            }
        };
        answer.unwrap_or_else(|_| {
            let what = "the task of the call ended before the answer came";
            Err(Error::new(ErrorKind::OutcomeUnknown, what))
        })
    }

    /// Waits until nobody does. Whoever calls sees to it that nobody comes.
    pub(crate) async fn idle(&self) {
        loop {
            let landed = self.landed.notified();
            if self.waiting().in_air == 0 {
                return;
            }
            landed.await;
        }
    }

    fn send(self: &Arc<Self>, calls: Option<Vec<Call<K, R>>>) {
        if let Some(calls) = calls {
            let flight = Flight {
                points: Arc::clone(self),
                has_landed: false,
            };
            // A task of its own: a caller that goes away leaves no half statement behind.
            tokio::spawn(flight.fly(calls));
        }
    }

    async fn answer(&self, mut calls: Vec<Call<K, R>>) {
        calls.retain(|call| !call.reply.is_closed());
        if calls.len() < 2 {
            if let Some(call) = calls.pop() {
                self.alone(call).await;
            }
            return;
        }
        // They came within what counts as held up, so that the last one's deadline is about that of all.
        let end = calls.iter().map(|call| call.end).fold(calls[0].end, Instant::max);
        let keys: BTreeSet<_> = calls.iter().map(|call| call.key.clone()).collect();
        // A panic over one row is not the others' end either.
        let found = tokio::spawn((self.read)(keys.into_iter().collect(), end)).await;
        let found =
            found.unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "a row could not be decoded")));
        match found.map(|rows| rows.into_iter().collect::<BTreeMap<_, _>>()) {
            Ok(rows) => {
                for call in calls {
                    let _ = call.reply.send(rows.get(&call.key).cloned().transpose());
                }
            }
            Err(error) if may_be_of_one_row(&error) => self.answer_each(calls, &error).await,
            Err(error) => {
                for call in calls {
                    let _ = call.reply.send(Err(error.clone()));
                }
            }
        }
    }

    fn alone(&self, call: Call<K, R>) -> impl Future<Output = ()> + Send + use<K, R> {
        let reading = (self.read)(Arc::from([call.key]), call.end);
        async move {
            let found = reading.await;
            let row = found.and_then(|rows| rows.into_iter().next().map(|(_, row)| row).transpose());
            // A caller that went away does not mind.
            let _ = call.reply.send(row);
        }
    }

    /// Each by itself, those that have time left.
    async fn answer_each(&self, calls: Vec<Call<K, R>>, error: &Error) {
        let (mut each, now) = (JoinSet::new(), Instant::now());
        for call in calls {
            if call.end <= now {
                let _ = call.reply.send(Err(error.clone()));
                continue;
            }
            each.spawn(self.alone(call));
        }
        while each.join_next().await.is_some() {}
    }
}

/// Of a value or a row, not of the connection or the server.
fn may_be_of_one_row(error: &Error) -> bool {
    use ErrorKind as K;
    matches!(
        error.kind(),
        K::Corrupt | K::Internal | K::InvalidInput | K::SchemaMismatch
    )
}

impl<K, R> Points<K, R> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<K, R>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, R> Waiting<K, R> {
    fn next(&mut self) -> Option<Vec<Call<K, R>>> {
        let count = self.calls.len().min(BATCH);
        (count > 0).then(|| self.calls.drain(..count).collect())
    }

    fn take_off(&mut self) -> Option<Vec<Call<K, R>>> {
        let calls = self.next();
        self.in_air += usize::from(calls.is_some());
        calls
    }
}

impl<K, R> Flight<K, R>
where
    K: Ord + Clone + Send + Sync + 'static,
    R: Clone + Send + 'static,
{
    async fn fly(mut self, calls: Vec<Call<K, R>>) {
        let mut next = Some(calls);
        while let Some(calls) = next {
            let was_alone = calls.len() == 1;
            self.points.answer(calls).await;
            // Those who were just answered come back at once: a turn for them makes one statement of what would be two.
            if !was_alone {
                tokio::task::yield_now().await;
            }
            next = self.next();
        }
    }

    fn next(&mut self) -> Option<Vec<Call<K, R>>> {
        let mut waiting = self.points.waiting();
        let calls = waiting.next();
        if calls.is_none() {
            // Under the same lock: who comes now finds that nobody will look again.
            waiting.in_air -= 1;
            self.has_landed = true;
        }
        calls
    }
}

impl<K, R> Drop for Flight<K, R> {
    fn drop(&mut self) {
        if !self.has_landed {
            self.points.waiting().in_air -= 1;
        }
        self.points.landed.notify_waiters();
    }
}

impl<K, R> fmt::Debug for Points<K, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.waiting();
        f.debug_struct("Points")
            .field("waiting", &waiting.calls.len())
            .field("in_air", &waiting.in_air)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
