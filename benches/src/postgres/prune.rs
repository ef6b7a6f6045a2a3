//! Callers of a store from which old jobs are pruned meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use persist::{JobState, Persist, Pruned, Retention, StateTable as _, SystemClock};
use sqlx::{Executor as _, Row as _};

use super::ours::{Load, load_from};
use super::server::{Server, cpu_of};
use crate::contest::Contender;
use crate::slice::Slice;
use crate::workload;

/// Slots of an old job: queued, running, succeeded.
const SLOTS: u64 = 3;
/// The age from which on a job is old. The old ones are of 2026-01; who writes now writes of now.
const AGE: Duration = Duration::from_secs(24 * 3_600);

/// A store of old jobs, and what was done to it.
pub(crate) struct Old {
    pub(crate) server: Arc<Server>,
    /// Old jobs that are left, as the prunes told.
    left: AtomicU64,
    /// Slots of those who write, as the answers told.
    written: AtomicU64,
    /// Slices, so that each writes slots of its own.
    slices: AtomicU64,
}

const EVENTS: &str = "INSERT INTO events (request_id, domain_name, rank, state, at, actor, repo_url, commit_sha, runs_on) \
    SELECT md5(n::text)::uuid, '', 4 + phase, (ARRAY[$2, $3, $4])[phase + 1 - phase / 3], \
    timestamptz '2026-01-01' + n * interval '1 second', 'bench', $5, $6, $7 \
    FROM generate_series(1, $1) n, unnest(ARRAY[0, 1, 3]) phase";
const JOBS: &str = "INSERT INTO jobs (request_id, repo_url, commit_sha, runs_on, state, created_at, updated_at, rank, \
    repo_url_rank, commit_sha_rank, runs_on_rank) SELECT request_id, repo_url, commit_sha, runs_on, state, at, at, rank, rank, \
    rank, rank FROM events WHERE rank = 7 ORDER BY seq";

impl Old {
    /// In a database that nobody else fills.
    pub(crate) async fn new(server: Arc<Server>, jobs: u64) -> Arc<Self> {
        server.fresh().await;
        let mut connection = server.connection().await;
        let events = sqlx::query(EVENTS)
            .bind(i64::try_from(jobs).expect("jobs can be counted"))
            .bind(JobState::Queued.name())
            .bind(JobState::Running.name())
            .bind(JobState::Succeeded.name())
            .bind(workload::REPO_URL)
            .bind(workload::COMMIT)
            .bind(workload::RUNS_ON);
        connection.execute(events).await.expect("the history is filled");
        for sql in [JOBS, "VACUUM (ANALYZE) jobs, events", "CHECKPOINT"] {
            connection.execute(sql).await.expect("it runs");
        }
        server.check(jobs * SLOTS).await;
        Arc::new(Self {
            server,
            left: jobs.into(),
            written: 0.into(),
            slices: 0.into(),
        })
    }

    fn retention() -> Retention {
        Retention::new().older_than(AGE)
    }

    fn went(&self, pruned: &Pruned) {
        assert_eq!(
            pruned.events,
            pruned.jobs * SLOTS,
            "jobs go with all of their history"
        );
        self.left.fetch_sub(pruned.jobs, Ordering::Relaxed);
    }

    /// The store holds what was acknowledged, and of the old what was not pruned.
    async fn check(&self) {
        let left = self.left.load(Ordering::Relaxed);
        let slots = left * SLOTS + self.written.load(Ordering::Relaxed);
        self.server.check(slots).await;
        let mut connection = self.server.connection().await;
        let sql = "SELECT count(*) FROM jobs WHERE updated_at < now() - interval '1 day'";
        let old = connection
            .fetch_one(sql)
            .await
            .expect("it is counted")
            .get::<i64, _>(0);
        assert_eq!(
            old.unsigned_abs(),
            left,
            "what was not told to be pruned is there"
        );
    }

    /// Prunes all that is left, as fast as it goes, and says how fast that was.
    pub(crate) async fn empty(&self) {
        let persist = self.server.persist().await;
        let (begun, before) = (Instant::now(), self.left.load(Ordering::Relaxed));
        let backend = persist.backend();
        let mut request = Self::retention().request(&SystemClock).expect("it is a request");
        loop {
            let pruned = backend.prune(&request).await.expect("it is pruned");
            self.went(&pruned);
            match pruned.next {
                Some(next) => request = request.after(Some(next)),
                None => break,
            }
        }
        persist.close().await.expect("it closes");
        assert_eq!(self.left.load(Ordering::Relaxed), 0, "nothing old is left");
        self.check().await;
        let took = begun.elapsed().as_secs_f64();
        println!(
            "  the {before} old jobs that were left: pruned in {took:.1} s without a pause, {:.0} a second",
            before as f64 / took
        );
    }
}

pub(crate) struct Beside {
    pub(crate) old: Arc<Old>,
    pub(crate) callers: u64,
    pub(crate) length: Duration,
    pub(crate) is_pruned: bool,
}

/// A run of retention as it is by default, until its time is up. How many jobs went.
async fn pruning(persist: &Persist, old: &Old, length: Duration) -> u64 {
    let begun = Instant::now();
    let mut jobs = 0;
    let each = |pruned: Option<&Pruned>| {
        if let Some(pruned) = pruned {
            old.went(pruned);
            jobs += pruned.jobs;
        }
        begun.elapsed() < length
    };
    let ran = Old::retention()
        .run(&*persist.backend(), &SystemClock, each)
        .await;
    ran.expect("it is pruned");
    jobs
}

#[async_trait]
impl Contender for Beside {
    fn name(&self) -> String {
        if self.is_pruned {
            "persist, beside a prune".into()
        } else {
            "persist, nobody prunes".into()
        }
    }

    fn callers(&self) -> u64 {
        self.callers
    }

    async fn slice(&mut self) -> Slice {
        let old = &self.old;
        let mut connection = old.server.connection().await;
        connection.execute("CHECKPOINT").await.expect("it runs");
        let persist = old.server.persist().await;
        let first = old.slices.fetch_add(1, Ordering::Relaxed) * 10_000;
        let before = old.server.cpu();
        let writing = load_from(&persist, first, self.callers, self.length, Load::Uniform);
        let ((mut slice, repeated), pruned) = if self.is_pruned {
            tokio::join!(writing, pruning(&persist, old, self.length))
        } else {
            (writing.await, 0)
        };
        cpu_of(&old.server, before, &mut slice);
        persist.close().await.expect("it closes");
        old.written.fetch_add(slice.done - repeated, Ordering::Relaxed);
        old.check().await;
        let a_second = pruned as f64 / self.length.as_secs_f64();
        slice.extras.insert("jobs pruned a second", a_second);
        slice
    }
}
