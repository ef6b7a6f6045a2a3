//! The task that decides what goes out, and the flushes.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use super::queue::{Batch, Flight, Queue, Waiting};
use super::settings::Coalesce;
use super::writer::{Sink, late};
use crate::claim::Claim;
use crate::error::{Error, ErrorKind, UpdateOutcome};
use crate::layer::Counts;

/// How often the callers that the last flush has answered get a turn before the next one goes out.
const TURNS: usize = 4;

pub(super) struct Flusher<S> {
    sink: Arc<S>,
    settings: Coalesce,
    counts: Arc<Counts>,
    queue: Queue,
    out: JoinSet<()>,
    flights: Vec<(Id, Flight)>,
}

impl<S: Sink> Flusher<S> {
    pub(super) fn new(sink: Arc<S>, settings: Coalesce, counts: Arc<Counts>) -> Self {
        let queue = Queue::new(&settings);
        Self {
            sink,
            settings,
            counts,
            queue,
            out: JoinSet::new(),
            flights: Vec::new(),
        }
    }

    /// Runs until all senders are gone and everything is answered.
    pub(super) async fn run(mut self, mut calls: mpsc::UnboundedReceiver<Waiting>) {
        let mut come = Vec::new();
        let mut open = true;
        let mut now = Instant::now();
        while open || !self.queue.is_empty() {
            let next = [self.queue.ends(), self.queue.look_again(now)]
                .into_iter()
                .flatten()
                .min();
            tokio::select! {
                count = calls.recv_many(&mut come, self.settings.batch), if open => {
                    open = count > 0;
                    self.gather(&mut calls, &mut come).await;
                }
                Some(done) = self.out.join_next_with_id() => self.landed(match done {
                    Ok((id, ())) => id,
                    Err(panicked) => panicked.id(),
                }),
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => self.expire(),
            }
            now = Instant::now();
            while let Some(batch) = self.queue.next(now) {
                self.send(batch);
            }
        }
    }

    /// Those who were just answered come back at once: a turn for them makes one flush of what would be two.
    async fn gather(&mut self, calls: &mut mpsc::UnboundedReceiver<Waiting>, come: &mut Vec<Waiting>) {
        for _ in 0..TURNS {
            let before = come.len();
            come.drain(..).for_each(|call| self.queue.add(call));
            if before == 0 || self.queue.ready() >= self.settings.batch {
                return;
            }
            tokio::task::yield_now().await;
            while come.len() < self.settings.batch {
                match calls.try_recv() {
                    Ok(call) => come.push(call),
                    Err(_) => break,
                }
            }
        }
        come.drain(..).for_each(|call| self.queue.add(call));
    }

    fn send(&mut self, batch: Batch) {
        let Batch { calls, flight, .. } = batch;
        self.note_age(&calls);
        let task = self
            .out
            .spawn(flush(Arc::clone(&self.sink), Arc::clone(&self.counts), calls));
        self.flights.push((task.id(), flight));
    }

    fn note_age(&self, calls: &[Waiting]) {
        if let Some(oldest) = calls.iter().map(|call| call.since).min() {
            self.counts.meter().waited(oldest.elapsed());
        }
    }

    fn landed(&mut self, id: Id) {
        if let Some(at) = self.flights.iter().position(|(out, _)| *out == id) {
            let (_, flight) = self.flights.swap_remove(at);
            self.queue.back(&flight);
        }
    }

    fn expire(&mut self) {
        let gone = self.queue.late(Instant::now());
        self.note_age(&gone);
        for call in gone {
            // Its caller says the same of one that it has withdrawn.
            answer(call, Err(late(&self.settings)));
        }
    }
}

fn answer(call: Waiting, result: crate::Result<Vec<crate::Outcome>>) {
    // Room first, so that whoever hears the answer finds it. A caller that went away does not mind.
    drop(call.room);
    let _ = call.reply.send(result);
}

fn refuse(calls: Vec<Waiting>, error: &Error) {
    for call in calls {
        answer(call, Err(error.clone()));
    }
}

/// Applies the updates of all calls together. What the sink refuses for the sake of one of them is halved until
/// only the call that brought that fails.
async fn flush<S: Sink>(sink: Arc<S>, counts: Arc<Counts>, calls: Vec<Waiting>) {
    let mut rest = vec![calls];
    while let Some(mut calls) = rest.pop() {
        let sizes: Vec<_> = calls.iter().map(|call| call.claims.len()).collect();
        let claims: Vec<Claim> = calls
            .iter_mut()
            .flat_map(|call| std::mem::take(&mut call.claims))
            .collect();
        let begun = Instant::now();
        let flushed = sink.flush(&claims).await;
        counts
            .meter()
            .flushed(claims.len(), begun.elapsed(), flushed.is_ok());
        match flushed {
            Ok(outcomes) if outcomes.len() != claims.len() => {
                let what = format!("{} answers came for {} updates", outcomes.len(), claims.len());
                let error = Error::new(ErrorKind::Internal, what).outcome_as(UpdateOutcome::Unknown);
                refuse(calls, &error);
            }
            Ok(outcomes) => {
                counts.add(claims.len());
                let mut outcomes = outcomes.into_iter();
                for (call, count) in calls.into_iter().zip(sizes) {
                    answer(call, Ok(outcomes.by_ref().take(count).collect()));
                }
            }
            Err(error) if error.is_of_one_claim() && calls.len() > 1 => {
                let mut claims = claims.into_iter();
                for (call, count) in calls.iter_mut().zip(sizes) {
                    call.claims = claims.by_ref().take(count).collect();
                }
                let second = calls.split_off(calls.len() / 2);
                rest.extend([second, calls]);
            }
            Err(error) => refuse(calls, &error),
        }
    }
}
