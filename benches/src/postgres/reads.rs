//! Reads of a store of many jobs: one by its key, and pages, the first and the last.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use persist::{JobQuery, JobState};
use uuid::Uuid;

use super::filled::{Filled, repo_url, state};
use crate::contest::Contender;
use crate::slice::{Slice, closed_loop};
use crate::workload;

pub(crate) struct Points {
    pub(crate) filled: Arc<Filled>,
    pub(crate) callers: u64,
    pub(crate) length: Duration,
}

#[async_trait]
impl Contender for Points {
    fn name(&self) -> String {
        "persist, a job by its id".into()
    }

    fn callers(&self) -> u64 {
        self.callers
    }

    async fn slice(&mut self) -> Slice {
        let persist = self.filled.server.persist().await;
        let (handle, jobs) = (persist.clone(), self.filled.jobs);
        let slice = closed_loop(self.callers, self.length, move |caller, nth| {
            let persist = handle.clone();
            async move {
                let number = workload::random(caller << 32 | nth) % jobs;
                let job = persist.job(workload::job(number)).await.expect("it is read");
                Filled::check(number, job.as_ref());
            }
        })
        .await;
        persist.close().await.expect("it closes");
        slice
    }
}

/// Which jobs a page is of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of {
    All,
    Failed,
    Running,
    Repository,
    FailedOfRepository,
}

impl Of {
    pub(crate) const EACH: [Self; 5] = [
        Self::All,
        Self::Failed,
        Self::Running,
        Self::Repository,
        Self::FailedOfRepository,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Failed => "one state in ten",
            Self::Running => "one state in a hundred",
            Self::Repository => "one repository in eleven",
            Self::FailedOfRepository => "state and repository",
        }
    }

    fn query(self) -> JobQuery {
        let all = JobQuery::default();
        match self {
            Self::All => all,
            Self::Failed => all.states([JobState::Failed]),
            Self::Running => all.states([JobState::Running]),
            Self::Repository => all.repo_url(repo_url(0)),
            Self::FailedOfRepository => all.states([JobState::Failed]).repo_url(repo_url(0)),
        }
    }

    fn has(self, number: u64) -> bool {
        let is_of_repository = || repo_url(number) == repo_url(0);
        match self {
            Self::All => true,
            Self::Failed => state(number) == JobState::Failed,
            Self::Running => state(number) == JobState::Running,
            Self::Repository => is_of_repository(),
            Self::FailedOfRepository => state(number) == JobState::Failed && is_of_repository(),
        }
    }
}

/// A page, again and again, by one caller.
pub(crate) struct Pages {
    filled: Arc<Filled>,
    length: Duration,
    name: &'static str,
    query: JobQuery,
    ids: Arc<Vec<Uuid>>,
}

impl Pages {
    /// The first page: the newest jobs.
    pub(crate) async fn first(filled: &Arc<Filled>, of: Of, length: Duration) -> Self {
        let query = of.query();
        let newest = (0..filled.jobs).rev().filter(|number| of.has(*number));
        let numbers = newest.take(query.limit as usize).collect();
        Self::new(filled, "persist, the first page", query, numbers, length).await
    }

    /// The last page: beyond all other jobs.
    pub(crate) async fn last(filled: &Arc<Filled>, of: Of, length: Duration) -> Self {
        let query = of.query();
        let mut oldest = (0..filled.jobs).filter(|number| of.has(*number));
        let mut numbers: Vec<u64> = oldest.by_ref().take(query.limit as usize).collect();
        numbers.reverse();
        let before = workload::job(oldest.next().expect("there are more than a page"));
        let persist = filled.server.persist().await;
        let before = persist
            .job(before)
            .await
            .expect("it is read")
            .expect("it is there");
        persist.close().await.expect("it closes");
        let after = query.cursor(&before);
        let query = query.after(Some(after));
        Self::new(filled, "persist, the last page", query, numbers, length).await
    }

    async fn new(
        filled: &Arc<Filled>,
        name: &'static str,
        query: JobQuery,
        numbers: Vec<u64>,
        length: Duration,
    ) -> Self {
        filled.check_plan(&query).await;
        assert_eq!(numbers.len(), query.limit as usize, "a full page");
        Self {
            filled: Arc::clone(filled),
            length,
            name,
            query,
            ids: Arc::new(numbers.into_iter().map(workload::job).collect()),
        }
    }
}

#[async_trait]
impl Contender for Pages {
    fn name(&self) -> String {
        self.name.into()
    }

    fn callers(&self) -> u64 {
        1
    }

    async fn slice(&mut self) -> Slice {
        let persist = self.filled.server.persist().await;
        let shared = Arc::new((persist.clone(), self.query.clone()));
        let ids = Arc::clone(&self.ids);
        let slice = closed_loop(1, self.length, move |_, _| {
            let (shared, ids) = (Arc::clone(&shared), Arc::clone(&ids));
            async move {
                let (persist, query) = &*shared;
                let page = persist.jobs(query).await.expect("it is read");
                let same = page
                    .items
                    .iter()
                    .map(|job| job.request_id)
                    .eq(ids.iter().copied());
                assert!(same, "the rows of this page, in their order");
            }
        })
        .await;
        persist.close().await.expect("it closes");
        slice
    }
}
