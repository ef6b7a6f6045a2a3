//! A sink that tells what it was given and waits for the test's word, and callers of a writer over it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

use crate::layer::{Coalesce, Sink, Writer};
use crate::{Claim, Error, ErrorKind, JobState, JobUpdate, Outcome, Result, SystemClock};

/// Claims of this job are refused as invalid, the next has a damaged row, those of the third make the sink panic,
/// those of the fourth lose an answer, and those of the last never get any.
pub(super) const BAD: u128 = 1_000_000;
pub(super) const DAMAGED: u128 = 1_000_001;
pub(super) const PANICS: u128 = 1_000_002;
pub(super) const SHORT: u128 = 1_000_003;
pub(super) const FREEZES: u128 = 1_000_004;

/// Each flush takes a permit; what it was given is kept.
pub(super) struct Gate {
    pub(super) permits: Semaphore,
    begun: watch::Sender<usize>,
    pub(super) flushes: Mutex<Vec<Vec<u128>>>,
    /// All claims in the order in which their flushes began.
    pub(super) claims: Mutex<Vec<Claim>>,
    pub(super) failure: Mutex<Option<ErrorKind>>,
}

impl Gate {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            permits: Semaphore::new(0),
            begun: watch::Sender::new(0),
            flushes: Mutex::default(),
            claims: Mutex::default(),
            failure: Mutex::default(),
        })
    }

    pub(super) fn open(&self, flushes: usize) {
        self.permits.add_permits(flushes);
    }

    /// Until so many flushes have begun; a minute of the test's clock is too long.
    pub(super) async fn begun(&self, flushes: usize) {
        let mut begun = self.begun.subscribe();
        let waited = timeout(Duration::from_secs(60), begun.wait_for(|begun| *begun >= flushes)).await;
        waited.expect("so many flushes begin").unwrap();
    }

    pub(super) fn flushes(&self) -> Vec<Vec<u128>> {
        self.flushes.lock().clone()
    }
}

fn number(claim: &Claim) -> u128 {
    claim.subject().request_id().as_u128()
}

#[async_trait]
impl Sink for Gate {
    async fn flush(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        let numbers: Vec<_> = claims.iter().map(number).collect();
        self.flushes.lock().push(numbers.clone());
        self.claims.lock().extend_from_slice(claims);
        self.begun.send_modify(|begun| *begun += 1);
        if numbers.contains(&FREEZES) {
            std::future::pending::<()>().await;
        }
        self.permits.acquire().await.unwrap().forget();
        assert!(!numbers.contains(&PANICS), "made to panic");
        if numbers.contains(&BAD) {
            return Err(Error::invalid("state", "made to fail"));
        }
        if numbers.contains(&DAMAGED) {
            return Err(Error::new(ErrorKind::Corrupt, "made to fail").with("request_id", DAMAGED));
        }
        if let Some(kind) = *self.failure.lock() {
            return Err(Error::new(kind, "made to fail").with("sqlstate", "57P01"));
        }
        // An outcome that tells whose it is.
        let outcome = |number: &u128| Outcome::Applied {
            created: number.is_multiple_of(2),
        };
        let known = numbers.iter().filter(|number| **number != SHORT);
        Ok(known.map(outcome).collect())
    }
}

pub(super) fn claim(number: u128) -> Claim {
    claim_of(number, 1)
}

pub(super) fn claim_of(number: u128, attempt: u32) -> Claim {
    let update = JobUpdate::new(Uuid::from_u128(number), JobState::Queued).attempt(attempt);
    update.check(&SystemClock).unwrap()
}

pub(super) fn outcomes(numbers: impl IntoIterator<Item = u128>) -> Vec<Outcome> {
    let outcome = |number: u128| Outcome::Applied {
        created: number.is_multiple_of(2),
    };
    numbers.into_iter().map(outcome).collect()
}

pub(super) type Call = JoinHandle<Result<Vec<Outcome>>>;

/// Calls, and waits until the call stands in the queue or in the air.
pub(super) async fn call(writer: &Arc<Writer>, numbers: impl IntoIterator<Item = u128>) -> Call {
    call_with(writer, numbers.into_iter().map(claim).collect()).await
}

/// As [`call`], with these claims.
pub(super) async fn call_with(writer: &Arc<Writer>, claims: Vec<Claim>) -> Call {
    let depth = writer.depth() + claims.len();
    let called = tokio::spawn({
        let writer = Arc::clone(writer);
        async move { writer.apply(&claims).await }
    });
    while writer.depth() < depth {
        tokio::task::yield_now().await;
    }
    called
}

pub(super) fn writer(gate: &Arc<Gate>, settings: Coalesce) -> Arc<Writer> {
    Arc::new(Writer::new(Arc::clone(gate), settings))
}
