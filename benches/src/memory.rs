//! The in-memory backend against a bare map with an ordered index and a history, under one lock.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use persist::{Claim, PersistBackend as _, SystemClock};
use persist_core::merge::{Row, Slot};
use persist_memory::MemoryBackend;
use uuid::Uuid;

use crate::Options;
use crate::contest::{Contender, Verdict, contest};
use crate::slice::Slice;
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

    async fn slice(&mut self) -> Slice {
        let (begun, mut slice) = (Instant::now(), Slice::default());
        while begun.elapsed() < self.1 {
            let store = MemoryBackend::new();
            let from = Instant::now();
            for claim in self.0.iter() {
                let told = store.apply(std::slice::from_ref(claim)).await;
                told.expect("memory takes all");
            }
            slice.took += from.elapsed();
            slice.done += self.0.len() as u64;
        }
        slice.mean_us = slice.took.as_secs_f64() * 1e6 / slice.done as f64;
        slice
    }
}

/// What somebody would write who needs no more than this.
#[derive(Default)]
struct Bare {
    rows: HashMap<Uuid, Row>,
    by_age: BTreeSet<(i64, Uuid)>,
    history: HashMap<Uuid, Vec<Slot>>,
}

impl Bare {
    fn record(&mut self, claim: &Claim) {
        let id = claim.subject().request_id();
        let slots = self.history.entry(id).or_default();
        if slots.iter().any(|slot| slot.rank == claim.rank()) {
            return;
        }
        let slot = Slot::claimed_by(claim);
        if let Some(row) = self.rows.get_mut(&id) {
            row.join(&slot);
        } else {
            self.by_age.insert((claim.at().timestamp_micros(), id));
            self.rows.insert(id, Row::first(&slot));
        }
        slots.push(slot);
    }
}

struct Theirs(Arc<Vec<Claim>>, Duration);

#[async_trait]
impl Contender for Theirs {
    fn name(&self) -> String {
        "a bare map, index and history, one lock".into()
    }

    async fn slice(&mut self) -> Slice {
        let (begun, mut slice) = (Instant::now(), Slice::default());
        while begun.elapsed() < self.1 {
            let store = Mutex::new(Bare::default());
            let from = Instant::now();
            for claim in self.0.iter() {
                store.lock().record(claim);
            }
            slice.took += from.elapsed();
            slice.done += self.0.len() as u64;
            assert_eq!(store.lock().by_age.len(), self.0.len().div_ceil(3));
        }
        slice.mean_us = slice.took.as_secs_f64() * 1e6 / slice.done as f64;
        slice
    }
}

/// Runs the contest of memory.
pub async fn run(options: &Options) -> Vec<Verdict> {
    let claims = Arc::new(claims(30_000));
    let contenders: Vec<Box<dyn Contender>> = vec![
        Box::new(Ours(Arc::clone(&claims), options.slice())),
        Box::new(Theirs(claims, options.slice())),
    ];
    vec![contest("mem", 1, options.rounds, contenders).await]
}
