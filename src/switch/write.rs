//! Updates, while the driver comes and goes.

use std::sync::atomic::Ordering;

use persist_core::{CHUNK, Claim, Error, ErrorKind, Outcome, Result, UpdateOutcome};
use tokio::time::Instant;

use super::Switch;
use crate::spool::Met;

/// What a step of emptying the spool came to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Drained {
    /// It went on to this number.
    Until(u64),
    /// Nothing waits behind it, or there is no database.
    Nothing,
    Failed,
}

impl Switch {
    /// The updates of a call, in a future that its caller holds.
    pub(crate) async fn apply_unboxed(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        let outcomes = match self.only.as_ref().filter(|_| self.is_enabled()) {
            Some(only) => only.apply(claims).await.inspect_err(|error| self.note(error)),
            None => self.apply_healing(claims).await,
        }?;
        self.refusals.note(&self.this, claims, &outcomes);
        Ok(outcomes)
    }

    /// Writes down what was refused, by the driver that is there.
    pub(crate) async fn keep_refusals(&self) -> Result<()> {
        let kept = match self.reader("keep") {
            Ok((driver, _)) => self.refusals.flush(&*driver).await,
            Err(error) => Err(error),
        };
        kept.inspect_err(|error| {
            // Closing keeps what waits by itself.
            if error.kind() != ErrorKind::Closed {
                let what = "refusals could not be kept; the updates were answered all the same";
                self.refusals.tell(error, what);
            }
        })
    }

    /// Applies updates where the driver comes and goes, or none is there.
    async fn apply_healing(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        if self.spool.is_some() || claims.is_empty() {
            // Before anything goes to a spool, and for what asks nobody else.
            self.writer()?;
        }
        // Held to the end of the call: closing waits for what may yet go to the spool.
        let _call = match &self.spool {
            Some(spool) => Some(spool.calls.read().await),
            None => None,
        };
        let mut outcomes = Vec::with_capacity(claims.len());
        // By chunks, so that `dropped` counts none that an earlier chunk has stored.
        for chunk in claims.chunks(CHUNK) {
            let applied = self.apply_chunk(chunk).await.map_err(|error| {
                // What an earlier chunk has stored is not taken back.
                let is_stored = |outcome: &Outcome| *outcome != Outcome::Dropped;
                if outcomes.iter().any(is_stored) {
                    error.outcome_as(UpdateOutcome::Unknown)
                } else {
                    error
                }
            });
            outcomes.extend(applied?);
        }
        Ok(outcomes)
    }

    /// Applies a chunk. What the database could not take goes to the spool, or is dropped and counted.
    async fn apply_chunk(&self, chunk: &[Claim]) -> Result<Vec<Outcome>> {
        let begun = Instant::now();
        loop {
            let Some((driver, epoch)) = self.writer()? else {
                return match self.spool {
                    Some(_) => Box::pin(self.spool_chunk(chunk, None, begun)).await,
                    None => Ok(self.drop_all(chunk.len())),
                };
            };
            let error = match driver.apply(chunk).await {
                Ok(outcomes) => {
                    self.stored.now();
                    return Ok(outcomes);
                }
                Err(error) => error,
            };
            if self.was_replaced(epoch, &error) {
                continue;
            }
            if self.is_callers(error.kind()) {
                return Err(error);
            }
            if Self::is_of_one_call(&error) || self.stored_beside(begun, &error) {
                let spooled = "updates are kept in the spool";
                self.tell(
                    &error,
                    if self.spool.is_some() {
                        spooled
                    } else {
                        "updates are dropped"
                    },
                );
            } else {
                self.turn_off(epoch, &error);
            }
            if self.spool.is_some() {
                return Box::pin(self.spool_chunk(chunk, Some(error), begun)).await;
            }
            return Ok(match error.outcome() {
                UpdateOutcome::NotApplied => self.drop_all(chunk.len()),
                UpdateOutcome::Unknown => {
                    self.unknown.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    self.modes.meter.unknown(chunk.len());
                    vec![Outcome::Dropped; chunk.len()]
                }
            });
        }
    }

    /// Keeps a chunk in the spool, after this error of the database. Boxed where it is called, so that the many who wait
    /// for a database that is well hold no memory for it.
    async fn spool_chunk(&self, chunk: &[Claim], met: Option<Error>, begun: Instant) -> Result<Vec<Outcome>> {
        let Some(spool) = &self.spool else {
            return Err(super::closed("apply"));
        };
        let kept = spool.keep(chunk, begun).await.map_err(|error| {
            spool.tell_rejected(&error);
            match met {
                // What the database may have is not unapplied for a full spool.
                Some(met) if met.outcome() == UpdateOutcome::Unknown => error
                    .outcome_as(UpdateOutcome::Unknown)
                    .with("database", met.kind().name()),
                Some(met) => error.with("database", met.kind().name()),
                None => error,
            }
        });
        // After the push: it turned on before, or will wake the task itself.
        if self.is_ready() {
            spool.wake();
        }
        kept
    }

    /// Takes a step of emptying the spool.
    pub(crate) async fn drain(&self, after: u64) -> Drained {
        let Some(spool) = &self.spool else {
            return Drained::Nothing;
        };
        let _steps = spool.steps.lock().await;
        let Ok(Some((driver, epoch))) = self.writer() else {
            return Drained::Nothing;
        };
        let (begun, before) = (Instant::now(), spool.taken());
        let stepped = spool.step(&*driver, after).await;
        if spool.taken() > before {
            self.stored.now();
        }
        match stepped {
            Ok(Some(next)) => Drained::Until(next),
            Ok(None) => Drained::Nothing,
            Err(Met::Database(error)) if self.was_replaced(epoch, &error) => Drained::Until(after),
            Err(Met::Database(error)) => {
                if Self::is_of_one_call(&error) || self.stored_beside(begun, &error) {
                    self.tell(&error, "the spool could not be replayed; it will be tried again");
                } else {
                    self.turn_off(epoch, &error);
                }
                Drained::Failed
            }
            Err(Met::Spool(error)) => {
                self.tell(
                    &error,
                    "the spool could not be replayed for its own disk; it will be tried again",
                );
                Drained::Failed
            }
        }
    }

    /// Whether an error says nothing about the next call: a lock held too long, a row that can't be read.
    fn is_of_one_call(error: &Error) -> bool {
        error.kind() == ErrorKind::Busy || error.is_of_one_claim()
    }

    /// Whether a call ran out of time while others were answered in the second half of it: a row that somebody
    /// locked, not an outage.
    fn stored_beside(&self, begun: Instant, error: &Error) -> bool {
        let is_beside = |ago| ago < begun.elapsed() / 2;
        error.kind() == ErrorKind::Timeout && self.stored.ago().is_some_and(is_beside)
    }

    /// Whether an error is the caller's to handle also where history is optional, or can wait in a spool.
    pub(super) fn is_callers(&self, kind: ErrorKind) -> bool {
        match kind {
            ErrorKind::InvalidInput => true,
            // A driver that was closed under a spool is one more failure.
            ErrorKind::Closed | ErrorKind::Unsupported => self.spool.is_none(),
            _ => false,
        }
    }
}
