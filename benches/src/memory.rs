//! The in-memory backend against a bare map with an ordered index and a history, under one lock.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use persist::{Claim, EventQuery, JobQuery, JobState, Outcome, PersistBackend, SystemClock};
use persist_core::merge::Row;
use persist_memory::MemoryBackend;
use persist_tests::walk;
use uuid::Uuid;

use crate::Options;
use crate::contest::{Contender, contest};
use crate::slice::Slice;
use crate::verdict::Verdict;
use crate::workload;

/// Claims, made before the clock starts: lives of jobs.
fn claims(count: u64) -> Vec<Claim> {
    let update = |nth| workload::life(0, nth).check(&SystemClock);
    (0..count).map(|nth| update(nth).expect("it is valid")).collect()
}

struct Ours(Arc<Vec<Claim>>, Duration);

#[async_trait]
impl Contender for Ours {
    fn name(&self) -> String {
        "persist, memory".into()
    }

    fn callers(&self) -> u64 {
        1
    }

    async fn slice(&mut self) -> Slice {
        let (begun, mut slice) = (Instant::now(), Slice::default());
        while begun.elapsed() < self.1 {
            let store = Arc::new(MemoryBackend::new());
            let from = Instant::now();
            let mut applied = 0;
            for claim in self.0.iter() {
                let told = store.apply(std::slice::from_ref(claim)).await;
                let told = told.expect("memory takes all");
                applied += usize::from(matches!(told[..], [Outcome::Applied { .. }]));
            }
            slice.took += from.elapsed();
            slice.done += self.0.len() as u64;
            assert_eq!(applied, self.0.len(), "each claims a new slot");
            whole(store, &self.0).await;
        }
        slice.mean_us = slice.took.as_secs_f64() * 1e6 / slice.done as f64;
        slice
    }
}

/// The store holds a slot for each claim, and a row for each job, at its last state.
async fn whole(store: Arc<MemoryBackend>, claims: &[Claim]) {
    let store: Arc<dyn PersistBackend> = store;
    let jobs = walk::jobs(&store, JobQuery::default().limit(1_000)).await;
    let jobs = jobs.expect("they are read");
    let events = walk::events(&store, EventQuery::default().limit(1_000)).await;
    assert_eq!(events.expect("they are read").len(), claims.len());
    assert_eq!(jobs.len(), claims.len() / 3);
    assert!(jobs.iter().all(|job| job.state == JobState::Succeeded));
}

/// What somebody would write who needs no more than this: hashed as ours, and claims kept as they came, as ours.
#[derive(Default)]
struct Bare {
    rows: HashMap<Uuid, Row, RandomState>,
    by_age: BTreeSet<(i64, Uuid)>,
    history: HashMap<Uuid, Vec<Claim>, RandomState>,
}

impl Bare {
    /// Says whether the slot was free.
    fn record(&mut self, claim: &Claim) -> bool {
        let id = claim.subject().request_id();
        let slots = self.history.entry(id).or_default();
        if slots.iter().any(|slot| slot.rank() == claim.rank()) {
            return false;
        }
        if let Some(row) = self.rows.get_mut(&id) {
            row.join(claim);
        } else {
            self.by_age.insert((claim.at().timestamp_micros(), id));
            self.rows.insert(id, Row::first(claim));
        }
        slots.push(claim.clone());
        true
    }
}

struct Theirs(Arc<Vec<Claim>>, Duration);

#[async_trait]
impl Contender for Theirs {
    fn name(&self) -> String {
        "a bare map, index and history, one lock".into()
    }

    fn callers(&self) -> u64 {
        1
    }

    async fn slice(&mut self) -> Slice {
        let (begun, mut slice) = (Instant::now(), Slice::default());
        while begun.elapsed() < self.1 {
            let store = Mutex::new(Bare::default());
            let from = Instant::now();
            let mut applied = 0;
            for claim in self.0.iter() {
                applied += usize::from(store.lock().record(claim));
            }
            slice.took += from.elapsed();
            slice.done += self.0.len() as u64;
            assert_eq!(applied, self.0.len(), "each claims a new slot");
            let store = store.into_inner();
            let slots: usize = store.history.values().map(Vec::len).sum();
            assert_eq!(
                (slots, store.rows.len(), store.by_age.len()),
                (self.0.len(), self.0.len() / 3, self.0.len() / 3)
            );
        }
        slice.mean_us = slice.took.as_secs_f64() * 1e6 / slice.done as f64;
        slice
    }
}

/// Runs the contest of memory.
pub async fn run(options: &Options) -> Vec<Verdict> {
    let jobs = options.rows / 100;
    let claims = Arc::new(claims(jobs * 3));
    let contenders: Vec<Box<dyn Contender>> = vec![
        Box::new(Ours(Arc::clone(&claims), options.slice())),
        Box::new(Theirs(claims, options.slice())),
    ];
    vec![contest(options, "mem", contenders).await]
}
