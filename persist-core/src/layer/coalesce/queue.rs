//! What waits to be flushed, by shares of the jobs.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::settings::Coalesce;
use crate::claim::Claim;
use crate::error::Result;
use crate::layer::Ticket;
use crate::metrics::Queued;
use crate::outcome::Outcome;

/// The updates of one call.
pub(super) struct Waiting {
    pub(super) claims: Vec<Claim>,
    /// Since when its caller waits.
    pub(super) since: Instant,
    /// Until when its caller waits: for all calls the same time after.
    pub(super) end: Instant,
    /// Taken when it goes out.
    pub(super) ticket: Ticket,
    pub(super) reply: oneshot::Sender<Result<Vec<Outcome>>>,
    /// Given back with the answer.
    pub(super) room: OwnedSemaphorePermit,
    /// Goes with the call.
    pub(super) _queued: Queued,
}

/// Shares of the jobs. Many more than there are callers: who comes for a share that is in the air waits for one flush
/// more, and a flush that is held up keeps jobs that it does not have. With 64 of them instead, the 99th percentile was
/// 2.1 and 2.3 instead of 1.8 and 2.0 times callers / rate at 64 and 256 callers (2026-11).
pub(super) const SHARES: usize = 4_096;
/// Room for calls that a share keeps when it has none: after a burst for one job it had that of all.
const KEPT: usize = 16;

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
    pub(super) calls: Vec<Waiting>,
    pub(super) flight: Flight,
}

/// A flush in the air: the shares that it keeps, since when, and its updates.
pub(super) struct Flight {
    shares: Vec<usize>,
    since: Instant,
    updates: usize,
}

/// Shares that have calls, by since when the first of them waits.
type Line = BTreeSet<(Instant, usize)>;

/// All shares.
pub(super) struct Queue {
    shares: Vec<Share>,
    /// Those whose calls may go out now, and the updates of these.
    idle: Line,
    ready: usize,
    /// Those that are behind a flush in the air.
    behind: Line,
    batch: usize,
    beside: usize,
    hold: Duration,
    flushes: usize,
    /// Since when each of the flushes in the air is, and its updates.
    out: Vec<(Instant, usize)>,
}

impl Queue {
    pub(super) fn new(settings: &Coalesce) -> Self {
        Self {
            shares: (0..SHARES).map(|_| Share::default()).collect(),
            idle: Line::new(),
            ready: 0,
            behind: Line::new(),
            batch: settings.batch,
            beside: settings.beside,
            hold: settings.hold,
            flushes: settings.flushers,
            out: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, call: Waiting) {
        let at = share_of(&call.claims);
        let share = &mut self.shares[at];
        let more = call.claims.len();
        let is_first = share.calls.is_empty();
        share.calls.push_back(call);
        share.updates += more;
        if is_first {
            self.stand_in_line(at);
        } else if !share.is_out {
            self.ready += more;
        }
    }

    fn stand_in_line(&mut self, at: usize) {
        let share = &mut self.shares[at];
        let Some(first) = share.calls.front() else {
            if share.calls.capacity() > KEPT {
                share.calls = VecDeque::new();
            }
            return;
        };
        let place = (first.since, at);
        if share.is_out {
            self.behind.insert(place);
        } else {
            self.ready += share.updates;
            self.idle.insert(place);
        }
    }

    /// To be called before its first call or whether it is out changes.
    fn leave_line(&mut self, at: usize) {
        let share = &self.shares[at];
        let Some(first) = share.calls.front() else { return };
        let place = (first.since, at);
        if share.is_out {
            self.behind.remove(&place);
        } else if self.idle.remove(&place) {
            self.ready -= share.updates;
        }
    }

    /// Updates that could go out now.
    pub(super) fn ready(&self) -> usize {
        self.ready
    }

    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty() && self.idle.is_empty() && self.behind.is_empty()
    }

    /// The share of that call, of all, whose caller goes away first.
    fn first_to_end(&self) -> Option<(Instant, usize)> {
        let first = [self.idle.first(), self.behind.first()]
            .into_iter()
            .flatten()
            .min();
        let (_, at) = *first?;
        Some((self.shares[at].calls.front()?.end, at))
    }

    /// When the first caller of those that wait goes away.
    pub(super) fn ends(&self) -> Option<Instant> {
        self.first_to_end().map(|(end, _)| end)
    }

    /// When [`next`](Self::next) is to be asked again: then something goes out though a flush is in the air and little
    /// waits. Whatever it left has such a moment, also where `now` is later than its own: a flush that came to be
    /// held up in between must not leave what waits without a timer.
    pub(super) fn look_again(&self, now: Instant) -> Option<Instant> {
        let held = self.held_until(now)?;
        let next_held_up = self
            .healthy(now)
            .map(|(since, _)| since + self.hold * HELD_UP)
            .min();
        Some(next_held_up.map_or(held, |moment| held.min(moment)))
    }

    /// Until when what waits is held; that is now, and in the past, where no healthy flush is in the air.
    fn held_until(&self, now: Instant) -> Option<Instant> {
        let (since, _) = *self.idle.first()?;
        let hold = match self.healthy(now).count() {
            0 => Duration::ZERO,
            out if out < PAIR => self.hold,
            _ => self.hold * BESIDE_TWO,
        };
        (self.out.len() < self.flushes).then(|| since + hold)
    }

    /// Those flushes in the air that are not held up.
    fn healthy(&self, now: Instant) -> impl Iterator<Item = (Instant, usize)> {
        let is_healthy =
            move |(since, _): &(Instant, usize)| now.saturating_duration_since(*since) < self.hold * HELD_UP;
        self.out.iter().copied().filter(is_healthy)
    }

    /// What is to go out at `now`, if anything is.
    ///
    /// All that may go out is dealt to one or two flushes, of `beside` updates each at least: a lone caller's update
    /// goes out by itself, and a few dozen in one commit. While one is in the air another needs as many to be worth
    /// its commit, and takes no more than makes the two of one size: callers come back together, so that a pair of
    /// which one is large stays so (of one size: 11, 6 and 4 % more updates a second with 64, 256 and 1,024 callers,
    /// 2026-11-28). While two are, it needs a full one, unless they take long. Those that are held up don't count, but
    /// for the most that may be in the air. What has waited longest goes first, so that a share of few calls is not
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
        let mut enough = ready.div_ceil(flushes).min(self.batch);
        if healthy + flushes == PAIR {
            let out: usize = self.healthy(now).map(|(_, updates)| updates).sum();
            enough = enough.min((ready + out).div_ceil(PAIR).max(self.beside));
        }
        let flight = Flight {
            shares: Vec::new(),
            since: now,
            updates: 0,
        };
        let mut batch = Batch {
            calls: Vec::new(),
            flight,
        };
        let mut last = Bound::Unbounded;
        while batch.flight.updates < enough
            && let Some(place) = self.idle.range((last, Bound::Unbounded)).next().copied()
        {
            last = Bound::Excluded(place);
            self.take(place.1, &mut batch);
        }
        if batch.calls.is_empty() {
            // All of it was withdrawn.
            return None;
        }
        self.out.push((now, batch.flight.updates));
        Some(batch)
    }

    /// Adds the calls of a share that still fit, but for those that were withdrawn.
    fn take(&mut self, at: usize, batch: &mut Batch) {
        self.leave_line(at);
        let share = &mut self.shares[at];
        let mut has_any = false;
        while let Some(call) = share.calls.front() {
            let more = call.claims.len();
            // A call is never split; a large one goes alone.
            if batch.flight.updates > 0 && batch.flight.updates + more > self.batch {
                break;
            }
            share.updates -= more;
            let taken = share.calls.pop_front().filter(|call| call.ticket.take());
            if let Some(call) = taken {
                batch.flight.updates += more;
                batch.calls.push(call);
                has_any = true;
            }
        }
        if has_any {
            share.is_out = true;
            batch.flight.shares.push(at);
        }
        self.stand_in_line(at);
    }

    /// It landed: its shares may go out again.
    pub(super) fn back(&mut self, flight: &Flight) {
        let landed = (flight.since, flight.updates);
        if let Some(at) = self.out.iter().position(|out| *out == landed) {
            self.out.swap_remove(at);
        }
        for at in flight.shares.iter().copied() {
            self.leave_line(at);
            self.shares[at].is_out = false;
            self.stand_in_line(at);
        }
    }

    /// Takes out the calls whose callers go away by this moment.
    pub(super) fn late(&mut self, moment: Instant) -> Vec<Waiting> {
        let mut late = Vec::new();
        while let Some((end, at)) = self.first_to_end()
            && end <= moment
        {
            self.leave_line(at);
            let share = &mut self.shares[at];
            while let Some(call) = share.calls.pop_front_if(|call| call.end <= moment) {
                share.updates -= call.claims.len();
                late.push(call);
            }
            self.stand_in_line(at);
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
