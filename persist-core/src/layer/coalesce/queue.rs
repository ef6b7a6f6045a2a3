//! What waits to be flushed, by shares of the jobs.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::settings::Coalesce;
use crate::claim::Claim;
use crate::error::Result;
use crate::layer::Ticket;
use crate::outcome::Outcome;

/// The updates of one call.
pub(super) struct Waiting {
    pub(super) claims: Vec<Claim>,
    /// Since when it is queued.
    pub(super) since: Instant,
    /// Until when its caller waits.
    pub(super) end: Instant,
    /// Taken when it goes out.
    pub(super) ticket: Ticket,
    pub(super) reply: oneshot::Sender<Result<Vec<Outcome>>>,
    /// Given back with the answer.
    pub(super) room: OwnedSemaphorePermit,
}

/// Shares of the jobs. Many more than flushes: a flush that is held up keeps its shares, and with them jobs that it
/// does not have.
pub(super) const SHARES: usize = 64;

/// Flushes in the air while the queue is short. On two cores a third and a fourth made smaller batches: 44,000
/// instead of 36,000 to 38,000 updates a second with 1,024 callers, and a shorter tail (2026-11).
const PAIR: usize = 2;
/// How long what waits is held where two are in the air, as a multiple of the time where one is.
const BESIDE_TWO: u32 = 5;
/// From which age on a flush counts as held up and not as one of the two, as a multiple of that time.
const HELD_UP: u32 = 10;

/// A share of the jobs: the calls that name one of them first, in their order. One flush of a share is in the air
/// at a time, so that a job's updates go out in the order in which they came and flushes don't wait for each other's
/// locks. (The other jobs of a call of several may be in other shares: their order is any, as for two writers.)
#[derive(Default)]
struct Share {
    calls: VecDeque<Waiting>,
    updates: usize,
    is_out: bool,
}

/// Calls that go out together.
pub(super) struct Batch {
    updates: usize,
    pub(super) calls: Vec<Waiting>,
    pub(super) flight: Flight,
}

/// A flush in the air: the shares that it keeps, and since when.
pub(super) struct Flight {
    shares: Vec<usize>,
    since: Instant,
}

/// All shares.
pub(super) struct Queue {
    shares: Vec<Share>,
    batch: usize,
    beside: usize,
    hold: Duration,
    flushes: usize,
    /// Since when each of the flushes in the air is.
    out: Vec<Instant>,
}

impl Queue {
    pub(super) fn new(settings: &Coalesce) -> Self {
        Self {
            shares: (0..SHARES).map(|_| Share::default()).collect(),
            batch: settings.batch,
            beside: settings.beside,
            hold: settings.hold,
            flushes: settings.flushers,
            out: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, call: Waiting) {
        let share = share_of(&call.claims);
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
        self.out.is_empty() && self.shares.iter().all(|share| share.calls.is_empty())
    }

    fn fronts(&self) -> impl Iterator<Item = (&Share, &Waiting)> {
        self.shares
            .iter()
            .filter_map(|share| Some((share, share.calls.front()?)))
    }

    /// When the first caller of those that wait goes away.
    pub(super) fn ends(&self) -> Option<Instant> {
        self.fronts().map(|(_, call)| call.end).min()
    }

    /// When [`next`](Self::next) is to be asked again: then something goes out though a flush is in the air and little
    /// waits. Whatever it left has such a moment, also where `now` is later than its own: a flush that came to be
    /// held up in between must not leave what waits without a timer.
    pub(super) fn look_again(&self, now: Instant) -> Option<Instant> {
        let held = self.held_until(now)?;
        let next_held_up = self.healthy(now).map(|since| since + self.hold * HELD_UP).min();
        Some(next_held_up.map_or(held, |moment| held.min(moment)))
    }

    /// Until when what waits is held; that is now, and in the past, where no healthy flush is in the air.
    fn held_until(&self, now: Instant) -> Option<Instant> {
        let since = self
            .fronts()
            .filter(|(share, _)| !share.is_out)
            .map(|(_, call)| call.since)
            .min()?;
        let hold = match self.healthy(now).count() {
            0 => Duration::ZERO,
            out if out < PAIR => self.hold,
            _ => self.hold * BESIDE_TWO,
        };
        (self.out.len() < self.flushes).then(|| since + hold)
    }

    /// Since when those flushes are in the air that are not held up.
    fn healthy(&self, now: Instant) -> impl Iterator<Item = Instant> {
        let is_healthy = move |since: &Instant| now.saturating_duration_since(*since) < self.hold * HELD_UP;
        self.out.iter().copied().filter(is_healthy)
    }

    /// What is to go out at `now`, if anything is.
    ///
    /// All that may go out is dealt to one or two flushes, of `beside` updates each at least: a lone caller's update
    /// goes out by itself, and a few dozen in one commit. While one is in the air another needs as many to be worth
    /// its commit, and while two are, a full one, unless they take long. Those that are held up don't count, but for
    /// the most that may be in the air. What has waited longest goes first, so that a share of few calls is not
    /// passed over for large ones.
    pub(super) fn next(&mut self, now: Instant) -> Option<Batch> {
        let ready = self.ready();
        let free = self.flushes.saturating_sub(self.out.len());
        if ready == 0 || free == 0 {
            return None;
        }
        let healthy = self.healthy(now).count();
        let (worth, most) = match healthy {
            out if out < PAIR => (self.beside, PAIR - out),
            _ => (self.batch, free),
        };
        let is_held = || self.held_until(now).is_some_and(|until| until > now);
        if ready < worth && is_held() {
            return None;
        }
        let flushes = (ready / worth).clamp(1, most.min(free));
        let enough = ready.div_ceil(flushes).min(self.batch);
        let mut idle: Vec<_> = (0..self.shares.len())
            .filter(|share| !self.shares[*share].is_out && self.shares[*share].updates > 0)
            .collect();
        idle.sort_unstable_by_key(|share| self.shares[*share].calls.front().map(|call| call.since));
        let flight = Flight {
            shares: Vec::new(),
            since: now,
        };
        let mut batch = Batch {
            updates: 0,
            calls: Vec::new(),
            flight,
        };
        for share in idle {
            if batch.updates >= enough {
                break;
            }
            self.take(share, &mut batch);
        }
        if batch.calls.is_empty() {
            // All of it was withdrawn.
            return None;
        }
        self.out.push(now);
        Some(batch)
    }

    /// Adds the calls of a share that still fit, but for those that were withdrawn.
    fn take(&mut self, at: usize, batch: &mut Batch) {
        let share = &mut self.shares[at];
        let mut has_any = false;
        while let Some(call) = share.calls.front() {
            let more = call.claims.len();
            // A call is never split; a large one goes alone.
            if batch.updates > 0 && batch.updates + more > self.batch {
                break;
            }
            share.updates -= more;
            let taken = share.calls.pop_front().filter(|call| call.ticket.take());
            if let Some(call) = taken {
                batch.updates += more;
                batch.calls.push(call);
                has_any = true;
            }
        }
        if has_any {
            share.is_out = true;
            batch.flight.shares.push(at);
        }
    }

    /// It landed: its shares may go out again.
    pub(super) fn back(&mut self, flight: &Flight) {
        if let Some(at) = self.out.iter().position(|since| *since == flight.since) {
            self.out.swap_remove(at);
        }
        for share in &flight.shares {
            self.shares[*share].is_out = false;
        }
    }

    /// Takes out the calls whose callers go away by this moment.
    pub(super) fn late(&mut self, moment: Instant) -> Vec<Waiting> {
        let mut late = Vec::new();
        for share in &mut self.shares {
            while let Some(call) = share.calls.pop_front_if(|call| call.end <= moment) {
                share.updates -= call.claims.len();
                late.push(call);
            }
        }
        late
    }
}

/// By the low bits of the job's id, which are random in every version of it, well mixed.
pub(super) fn share_of(claims: &[Claim]) -> usize {
    let Some(claim) = claims.first() else { return 0 };
    let (high, low) = claim.subject().request_id().as_u64_pair();
    let mixed = (high ^ low).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as usize % SHARES
}
