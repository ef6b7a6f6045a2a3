#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use persist::{
    Capabilities, Changes, Claim, Error, Event, EventQuery, Health, Inspect, Job, JobState, JobUpdate,
    Ledger, Marks, OpenOptions, Outcome, Owners, Page, Pruned, Schema, SystemClock, Update, Vm, VmKey,
    VmState, VmUpdate,
};

use super::super::range::Range;
use super::*;

/// A store in memory whose prunes end badly.
#[derive(Debug)]
struct Weak {
    inner: Arc<dyn PersistBackend>,
    does: Does,
    /// Ids of each call.
    calls: Mutex<Vec<usize>>,
}

#[derive(Debug, Clone, Copy)]
enum Does {
    /// Takes too long for more ids than this.
    Take(usize),
    /// May remove nothing.
    Refuse,
    /// Says that it has, and has not.
    Keep,
}

impl Weak {
    /// Ten jobs, each with a VM, and a VM of no job, all of the benchmark; a job and a VM of others.
    async fn filled(does: Does) -> Self {
        let url = "memory:".parse().unwrap();
        let inner = persist::open(&url, &OpenOptions::default()).await.unwrap();
        let job = |id| Update::from(JobUpdate::new(id, JobState::Running));
        let vm = |id| Update::from(VmUpdate::new(id, "vm-1", VmState::Running));
        let ids = (0..10).map(|n| Range::new(n % 3).id(n as u64));
        let mut updates: Vec<_> = ids.flat_map(|id| [job(id), vm(id)]).collect();
        updates.extend([vm(Range::new(1).id(77)), job(Uuid::from_u128(7)), vm(Uuid::max())]);
        let claims = updates
            .into_iter()
            .map(|update| update.check(&SystemClock).unwrap());
        inner.apply(&claims.collect::<Vec<_>>()).await.unwrap();
        Self {
            inner,
            does,
            calls: Mutex::default(),
        }
    }

    /// Rows of jobs and VMs.
    async fn rows(&self) -> (usize, usize) {
        let jobs = self.inner.jobs(&JobQuery::default()).await.unwrap();
        let vms = self.inner.vms(&VmQuery::default()).await.unwrap();
        (jobs.items.len(), vms.items.len())
    }
}

#[async_trait]
impl PersistBackend for Weak {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    async fn apply(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        self.inner.apply(claims).await
    }
    async fn job(&self, id: Uuid) -> Result<Option<Job>> {
        self.inner.job(id).await
    }
    async fn vm(&self, key: &VmKey) -> Result<Option<Vm>> {
        self.inner.vm(key).await
    }
    async fn jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        self.inner.jobs(query).await
    }
    async fn vms(&self, query: &VmQuery) -> Result<Page<Vm>> {
        self.inner.vms(query).await
    }
    async fn events(&self, query: &EventQuery) -> Result<Page<Event>> {
        self.inner.events(query).await
    }
    async fn prune(&self, request: &Prune) -> Result<Pruned> {
        let ids = request.ids.len();
        self.calls.lock().unwrap().push(ids);
        match self.does {
            Does::Take(most) if ids > most => Err(Error::new(ErrorKind::Timeout, "no answer in time")),
            Does::Take(_) => self.inner.prune(request).await,
            Does::Refuse => Err(Error::new(ErrorKind::Auth, "no right to delete")),
            Does::Keep => Ok(Pruned::new(ids as u64, 0, 0, 0, false)),
        }
    }
    async fn health(&self) -> Result<Health> {
        self.inner.health().await
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

impl Capabilities for Weak {
    fn schema(&self) -> Option<&dyn Schema> {
        None
    }

    fn changes(&self) -> Option<&dyn Changes> {
        None
    }

    fn owners(&self) -> Option<&dyn Owners> {
        None
    }

    fn ledger(&self) -> Option<&dyn Ledger> {
        None
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        None
    }

    fn marks(&self) -> Option<&dyn Marks> {
        None
    }
}

fn told(failure: Failure) -> (Code, String) {
    match failure {
        Failure::Told(code, text) => (code, text),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn jobs_with_their_vms_and_vms_without_a_job_go_and_others_stay() {
    let store = Weak::filled(Does::Take(1_000)).await;
    clean(&store).await.unwrap();
    assert_eq!(store.rows().await, (1, 1));
    let events = store.events(&EventQuery::default()).await.unwrap();
    assert_eq!(events.items.len(), 2, "with their history");
    assert_eq!(*store.calls.lock().unwrap(), [4, 6, 1]);
}

#[tokio::test]
async fn what_takes_too_long_together_goes_one_by_one() {
    let store = Weak::filled(Does::Take(1)).await;
    clean(&store).await.unwrap();
    assert_eq!(store.rows().await, (1, 1));
    let calls = store.calls.lock().unwrap();
    assert_eq!(calls.iter().filter(|ids| **ids == 1).count(), 11, "{calls:?}");
}

#[tokio::test]
async fn a_job_that_is_too_large_by_itself_is_an_error_and_no_loop() {
    let store = Weak::filled(Does::Take(0)).await;
    let (code, text) = told(clean(&store).await.unwrap_err());
    assert_eq!(code, Code::Unavailable);
    assert_eq!(*store.calls.lock().unwrap(), [4, 1], "{text}");
}

#[tokio::test]
async fn a_clean_up_that_fails_says_what_is_left_and_what_to_do() {
    let store = Weak::filled(Does::Refuse).await;
    let (code, text) = told(clean(&store).await.unwrap_err());
    assert_eq!(code, Code::Unavailable);
    let expected = "the benchmark's rows could not all be removed: no right to delete; 0 jobs are gone, 10 are left; \
                    persist bench removes them before it runs again";
    assert_eq!(text, expected);
}

#[tokio::test]
async fn rows_that_come_back_are_those_of_another_benchmark() {
    let store = Weak::filled(Does::Keep).await;
    let (code, text) = told(clean(&store).await.unwrap_err());
    assert_eq!(code, Code::Failed);
    assert!(
        text.contains("another persist bench runs on this store"),
        "{text}"
    );
}

#[test]
fn calls_take_about_as_long_as_they_should() {
    assert_eq!(paced(4, Duration::from_millis(1)), 8);
    assert_eq!(paced(800, Duration::from_millis(1)), LARGEST_PAGE);
    assert_eq!(paced(8, AIM), 8);
    assert_eq!(paced(8, AIM * 2), 4);
    assert_eq!(paced(1, AIM * 20), 1);
}
