//! Our side: callers of one handle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use persist::{Outcome, Persist};

use super::server::Server;
use crate::contest::Contender;
use crate::import::{LANES, import};
use crate::slice::{Slice, closed_loop};
use crate::workload;

/// Whose updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// A new attempt of any of [`workload::JOBS`].
    Uniform,
    /// A new attempt of one of [`workload::HOT`] jobs.
    Hot,
    /// Each caller leads job after job through its life.
    Lives,
}

pub(crate) struct Ours {
    pub(crate) server: Arc<Server>,
    pub(crate) callers: u64,
    pub(crate) length: Duration,
    pub(crate) load: Load,
}

#[async_trait]
impl Contender for Ours {
    fn name(&self) -> String {
        match self.load {
            Load::Uniform => "persist".into(),
            Load::Hot => "persist, a hundred hot jobs".into(),
            Load::Lives => "persist, lives of jobs".into(),
        }
    }

    fn callers(&self) -> u64 {
        self.callers
    }

    async fn slice(&mut self) -> Slice {
        self.server.fresh().await;
        let persist = self.server.persist().await;
        let (mut slice, repeated) = load(&persist, self.callers, self.length, self.load).await;
        let health = persist.backend().health().await.expect("it tells");
        persist.close().await.expect("it closes");
        self.server.check(slice.done - repeated).await;
        slice
            .extras
            .insert("updates a flush", health.flushed as f64 / health.flushes as f64);
        slice
    }
}

/// So many callers for so long, and how many of their updates had been made before.
pub(crate) async fn load(persist: &Persist, callers: u64, length: Duration, load: Load) -> (Slice, u64) {
    load_from(persist, 0, callers, length, load).await
}

/// The same with callers from this number on, who make other updates.
pub(crate) async fn load_from(
    persist: &Persist,
    first: u64,
    callers: u64,
    length: Duration,
    load: Load,
) -> (Slice, u64) {
    let attempts: Arc<Vec<AtomicU32>> = Arc::new((0..workload::HOT).map(|_| AtomicU32::new(1)).collect());
    let handle = persist.clone();
    let repeated = Arc::new(AtomicU64::new(0));
    let repetitions = Arc::clone(&repeated);
    let slice = closed_loop(callers, length, move |caller, nth| {
        let caller = first + caller;
        let update = match load {
            Load::Uniform => {
                let (id, attempt) = workload::uniform(caller, nth);
                workload::queued(id, attempt)
            }
            Load::Hot => {
                let job = workload::random(caller << 32 | nth) % workload::HOT;
                let attempt = attempts[job as usize].fetch_add(1, Ordering::Relaxed);
                workload::queued(workload::job(job), attempt)
            }
            Load::Lives => workload::life(caller, nth),
        };
        let (persist, repeated) = (handle.clone(), Arc::clone(&repetitions));
        async move {
            let told = persist.record_job_state(update).await.expect("it is recorded");
            match told {
                Outcome::Applied { .. } => {}
                Outcome::Late { .. } if load != Load::Lives => {}
                // It may draw an attempt of a job twice.
                Outcome::Unchanged { .. } if load == Load::Uniform => {
                    repeated.fetch_add(1, Ordering::Relaxed);
                }
                outcome => panic!("a new slot, and the answer is {outcome}"),
            }
        }
    })
    .await;
    (slice, repeated.load(Ordering::Relaxed))
}

/// Chunks of whole lives.
pub(crate) struct Import {
    pub(crate) server: Arc<Server>,
    pub(crate) length: Duration,
}

#[async_trait]
impl Contender for Import {
    fn name(&self) -> String {
        "persist, import".into()
    }

    fn callers(&self) -> u64 {
        LANES
    }

    async fn slice(&mut self) -> Slice {
        self.server.fresh().await;
        let persist = self.server.persist().await;
        let mut slice = import(&persist, self.length).await;
        let health = persist.backend().health().await.expect("it tells");
        persist.close().await.expect("it closes");
        self.server.check(slice.done).await;
        slice
            .extras
            .insert("updates a flush", health.flushed as f64 / health.flushes as f64);
        slice
    }
}
