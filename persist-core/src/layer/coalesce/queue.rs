//! What waits to be flushed, by shares of the jobs.

use std::collections::VecDeque;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::writer::Coalesce;
use crate::claim::Claim;
use crate::error::Result;
use crate::outcome::Outcome;

/// The updates of one call.
pub(super) struct Waiting {
    pub(super) claims: Vec<Claim>,
    /// Since when.
    pub(super) since: Instant,
    pub(super) reply: oneshot::Sender<Result<Vec<Outcome>>>,
    /// Given back with the answer.
    pub(super) room: OwnedSemaphorePermit,
}

/// A share of the jobs: its calls, in their order. One flush of a share is in the air at a time, so that a job's
/// updates go out in the order in which they came and flushes don't wait for each other's locks.
#[derive(Default)]
struct Share {
    calls: VecDeque<Waiting>,
    updates: usize,
    is_out: bool,
}

/// Calls that go out together, and whose shares they are.
#[derive(Default)]
pub(super) struct Batch {
    updates: usize,
    pub(super) calls: Vec<Waiting>,
    pub(super) shares: Vec<usize>,
}

/// All shares.
pub(super) struct Queue {
    shares: Vec<Share>,
    batch: usize,
    beside: usize,
    flushes: usize,
    /// Flushes in the air.
    out: usize,
}

impl Queue {
    pub(super) fn new(settings: &Coalesce) -> Self {
        let flushes = settings.flushers.max(1);
        Self {
            shares: (0..flushes).map(|_| Share::default()).collect(),
            batch: settings.batch.max(1),
            beside: settings.beside.max(1),
            flushes,
            out: 0,
        }
    }

    pub(super) fn add(&mut self, call: Waiting) {
        let share = share_of(&call.claims, self.shares.len());
        let share = &mut self.shares[share];
        share.updates += call.claims.len();
        share.calls.push_back(call);
    }

    /// Updates that could go out now.
    pub(super) fn ready(&self) -> usize {
        self.shares
            .iter()
            .filter(|share| !share.is_out)
            .map(|share| share.updates)
            .sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.out == 0 && self.shares.iter().all(|share| share.calls.is_empty())
    }

    /// When the call that waits longest came.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.shares
            .iter()
            .filter_map(|share| share.calls.front())
            .map(|call| call.since)
            .min()
    }

    /// What is to go out now, if anything is.
    ///
    /// All that may go out is dealt to as many flushes as hold `beside` updates each: a lone caller's update goes
    /// out by itself, and a few dozen in one commit. While one is in the air another needs as many to be worth
    /// its commit.
    pub(super) fn next(&mut self) -> Option<Batch> {
        let ready = self.ready();
        let free = self.flushes.saturating_sub(self.out);
        if ready == 0 || free == 0 || (self.out > 0 && ready < self.beside) {
            return None;
        }
        let flushes = (ready / self.beside).clamp(1, free);
        let enough = ready.div_ceil(flushes).min(self.batch);
        let mut idle: Vec<_> = (0..self.shares.len())
            .filter(|share| !self.shares[*share].is_out && self.shares[*share].updates > 0)
            .collect();
        idle.sort_unstable_by_key(|share| std::cmp::Reverse(self.shares[*share].updates));
        let mut batch = Batch::default();
        for share in idle {
            if batch.updates >= enough {
                break;
            }
            self.take(share, &mut batch);
        }
        self.out += 1;
        Some(batch)
    }

    /// Adds the calls of a share that still fit.
    fn take(&mut self, at: usize, batch: &mut Batch) {
        let share = &mut self.shares[at];
        let mut has_any = false;
        while let Some(call) = share.calls.front() {
            let more = call.claims.len();
            // A call is never split; a large one goes alone.
            if batch.updates > 0 && batch.updates + more > self.batch {
                break;
            }
            batch.updates += more;
            share.updates -= more;
            batch.calls.extend(share.calls.pop_front());
            has_any = true;
        }
        if has_any {
            share.is_out = true;
            batch.shares.push(at);
        }
    }

    /// These shares may go out again.
    pub(super) fn back(&mut self, shares: &[usize]) {
        self.out -= 1;
        for share in shares {
            self.shares[*share].is_out = false;
        }
    }

    /// Takes out the calls that came before this moment.
    pub(super) fn late(&mut self, moment: Instant) -> Vec<Waiting> {
        let mut late = Vec::new();
        for share in &mut self.shares {
            while share.calls.front().is_some_and(|call| call.since <= moment) {
                late.extend(
                    share
                        .calls
                        .pop_front()
                        .inspect(|call| share.updates -= call.claims.len()),
                );
            }
        }
        late
    }
}

/// By the low bits of the job's id, which are random in every version of it, well mixed.
fn share_of(claims: &[Claim], shares: usize) -> usize {
    let Some(claim) = claims.first() else { return 0 };
    let (high, low) = claim.subject().request_id().as_u64_pair();
    let mixed = (high ^ low).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as usize % shares
}
