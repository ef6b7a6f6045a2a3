//! The in-memory backend against a bare map with an ordered index and a history, under one lock.

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use persist::{Claim, EventQuery, JobQuery, JobState, Outcome, PersistBackend, SystemClock};
use persist_core::merge::{Brings, Row, Slot};
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

/// What somebody would write who needs no more than this.
struct Bare<H, S> {
    rows: HashMap<Uuid, Row, H>,
    by_age: BTreeSet<(i64, Uuid)>,
    history: HashMap<Uuid, Vec<S>, H>,
}

impl<H: BuildHasher, S: Brings> Bare<H, S> {
    /// Says whether the slot was free.
    fn record(&mut self, claim: &Claim, slot: impl FnOnce(&Claim) -> S) -> bool {
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
        slots.push(slot(claim));
        true
    }
}

/// How the rival keeps what it is given.
#[derive(Clone, Copy)]
enum Keeps {
    /// By the standard hash, its texts copied.
    Copies,
    /// As ours: by a fast hash, and claims as they came.
    Claims,
}

struct Theirs(Arc<Vec<Claim>>, Duration, Keeps);

impl Theirs {
    fn fill<H, S>(&self, slot: fn(&Claim) -> S) -> Duration
    where
        H: BuildHasher + Default,
        S: Brings,
    {
        let store = Mutex::new(Bare::<H, S> {
            rows: HashMap::default(),
            by_age: BTreeSet::new(),
            history: HashMap::default(),
        });
        let from = Instant::now();
        let mut applied = 0;
        for claim in self.0.iter() {
            applied += usize::from(store.lock().record(claim, slot));
        }
        let took = from.elapsed();
        assert_eq!(applied, self.0.len(), "each claims a new slot");
        let store = store.into_inner();
        let slots: usize = store.history.values().map(Vec::len).sum();
        assert_eq!(
            (slots, store.rows.len(), store.by_age.len()),
            (self.0.len(), self.0.len() / 3, self.0.len() / 3)
        );
        took
    }
}

#[async_trait]
impl Contender for Theirs {
    fn name(&self) -> String {
        let keeps = match self.2 {
            Keeps::Copies => "texts copied",
            Keeps::Claims => "claims shared, a fast hash",
        };
        format!("a bare map, index and history, one lock: {keeps}")
    }

    fn callers(&self) -> u64 {
        1
    }

    async fn slice(&mut self) -> Slice {
        let (begun, mut slice) = (Instant::now(), Slice::default());
        while begun.elapsed() < self.1 {
            slice.took += match self.2 {
                Keeps::Copies => self.fill::<std::hash::RandomState, _>(Slot::claimed_by),
                Keeps::Claims => self.fill::<RandomState, _>(Claim::clone),
            };
            slice.done += self.0.len() as u64;
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
        Box::new(Theirs(Arc::clone(&claims), options.slice(), Keeps::Copies)),
        Box::new(Theirs(claims, options.slice(), Keeps::Claims)),
    ];
    contest(options, "mem", contenders).await.into_iter().collect()
}
