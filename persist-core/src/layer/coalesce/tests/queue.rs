//! The queue by itself, on a clock that the test moves.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::super::queue::{Batch, Queue, Waiting, share_of};
use super::gate::{claim, claim_of};
use super::shares::jobs_of;
use crate::Claim;
use crate::layer::{Coalesce, Ticket};
use crate::metrics::WriterMeter;

/// A flush comes to be held up, or what waits has waited long enough, at any moment between two looks.
#[test]
fn what_could_go_out_goes_out_or_has_a_moment_when_it_does() {
    for flights in 1..=3_u32 {
        let mut queue = Queue::new(&Coalesce::default());
        let begun = Instant::now();
        let at = |ms: u32| begun + Duration::from_millis(1) * ms;
        for (nth, job) in jobs_of(flights as usize).into_iter().enumerate() {
            queue.add(waiting(vec![claim(job)], at(0)));
            let moment = at(60 * nth as u32);
            assert!(queue.next(moment).is_some(), "{flights}: {nth}");
        }
        let last = jobs_of(5).pop().unwrap();
        queue.add(waiting(vec![claim(last)], at(125)));
        let mut now = at(125);
        while queue.next(now).is_none() {
            // Time goes on between the two questions.
            for later in (0..200).map(|ms| now + Duration::from_millis(1) * ms) {
                assert!(queue.look_again(later).is_some(), "{flights}: nothing wakes it");
            }
            let again = queue.look_again(now).unwrap();
            assert!(again > now, "{flights}: it spins");
            now = again;
        }
        assert_eq!(
            now,
            at([125, 135, 160][flights as usize - 1]),
            "{flights} in the air"
        );
    }
}

/// Who was answered comes back at once, so that what goes out together stays together.
#[test]
fn two_flushes_in_the_air_come_to_be_of_one_size() {
    let mut queue = Queue::new(&Coalesce::default());
    let now = Instant::now();
    let mut jobs = jobs_of(400).into_iter();
    let mut come = |queue: &mut Queue, count| {
        for job in jobs.by_ref().take(count) {
            queue.add(waiting(vec![claim(job)], now));
        }
    };
    let next = |queue: &mut Queue| queue.next(now).map(|batch| (batch.calls.len(), batch.flight));
    come(&mut queue, 1);
    let (size, lone) = next(&mut queue).unwrap();
    assert_eq!(size, 1);
    come(&mut queue, 199);
    let (size, large) = next(&mut queue).unwrap();
    assert_eq!(size, 100, "half of all");
    assert!(next(&mut queue).is_none(), "two are in the air");
    queue.back(&lone);
    come(&mut queue, 1);
    let (size, _) = next(&mut queue).unwrap();
    assert_eq!(size, 100, "what was left, and who came back");
    queue.back(&large);
    come(&mut queue, 100);
    assert_eq!(next(&mut queue).unwrap().0, 100);
}

/// A large call and a few small ones go out in one moment.
#[test]
fn of_two_flushes_of_one_moment_that_which_landed_is_taken_out() {
    let mut queue = Queue::new(&Coalesce::default());
    let now = Instant::now();
    let jobs = jobs_of(200);
    let before = now.checked_sub(Duration::from_millis(1)).unwrap();
    queue.add(waiting(vec![claim(jobs[0]); 512], before));
    for job in &jobs[1..41] {
        queue.add(waiting(vec![claim(*job)], now));
    }
    let large = queue.next(now).unwrap();
    let small = queue.next(now).unwrap();
    assert_eq!((large.calls.len(), small.calls.len()), (1, 40));
    queue.back(&small.flight);
    for job in &jobs[41..141] {
        queue.add(waiting(vec![claim(*job)], now));
    }
    assert_eq!(queue.next(now).unwrap().calls.len(), 100, "beside 512");
}

fn waiting(claims: Vec<Claim>, since: Instant) -> Waiting {
    let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let queued = WriterMeter::new("none").queued(claims.len());
    Waiting {
        claims,
        since,
        end: since + Duration::from_secs(10),
        ticket: Ticket::default(),
        reply: oneshot::channel().0,
        room,
        _queued: queued,
    }
}

/// Calls may come in another order than they began, by so much: their callers are threads, and wait for room.
const APART: Duration = Duration::from_millis(2);

/// What the test knows of a call that waits.
struct Known {
    share: usize,
    updates: usize,
    end: Instant,
    ticket: Ticket,
}

/// A queue, and beside it what must be in it: calls by their numbers, in the order in which they came.
struct Model {
    queue: Queue,
    known: BTreeMap<u32, Known>,
    flights: Vec<Batch>,
    ended: HashMap<u32, &'static str>,
}

impl Model {
    /// The number of a call is the attempt of its first claim.
    fn number(call: &Waiting) -> u32 {
        call.claims[0].attempt().get()
    }

    fn is_out(&self, share: usize) -> bool {
        let calls = self.flights.iter().flat_map(|batch| &batch.calls);
        calls.into_iter().any(|call| share_of(&call.claims) == share)
    }

    fn end(&mut self, call: &Waiting, how: &'static str) -> Known {
        let number = Self::number(call);
        assert_eq!(self.ended.insert(number, how), None, "{number} twice");
        self.known.remove(&number).expect("it waited")
    }

    fn next(&mut self, now: Instant) {
        let Some(batch) = self.queue.next(now) else { return };
        for call in &batch.calls {
            let known = self.end(call, "sent");
            assert!(!self.is_out(known.share), "its share is in the air");
            let is_passed = |(number, other): (&u32, &Known)| {
                *number < Self::number(call) && other.share == known.share && !other.ticket.is_withdrawn()
            };
            assert!(!self.known.iter().any(is_passed), "in the order of their coming");
        }
        let updates: usize = batch.calls.iter().map(|call| call.claims.len()).sum();
        assert!(updates <= 32 || batch.calls.len() == 1, "{updates} updates");
        self.flights.push(batch);
    }

    fn late(&mut self, now: Instant) {
        for call in self.queue.late(now) {
            assert!(self.end(&call, "late").end <= now);
        }
        // Those that were withdrawn leave when their turn comes, without a word.
        self.known
            .retain(|_, known| !known.ticket.is_withdrawn() || known.end > now);
        assert!(self.known.values().all(|known| known.end + APART > now));
    }

    /// What was withdrawn may be counted, or not any more.
    fn is_right(&self) {
        let ready = self.known.values().filter(|known| !self.is_out(known.share));
        let sure = ready.clone().filter(|known| !known.ticket.is_withdrawn());
        let (sure, ready) = [
            sure.map(|known| known.updates).sum::<usize>(),
            ready.map(|known| known.updates).sum(),
        ]
        .into();
        assert!(
            (sure..=ready).contains(&self.queue.ready()),
            "{} of {sure} to {ready}",
            self.queue.ready()
        );
        let first = self
            .known
            .values()
            .filter(|known| !known.ticket.is_withdrawn())
            .map(|known| known.end)
            .min();
        assert!(
            first.is_none()
                || self
                    .queue
                    .ends()
                    .is_some_and(|end| Some(end) <= first.map(|end| end + APART))
        );
    }
}

#[test]
fn whatever_comes_and_goes_each_call_leaves_once_and_in_its_turn() {
    let begun = Instant::now();
    let mut now = begun;
    let settings = Coalesce::default().batch(32).beside(5).flushers(4);
    let mut model = Model {
        queue: Queue::new(&settings),
        known: BTreeMap::new(),
        flights: Vec::new(),
        ended: HashMap::new(),
    };
    let jobs = jobs_of(12);
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut chance = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    };
    let mut number = 0;
    for _ in 0..50_000 {
        now += Duration::from_micros(chance(3_000) as u64);
        match chance(10) {
            0..=4 => {
                number += 1;
                let job = jobs[chance(jobs.len())];
                // One in some is larger than a flush.
                let updates = [1, 1, 1, 2, 9, 40][chance(6)];
                let claims = (0..updates).map(|nth| claim_of(job, number + nth)).collect();
                let mut call = waiting(claims, now - APART.mul_f64(chance(100) as f64 / 100.0));
                call.end = call.since + Duration::from_millis(40);
                let known = Known {
                    share: share_of(&call.claims),
                    updates: updates as usize,
                    end: call.end,
                    ticket: call.ticket.clone(),
                };
                model.known.insert(number, known);
                model.queue.add(call);
            }
            5 | 6 => model.next(now),
            7 | 8 if !model.flights.is_empty() => {
                let batch = model.flights.swap_remove(chance(model.flights.len()));
                model.queue.back(&batch.flight);
            }
            9 if chance(4) == 0 && !model.known.is_empty() => {
                let nth = chance(model.known.len());
                assert!(
                    model
                        .known
                        .values()
                        .nth(nth)
                        .is_some_and(|known| known.ticket.withdraw() || known.ticket.is_withdrawn())
                );
            }
            _ => model.late(now),
        }
        model.is_right();
    }
    now += Duration::from_secs(1);
    model.late(now);
    while let Some(batch) = model.flights.pop() {
        model.queue.back(&batch.flight);
    }
    assert!(model.queue.is_empty() && model.queue.ready() == 0);
    let how = |how: &str| model.ended.values().filter(|one| **one == how).count();
    assert!(
        how("sent") > 1_000 && how("late") > 1_000,
        "{} and {}",
        how("sent"),
        how("late")
    );
}
