//! SQLite against what one writes with rusqlite by hand.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use persist::{OnUnavailable, Persist};
use rusqlite::{Connection, params};
use tempfile::TempDir;
use uuid::Uuid;

use crate::Options;
use crate::contest::{Contender, Verdict, contest};
use crate::slice::{Slice, closed_loop};
use crate::workload;

/// A file of its own for each slice, with our schema.
struct Store {
    _folder: TempDir,
    file: PathBuf,
    persist: Persist,
}

impl Store {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the file");
        let file = folder.path().join("bench.db");
        let url = format!("sqlite://{}?mode=rwc", file.display());
        let persist = Persist::builder(Some(url)).on_unavailable(OnUnavailable::Fail);
        let persist = persist.connect().await.expect("it opens");
        Self {
            _folder: folder,
            file,
            persist,
        }
    }

    /// The file for another's connection.
    fn connection(&self) -> Connection {
        let connection = Connection::open(&self.file).expect("it opens");
        connection.set_prepared_statement_cache_capacity(128);
        for (name, value) in [("journal_mode", "WAL"), ("synchronous", "FULL")] {
            let set = connection.pragma_update(None, name, value);
            set.expect("it is set");
        }
        connection
    }

    fn slots(&self) -> u64 {
        let count = self
            .connection()
            .query_row("SELECT count(*) FROM events", [], |row| row.get(0));
        count.map(i64::unsigned_abs).expect("it is counted")
    }
}

struct Ours {
    callers: u64,
    readers: u64,
    length: Duration,
}

#[async_trait]
impl Contender for Ours {
    fn name(&self) -> String {
        "persist, SQLite FULL".into()
    }

    async fn slice(&mut self) -> Slice {
        let store = Store::new().await;
        let reading = (self.readers > 0).then(|| reads(&store.persist, self.readers, self.length));
        let persist = store.persist.clone();
        let writing = closed_loop(self.callers, self.length, move |caller, nth| {
            let persist = persist.clone();
            async move {
                let recorded = persist.record_job_state(workload::life(caller, nth)).await;
                recorded.expect("it is recorded");
            }
        });
        let (slice, reads) = match reading {
            Some(reading) => {
                let (slice, reads) = tokio::join!(writing, reading);
                (slice, Some(reads))
            }
            None => (writing.await, None),
        };
        assert_eq!(store.slots(), slice.done, "what was acknowledged is stored");
        store.persist.close().await.expect("it closes");
        reads.unwrap_or(slice)
    }
}

/// Point reads of jobs that may not be there yet: each a look into an index.
async fn reads(persist: &Persist, readers: u64, length: Duration) -> Slice {
    let persist = persist.clone();
    closed_loop(readers, length, move |caller, nth| {
        let persist = persist.clone();
        async move {
            let id = Uuid::from_u64_pair(caller + 1, nth % 1_000 + 1);
            persist.job(id).await.expect("it is read");
        }
    })
    .await
}

/// Reads without anybody who writes.
struct ReadOnly(u64, Duration);

#[async_trait]
impl Contender for ReadOnly {
    fn name(&self) -> String {
        "the same reads, nobody writes".into()
    }

    async fn slice(&mut self) -> Slice {
        let store = Store::new().await;
        let slice = reads(&store.persist, self.0, self.1).await;
        store.persist.close().await.expect("it closes");
        slice
    }
}

/// Upsert and history by hand, one connection.
struct Rusqlite {
    length: Duration,
    in_one: bool,
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

    async fn slice(&mut self) -> Slice {
        let store = Store::new().await;
        store.persist.close().await.expect("it closes");
        let (connection, length, in_one) = (store.connection(), self.length, self.in_one);
        let work = tokio::task::spawn_blocking(move || by_hand(&connection, length, in_one));
        let slice = work.await.expect("it runs");
        assert_eq!(store.slots(), slice.done, "what was acknowledged is stored");
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

/// Runs the contests of SQLite.
pub async fn run(options: &Options) -> Vec<Verdict> {
    let length = options.slice();
    let mut verdicts = Vec::new();
    for callers in [64, 2_048] {
        let contenders: Vec<Box<dyn Contender>> = vec![
            Box::new(Ours {
                callers,
                readers: 0,
                length,
            }),
            Box::new(Rusqlite {
                length,
                in_one: false,
            }),
            Box::new(Rusqlite { length, in_one: true }),
        ];
        verdicts.push(contest("lite-callers", callers, options.rounds, contenders).await);
    }
    let mixed: Vec<Box<dyn Contender>> = vec![
        Box::new(Ours {
            callers: 64,
            readers: 4,
            length,
        }),
        Box::new(ReadOnly(4, length)),
    ];
    verdicts.push(contest("lite-mixed (reads)", 64, options.rounds, mixed).await);
    verdicts
}
