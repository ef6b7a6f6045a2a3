//! Our side: callers who lead jobs through their lives, an import, and reads beside writers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use persist::{JobState, Outcome, Persist};

use super::store::Store;
use crate::contest::Contender;
use crate::import::{LANES, import};
use crate::slice::{Slice, closed_loop};
use crate::workload;

pub(crate) struct Ours {
    pub(crate) callers: u64,
    /// Whether the file can't give free pages back.
    pub(crate) is_plain: bool,
    pub(crate) length: Duration,
}

#[async_trait]
impl Contender for Ours {
    fn name(&self) -> String {
        if self.is_plain {
            "persist, SQLite FULL, pages stay".into()
        } else {
            "persist, SQLite FULL".into()
        }
    }

    fn callers(&self) -> u64 {
        self.callers
    }

    async fn slice(&mut self) -> Slice {
        let store = if self.is_plain {
            Store::plain().await
        } else {
            Store::new().await
        };
        let persist = store.open().await;
        let mut slice = writes(&persist, self.callers, self.length).await;
        let health = persist.backend().health().await.expect("it tells");
        persist.close().await.expect("it closes");
        store.check(slice.done);
        slice
            .extras
            .insert("updates a flush", health.flushed as f64 / health.flushes as f64);
        slice
    }
}

/// Each caller leads job after job through its life.
async fn writes(persist: &Persist, callers: u64, length: Duration) -> Slice {
    let persist = persist.clone();
    closed_loop(callers, length, move |caller, nth| {
        let persist = persist.clone();
        async move {
            let told = persist.record_job_state(workload::life(caller, nth)).await;
            let told = told.expect("it is recorded");
            assert!(
                matches!(told, Outcome::Applied { .. }),
                "a new slot, and the answer is {told}"
            );
        }
    })
    .await
}

pub(crate) struct Import(pub(crate) Duration);

#[async_trait]
impl Contender for Import {
    fn name(&self) -> String {
        "persist, SQLite FULL, import".into()
    }

    fn callers(&self) -> u64 {
        LANES
    }

    async fn slice(&mut self) -> Slice {
        let store = Store::new().await;
        let persist = store.open().await;
        let slice = import(&persist, self.0).await;
        persist.close().await.expect("it closes");
        store.check(slice.done);
        slice
    }
}

/// Reads of jobs that are there, from a copy of one store, while so many write.
pub(crate) struct Reads {
    pub(crate) filled: Arc<Store>,
    pub(crate) jobs: u64,
    pub(crate) readers: u64,
    pub(crate) writers: u64,
    pub(crate) length: Duration,
}

#[async_trait]
impl Contender for Reads {
    fn name(&self) -> String {
        match self.writers {
            0 => "the same reads, nobody writes".into(),
            writers => format!("reads while {writers} write"),
        }
    }

    fn callers(&self) -> u64 {
        self.readers
    }

    async fn slice(&mut self) -> Slice {
        let store = self.filled.copy();
        let persist = store.open().await;
        let (handle, jobs) = (persist.clone(), self.jobs);
        let reading = closed_loop(self.readers, self.length, move |caller, nth| {
            let persist = handle.clone();
            async move {
                let id = workload::job(workload::random(caller << 32 | nth) % jobs);
                let job = persist.job(id).await.expect("it is read").expect("it is there");
                assert_eq!((job.request_id, job.state), (id, JobState::Queued));
            }
        });
        let writing = writes(&persist, self.writers, self.length);
        let (mut reads, writes) = tokio::join!(reading, writing);
        persist.close().await.expect("it closes");
        store.check(self.jobs + writes.done);
        reads.extras.insert("updates a second beside", writes.rate());
        reads
    }
}
