//! What one writes with rusqlite without us: upsert and history, one connection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::store::Store;
use crate::contest::Contender;
use crate::slice::Slice;
use crate::workload;

pub(crate) struct Rusqlite {
    pub(crate) length: Duration,
    pub(crate) in_one: bool,
}

#[async_trait]
impl Contender for Rusqlite {
    fn name(&self) -> String {
        if self.in_one {
            "rusqlite, all in one transaction".into()
        } else {
            "rusqlite, a transaction per update".into()
        }
    }

    fn callers(&self) -> u64 {
        1
    }

    async fn slice(&mut self) -> Slice {
        let store = Store::new().await;
        let (connection, length, in_one) = (store.connection(), self.length, self.in_one);
        let work = tokio::task::spawn_blocking(move || by_hand(&connection, length, in_one));
        let slice = work.await.expect("it runs");
        store.check(slice.done);
        slice
    }
}

const EVENT: &str = "INSERT INTO events (seq, request_id, domain_name, rank, state, at, recorded_at, actor, \
    repo_url, commit_sha, runs_on) VALUES (?1, ?2, '', ?3, ?4, ?5, ?5, 'bench', ?6, ?7, ?8) \
    ON CONFLICT (request_id, domain_name, rank) DO NOTHING";
const JOB: &str = "INSERT INTO jobs (request_id, rank, state, created_at, updated_at, repo_url, commit_sha, runs_on, \
    repo_url_rank, commit_sha_rank, runs_on_rank) VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7, ?2, ?2, ?2) \
    ON CONFLICT (request_id) DO UPDATE SET rank = excluded.rank, state = excluded.state, \
    updated_at = excluded.updated_at WHERE excluded.rank > rank";

fn by_hand(connection: &Connection, length: Duration, in_one: bool) -> Slice {
    static SEQ: AtomicU64 = AtomicU64::new(1);
    let run = |sql: &str| connection.execute_batch(sql).expect("it runs");
    let begun = Instant::now();
    let mut slice = Slice::default();
    if in_one {
        run("BEGIN IMMEDIATE");
    }
    while begun.elapsed() < length {
        let asked = Instant::now();
        let claim = workload::life(0, slice.done).check(&persist::SystemClock);
        let claim = claim.expect("it is valid");
        if !in_one {
            run("BEGIN IMMEDIATE");
        }
        let (id, rank, state) = (
            claim.subject().request_id(),
            claim.rank().get(),
            claim.state().name(),
        );
        let at = claim.at().timestamp_micros();
        let is_first = slice.done % 3 == 0;
        let of_first = |value: &'static str| is_first.then_some(value);
        let attributes = [workload::REPO_URL, workload::COMMIT, workload::RUNS_ON].map(of_first);
        let [repo_url, commit, runs_on] = attributes;
        let seq = SEQ.fetch_add(1, Ordering::Relaxed).cast_signed();
        let mut event = connection.prepare_cached(EVENT).expect("it prepares");
        let bound = params![
            seq,
            id.as_bytes().as_slice(),
            rank,
            state,
            at,
            repo_url,
            commit,
            runs_on
        ];
        event.execute(bound).expect("it inserts");
        let mut job = connection.prepare_cached(JOB).expect("it prepares");
        let bound = params![
            id.as_bytes().as_slice(),
            rank,
            state,
            at,
            repo_url,
            commit,
            runs_on
        ];
        job.execute(bound).expect("it upserts");
        if !in_one {
            run("COMMIT");
        }
        slice.done += 1;
        let took = asked.elapsed().as_micros();
        slice.latencies_us.push(u32::try_from(took).unwrap_or(u32::MAX));
    }
    if in_one {
        run("COMMIT");
    }
    slice.took = begun.elapsed();
    slice.mean_us = slice.took.as_secs_f64() * 1e6 / slice.done as f64;
    slice.latencies_us.sort_unstable();
    slice
}
