//! Our side: callers of one handle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use persist::{OnUnavailable, Persist};
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};

use super::Server;
use crate::contest::Contender;
use crate::slice::{Slice, closed_loop};
use crate::workload;

impl Server {
    pub(crate) async fn persist(&self) -> Persist {
        let persist = Persist::builder(Some(self.url())).on_unavailable(OnUnavailable::Fail);
        persist.connect().await.expect("it connects")
    }

    async fn connection(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.expect("it connects")
    }

    /// Empty tables, and nothing left of the contender before in the way.
    pub(crate) async fn fresh(&self) {
        let mut connection = self.connection().await;
        for sql in ["TRUNCATE jobs, vms, events", "CHECKPOINT"] {
            connection.execute(sql).await.expect("it runs");
        }
    }

    /// Slots of the history.
    pub(crate) async fn slots(&self) -> u64 {
        let mut connection = self.connection().await;
        let row = connection.fetch_one("SELECT count(*) FROM events").await;
        row.expect("it is counted").get::<i64, _>(0).unsigned_abs()
    }

    /// Rows to read: jobs of the uniform workload.
    pub(crate) async fn filled(&self, jobs: u64) {
        self.fresh().await;
        let persist = self.persist().await;
        for from in (0..jobs).step_by(10_000) {
            let updates = from..jobs.min(from + 10_000);
            let updates = updates.map(|number| workload::queued(workload::job(number), 1).into());
            persist.record(updates.collect()).await.expect("it is recorded");
        }
        persist.close().await.expect("it closes");
        let mut connection = self.connection().await;
        connection.execute("VACUUM ANALYZE").await.expect("it runs");
    }
}

/// Whose updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// A new attempt of any of a million jobs.
    Uniform,
    /// A new attempt of one of a hundred jobs.
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

    async fn slice(&mut self) -> Slice {
        self.server.fresh().await;
        let persist = self.server.persist().await;
        let attempts: Arc<Vec<AtomicU32>> = Arc::new((0..workload::HOT).map(|_| AtomicU32::new(1)).collect());
        let load = self.load;
        let handle = persist.clone();
        let slice = closed_loop(self.callers, self.length, move |caller, nth| {
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
            let persist = handle.clone();
            async move {
                persist.record_job_state(update).await.expect("it is recorded");
            }
        });
        let slice = slice.await;
        persist.close().await.expect("it closes");
        let stored = self.server.slots().await;
        // The uniform load may draw the same attempt of a job twice.
        let repeated = if load == Load::Uniform {
            slice.done / 1_000
        } else {
            0
        };
        assert!(
            (slice.done - repeated..=slice.done).contains(&stored),
            "{} acknowledged, {stored} stored",
            slice.done
        );
        slice
    }
}

pub(crate) struct Reads {
    pub(crate) server: Arc<Server>,
    pub(crate) callers: u64,
    pub(crate) length: Duration,
}

/// Jobs that are read.
pub(crate) const READ_JOBS: u64 = 100_000;

#[async_trait]
impl Contender for Reads {
    fn name(&self) -> String {
        "persist, point reads".into()
    }

    async fn slice(&mut self) -> Slice {
        if self.server.slots().await != READ_JOBS {
            self.server.filled(READ_JOBS).await;
        }
        let persist = self.server.persist().await;
        let handle = persist.clone();
        let slice = closed_loop(self.callers, self.length, move |caller, nth| {
            let persist = handle.clone();
            async move {
                let id = workload::job(workload::random(caller << 32 | nth) % READ_JOBS);
                let job = persist.job(id).await.expect("it is read");
                assert!(job.is_some(), "it is there");
            }
        })
        .await;
        persist.close().await.expect("it closes");
        slice
    }
}
