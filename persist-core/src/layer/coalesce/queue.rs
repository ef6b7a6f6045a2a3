//! What waits to be flushed, by shares of the jobs.

use std::collections::VecDeque;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

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
pub(super) struct Batch {
    pub(super) calls: Vec<Waiting>,
    pub(super) shares: Vec<usize>,
}

/// All shares.
pub(super) struct Queue {
    shares: Vec<Share>,
    batch: usize,
    out: usize,
}

impl Queue {
    pub(super) fn new(shares: usize, batch: usize) -> Self {
        let shares = (0..shares.max(1)).map(|_| Share::default()).collect();
        Self {
            shares,
            batch: batch.max(1),
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
    /// While nothing is out and one batch holds all that waits, all of it goes in one: the fewest commits. Once
    /// more waits, each share goes out for itself, beside the others, when it has half a batch.
    pub(super) fn next(&mut self) -> Option<Batch> {
        let ready = self.ready();
        if ready == 0 {
            return None;
        }
        if self.out == 0 && ready <= self.batch {
            let shares: Vec<_> = (0..self.shares.len()).collect();
            return Some(self.take(shares));
        }
        let enough = if self.out == 0 { 1 } else { self.batch.div_ceil(2) };
        let fullest = (0..self.shares.len())
            .filter(|share| !self.shares[*share].is_out)
            .max_by_key(|share| self.shares[*share].updates)?;
        (self.shares[fullest].updates >= enough).then(|| self.take(vec![fullest]))
    }

    fn take(&mut self, shares: Vec<usize>) -> Batch {
        let mut calls = Vec::new();
        let mut updates = 0;
        for share in &shares {
            let share = &mut self.shares[*share];
            share.is_out = true;
            self.out += 1;
            while let Some(call) = share.calls.front() {
                let more = call.claims.len();
                // A call is never split; a large one goes alone.
                if updates > 0 && updates + more > self.batch {
                    break;
                }
                updates += more;
                share.updates -= more;
                calls.extend(share.calls.pop_front());
            }
        }
        Batch { calls, shares }
    }

    /// These shares may go out again.
    pub(super) fn back(&mut self, shares: &[usize]) {
        for share in shares {
            self.shares[*share].is_out = false;
            self.out -= 1;
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
