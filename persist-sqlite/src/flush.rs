//! One flush: the updates of whoever waits, in one transaction, answered after its commit.

use std::sync::Arc;
use std::time::Instant;

use persist_core::layer::{Counts, Ticket};
use persist_core::metrics::Queued;
use persist_core::{Claim, Error, Outcome, Result};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::{Failed, Phase, is_busy};
use crate::merge::Merge;
use crate::session::Session;
use crate::worker::Writer;

/// The updates of one caller.
pub(crate) struct Batch {
    pub(crate) claims: Vec<Claim>,
    pub(crate) ticket: Ticket,
    /// Since when its caller waits.
    pub(crate) since: Instant,
    /// Until when the lock of the file is waited for.
    pub(crate) lock: Instant,
    pub(crate) reply: oneshot::Sender<Result<Vec<Outcome>>>,
    /// The room in the queue, given back with the batch.
    pub(crate) _room: OwnedSemaphorePermit,
    pub(crate) _queued: Queued,
}

impl Batch {
    /// Whether the caller can't take it back any more.
    fn is_ours(&self) -> bool {
        self.ticket.take() || !self.ticket.is_withdrawn()
    }

    fn answer(self, result: Result<Vec<Outcome>>) {
        // A caller that went away has no wish to hear it.
        let _ = self.reply.send(result);
    }
}

/// Merges all of them, and answers all of them.
pub(crate) fn flush(writer: &mut Writer, batches: Vec<Batch>) {
    let counts = Arc::clone(&writer.counts);
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
        let merged = merge(session, &batches, &counts);
        let updates = batches.iter().map(|batch| batch.claims.len()).sum();
        counts.meter().flushed(updates, begun.elapsed(), merged.is_ok());
        match merged {
            Ok(outcomes) => {
                for (batch, outcomes) in batches.into_iter().zip(outcomes) {
                    batch.answer(Ok(outcomes));
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

fn refuse(batches: Vec<Batch>, error: &Error) {
    for batch in batches {
        batch.answer(Err(error.clone()));
    }
}

/// Takes the lock, and then the batches that nobody withdrew. Those whose time for it is up are answered.
fn begin(session: &mut Session, mut batches: Vec<Batch>) -> Result<Vec<Batch>, (Vec<Batch>, Error)> {
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
                let is_late = |batch: &mut Batch| batch.lock <= now.max(first);
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

/// Merges in the transaction that is open, and commits it. On an error it is rolled back.
fn merge(session: &mut Session, batches: &[Batch], counts: &Counts) -> Result<Vec<Vec<Outcome>>> {
    match outcomes(session, batches) {
        Ok(outcomes) => {
            session.commit()?;
            counts.add(outcomes.iter().map(Vec::len).sum());
            Ok(outcomes)
        }
        Err(failed) => {
            let error = session.judge(failed, Phase::Statement);
            session.roll_back();
            Err(error)
        }
    }
}

fn outcomes(session: &Session, batches: &[Batch]) -> Result<Vec<Vec<Outcome>>, Failed> {
    let mut merge = Merge::begin(&session.connection)?;
    let mut all = Vec::with_capacity(batches.len());
    for batch in batches {
        let each = batch.claims.iter().map(|claim| merge.one(claim));
        all.push(each.collect::<Result<Vec<_>, _>>()?);
    }
    merge.finish()?;
    Ok(all)
}
