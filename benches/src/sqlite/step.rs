//! One update as one writes it by hand: the slot, then the row.

use std::sync::atomic::{AtomicU64, Ordering};

use persist::{JobUpdate, SystemClock};
use rusqlite::{Connection, Result, params};

use crate::workload;

/// As durable as ours, and with those settings of ours that make it faster.
pub(crate) fn set_up(connection: &Connection) -> Result<()> {
    connection.set_prepared_statement_cache_capacity(128);
    let settings = [
        ("journal_mode", "WAL"),
        ("synchronous", "FULL"),
        ("cache_size", "-24576"),
        ("wal_autocheckpoint", "16000"),
    ];
    settings
        .into_iter()
        .try_for_each(|(name, value)| connection.pragma_update(None, name, value))
}

const EVENT: &str = "INSERT INTO events (seq, request_id, domain_name, rank, state, at, recorded_at, actor, \
    repo_url, commit_sha, runs_on) VALUES (?1, ?2, '', ?3, ?4, ?5, ?5, 'bench', ?6, ?7, ?8) \
    ON CONFLICT (request_id, domain_name, rank) DO NOTHING";
const JOB: &str = "INSERT INTO jobs (request_id, rank, state, created_at, updated_at, repo_url, commit_sha, runs_on, \
    repo_url_rank, commit_sha_rank, runs_on_rank) VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7, ?2, ?2, ?2) \
    ON CONFLICT (request_id) DO UPDATE SET rank = excluded.rank, state = excluded.state, \
    updated_at = excluded.updated_at WHERE excluded.rank > rank";

/// The next of a caller's updates, in the transaction that the connection is in.
pub(crate) fn step(connection: &Connection, update: JobUpdate, nth: u64) -> Result<()> {
    static SEQ: AtomicU64 = AtomicU64::new(1);
    let claim = update.check(&SystemClock).expect("it is valid");
    let (rank, state) = (claim.rank().get(), claim.state().name());
    let id = claim.subject().request_id();
    let id = id.as_bytes().as_slice();
    let at = claim.at().timestamp_micros();
    let is_first = nth.is_multiple_of(3);
    let of_first = |value: &'static str| is_first.then_some(value);
    let [repo_url, commit, runs_on] = [workload::REPO_URL, workload::COMMIT, workload::RUNS_ON].map(of_first);
    let seq = SEQ.fetch_add(1, Ordering::Relaxed).cast_signed();
    let mut event = connection.prepare_cached(EVENT)?;
    event.execute(params![seq, id, rank, state, at, repo_url, commit, runs_on])?;
    let mut job = connection.prepare_cached(JOB)?;
    job.execute(params![id, rank, state, at, repo_url, commit, runs_on])?;
    Ok(())
}

/// The same, in a transaction of its own.
pub(crate) fn step_in_one(connection: &Connection, update: JobUpdate, nth: u64) -> Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    step(connection, update, nth)?;
    connection.execute_batch("COMMIT")
}
