//! Point reads.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Executor as _;

use super::server::Server;
use crate::contest::Contender;
use crate::slice::{Slice, closed_loop};
use crate::workload;

pub(crate) struct Reads {
    pub(crate) server: Arc<Server>,
    pub(crate) callers: u64,
    pub(crate) length: Duration,
}

/// Jobs that are read.
pub(crate) const READ_JOBS: u64 = 100_000;

impl Reads {
    async fn fill(&self) {
        self.server.fresh().await;
        let persist = self.server.persist().await;
        for from in (0..READ_JOBS).step_by(10_000) {
            let updates = from..READ_JOBS.min(from + 10_000);
            let updates = updates.map(|number| workload::queued(workload::job(number), 1).into());
            persist.record(updates.collect()).await.expect("it is recorded");
        }
        persist.close().await.expect("it closes");
        let mut connection = self.server.connection().await;
        connection.execute("VACUUM ANALYZE").await.expect("it runs");
    }
}

#[async_trait]
impl Contender for Reads {
    fn name(&self) -> String {
        "persist, point reads".into()
    }

    fn callers(&self) -> u64 {
        self.callers
    }

    async fn slice(&mut self) -> Slice {
        if self.server.slots().await != READ_JOBS {
            self.fill().await;
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
