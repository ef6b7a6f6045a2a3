//! One flush: the updates of whoever waits, in one transaction, answered after its commit.

use std::sync::Arc;
use std::time::Instant;

use persist_core::layer::{Counts, Ticket};
use persist_core::metrics::Queued;
use persist_core::{Error, Result};
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::{Failed, Phase, is_busy};
use crate::session::Session;
use crate::worker::Writer;

/// What a flush does with the updates of its callers: it merges them into a store, or keeps them in an outbox.
pub(crate) trait Work: Send + Sync + 'static {
    /// What one caller brings.
    type Item: Send + 'static;
    /// What one caller is answered.
    type Answer: Send + 'static;

    /// What metrics call the writer.
    const NAME: &'static str;

    /// How many updates it is.
    fn updates(item: &Self::Item) -> usize;

    /// Works in the transaction that is open, which is rolled back on an error; answers by position.
    fn work(&self, connection: &Connection, items: &[&Self::Item]) -> Result<Vec<Self::Answer>, Failed>;

    /// It was committed; nobody is answered yet.
    fn committed(&self, _connection: &Connection, _items: &[&Self::Item]) {}

    /// The commit failed, and may have been made.
    fn in_doubt(&self) {}
}

/// The updates of one caller.
pub(crate) struct Batch<W: Work> {
    pub(crate) item: W::Item,
    pub(crate) ticket: Ticket,
    /// Since when its caller waits.
    pub(crate) since: Instant,
    /// Until when the lock of the file is waited for.
    pub(crate) lock: Instant,
    pub(crate) reply: oneshot::Sender<Result<W::Answer>>,
    /// The room in the queue, given back with the batch.
    pub(crate) _room: OwnedSemaphorePermit,
    pub(crate) _queued: Queued,
}

impl<W: Work> Batch<W> {
    /// Whether the caller can't take it back any more.
    fn is_ours(&self) -> bool {
        self.ticket.take() || !self.ticket.is_withdrawn()
    }

    fn answer(self, result: Result<W::Answer>) {
        // A caller that went away has no wish to hear it.
        let _ = self.reply.send(result);
    }
}

/// Those that are to be refused, and why.
type Unbegun<W> = (Vec<Batch<W>>, Error);

/// Works on all of them, and answers all of them.
pub(crate) fn flush<W: Work>(writer: &mut Writer<W>, batches: Vec<Batch<W>>) {
    let (counts, work) = (Arc::clone(&writer.counts), Arc::clone(&writer.work));
    if let Some(oldest) = batches.iter().map(|batch| batch.since).min() {
        counts.meter().waited(oldest.elapsed());
    }
    let mut rest = vec![batches];
    while let Some(batches) = rest.pop() {
        // Again for each part: a connection that a commit spoiled is opened anew.
        let session = match writer.session() {
            Ok(session) => session,
            Err(error) => {
                refuse(batches, &error);
                continue;
            }
        };
        let mut batches = match begin(session, batches) {
            Ok(batches) if batches.is_empty() => continue,
            Ok(batches) => batches,
            Err((batches, error)) => {
                refuse(batches, &error);
                continue;
            }
        };
        let begun = Instant::now();
        let answers = commit(session, &*work, &batches, &counts);
        let updates = batches.iter().map(|batch| W::updates(&batch.item)).sum();
        counts.meter().flushed(updates, begun.elapsed(), answers.is_ok());
        match answers {
            Ok(answers) => {
                for (batch, answer) in batches.into_iter().zip(answers) {
                    batch.answer(Ok(answer));
                }
            }
            // A value that the database refuses, a row that is damaged: only its own caller is to suffer. Halved and
            // not one by one, for each part costs a commit.
            Err(error) if error.is_of_one_claim() && batches.len() > 1 => {
                let second = batches.split_off(batches.len() / 2);
                rest.extend([second, batches]);
            }
            Err(error) => refuse(batches, &error),
        }
    }
}

fn refuse<W: Work>(batches: Vec<Batch<W>>, error: &Error) {
    for batch in batches {
        batch.answer(Err(error.clone()));
    }
}

/// Takes the lock, and then the batches that nobody withdrew. Those whose time for it is up are answered.
fn begin<W: Work>(session: &mut Session, mut batches: Vec<Batch<W>>) -> Result<Vec<Batch<W>>, Unbegun<W>> {
    loop {
        batches.retain(|batch| !batch.ticket.is_withdrawn());
        let Some(first) = batches.iter().map(|batch| batch.lock).min() else {
            return Ok(batches);
        };
        match session.begin(first) {
            Ok(()) => break,
            Err(Failed::Driver(error)) if is_busy(&error) => {
                let error = session.judge(error.into(), Phase::Statement);
                let now = Instant::now();
                // The one that was waited for, even where the clock is a millisecond behind.
                let is_late = |batch: &mut Batch<W>| batch.lock <= now.max(first);
                refuse(batches.extract_if(.., is_late).collect(), &error);
            }
            Err(failed) => {
                let error = session.judge(failed, Phase::Statement);
                return Err((batches, error));
            }
        }
    }
    batches.retain(Batch::is_ours);
    if batches.is_empty() {
        session.roll_back();
    }
    Ok(batches)
}

/// Works in the transaction that is open, and commits it. On an error it is rolled back.
fn commit<W: Work>(
    session: &mut Session,
    work: &W,
    batches: &[Batch<W>],
    counts: &Counts,
) -> Result<Vec<W::Answer>> {
    let items: Vec<_> = batches.iter().map(|batch| &batch.item).collect();
    match work.work(&session.connection, &items) {
        Ok(answers) => {
            session.commit().inspect_err(|_| work.in_doubt())?;
            work.committed(&session.connection, &items);
            counts.add(items.into_iter().map(W::updates).sum());
            Ok(answers)
        }
        Err(failed) => {
            let error = session.judge(failed, Phase::Statement);
            session.roll_back();
            Err(error)
        }
    }
}
