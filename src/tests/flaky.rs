//! A driver that fails on demand, and a facade over it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use persist_memory::MemoryBackend;
use uuid::Uuid;

use crate::connector::{Connector, Open};
use crate::*;

/// The job whose updates are bad.
pub(super) const BAD: Uuid = Uuid::from_u128(0xbad);

pub(super) type Failure = Arc<Mutex<Option<ErrorKind>>>;
/// How calls that hang end.
pub(super) type Held = Arc<Mutex<Vec<tokio::sync::oneshot::Receiver<ErrorKind>>>>;

#[derive(Debug)]
pub(super) struct Flaky {
    /// Keeps the store there while it is open.
    own: MemoryBackend,
    /// Which store answers now.
    name: Arc<Mutex<String>>,
    failure: Failure,
    held: Held,
    writes: Arc<AtomicU32>,
    fails_after: Arc<Mutex<Option<u32>>>,
    beats: Arc<AtomicU32>,
    looks: Arc<AtomicU32>,
    ledger: Failure,
    keeps: Arc<AtomicU32>,
    keeping: Option<Duration>,
    /// As its opener says.
    is_well: bool,
}

impl Flaky {
    /// The store that answers: another may have taken the place of its own.
    fn store(&self) -> MemoryBackend {
        MemoryBackend::named(&self.name.lock())
    }

    fn answer(&self) -> Result<()> {
        match *self.failure.lock() {
            Some(kind) => Err(Error::new(kind, "made to fail")),
            None => Ok(()),
        }
    }

    /// What is wrong with one job fails its updates alone.
    fn answer_to(&self, claims: &[Claim]) -> Result<()> {
        let is_bad = claims.iter().any(|claim| claim.subject().request_id() == BAD);
        let failure = *self.failure.lock();
        match failure {
            Some(ErrorKind::InvalidInput | ErrorKind::Corrupt) if !is_bad => Ok(()),
            Some(kind @ ErrorKind::Corrupt) => Err(Error::new(kind, "made to fail")
                .with("table", "jobs")
                .with("request_id", BAD)),
            _ => self.answer(),
        }
    }
}

#[async_trait]
impl PersistBackend for Flaky {
    fn name(&self) -> &'static str {
        "memory"
    }
    async fn apply(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        let held = self.held.lock().pop();
        if let Some(held) = held {
            let kind = held.await.expect("the test says how it ends");
            return Err(Error::new(kind, "after a long time"));
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        let left = self.fails_after.lock().take();
        match left {
            Some(0) => *self.failure.lock() = Some(ErrorKind::Unavailable),
            Some(more) => *self.fails_after.lock() = Some(more - 1),
            None => {}
        }
        self.answer_to(claims)?;
        self.store().apply(claims).await
    }
    async fn job(&self, id: Uuid) -> Result<Option<Job>> {
        self.answer()?;
        self.store().job(id).await
    }
    async fn vm(&self, key: &VmKey) -> Result<Option<Vm>> {
        self.store().vm(key).await
    }
    async fn jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        self.store().jobs(query).await
    }
    async fn vms(&self, query: &VmQuery) -> Result<Page<Vm>> {
        self.store().vms(query).await
    }
    async fn events(&self, query: &EventQuery) -> Result<Page<Event>> {
        self.store().events(query).await
    }
    async fn prune(&self, request: &Prune) -> Result<Pruned> {
        self.store().prune(request).await
    }
    async fn health(&self) -> Result<Health> {
        // A full disk can still be read.
        if !self.is_well && *self.failure.lock() != Some(ErrorKind::Full) {
            self.answer()?;
        }
        self.store().health().await
    }
    async fn close(&self) -> Result<()> {
        let held = self.held.lock().pop();
        if let Some(held) = held {
            let _ = held.await;
        }
        self.own.close().await
    }
}

#[async_trait]
impl Owners for Flaky {
    async fn heartbeat(&self, beat: &Heartbeat) -> Result<Owner> {
        self.beats.fetch_add(1, Ordering::Relaxed);
        self.answer()?;
        self.store().heartbeat(beat).await
    }
    async fn list(&self) -> Result<Vec<Owner>> {
        self.answer()?;
        self.store().list().await
    }
    async fn orphans(&self, query: &OrphanQuery) -> Result<Page<Orphan>> {
        self.answer()?;
        self.store().orphans(query).await
    }
}

impl Flaky {
    fn account(&self) -> Result<()> {
        self.answer()?;
        match *self.ledger.lock() {
            Some(kind) => Err(Error::new(kind, "made to fail")),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Ledger for Flaky {
    async fn keep(&self, tried: &[Tried]) -> Result<()> {
        self.keeps.fetch_add(1, Ordering::Relaxed);
        if let Some(takes) = self.keeping {
            tokio::time::sleep(takes).await;
        }
        self.account()?;
        self.store().keep(tried).await
    }
    async fn refusals(&self, query: &RefusalQuery) -> Result<Page<Refusal>> {
        self.account()?;
        self.store().refusals(query).await
    }
}

impl Capabilities for Flaky {
    fn schema(&self) -> Option<&dyn Schema> {
        None
    }

    fn changes(&self) -> Option<&dyn Changes> {
        Some(self)
    }

    fn owners(&self) -> Option<&dyn Owners> {
        Some(self)
    }

    fn ledger(&self) -> Option<&dyn Ledger> {
        Some(self)
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        None
    }

    fn marks(&self) -> Option<&dyn Marks> {
        None
    }
}

#[async_trait]
impl Changes for Flaky {
    async fn now(&self) -> Result<ChangePosition> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.answer()?;
        self.store().now().await
    }

    async fn since(&self, query: &ChangeQuery) -> Result<Changed> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.answer()?;
        self.store().since(query).await
    }

    async fn hint(&self) {
        std::future::pending::<()>().await;
    }
}

/// Opens handles onto one store; what fails is up to the test.
#[derive(Debug)]
pub(super) struct Opener {
    /// Which store answers.
    pub(super) name: Arc<Mutex<String>>,
    pub(super) failure: Failure,
    pub(super) held: Held,
    pub(super) writes: Arc<AtomicU32>,
    /// After so many more writes it is away.
    pub(super) fails_after: Arc<Mutex<Option<u32>>>,
    pub(super) beats: Arc<AtomicU32>,
    /// How often it was asked for changes.
    pub(super) looks: Arc<AtomicU32>,
    /// What the account of refusals fails with.
    pub(super) ledger: Failure,
    /// How often it was asked to keep refusals.
    pub(super) keeps: Arc<AtomicU32>,
    /// What that takes by the paused clock.
    pub(super) keeping: Option<Duration>,
    pub(super) panics: bool,
    /// Whether what it opens answers when asked for its health, whatever fails.
    pub(super) is_well: bool,
}

#[async_trait]
impl Open for Opener {
    async fn open(&self) -> Result<Arc<dyn PersistBackend>> {
        assert!(!self.panics, "made to panic");
        let driver = self.driver(&self.failure);
        if !self.is_well {
            driver.answer()?;
        }
        Ok(Arc::new(driver))
    }
}

impl Opener {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: Arc::new(Mutex::new(name.to_owned())),
            failure: Failure::default(),
            held: Held::default(),
            writes: Arc::default(),
            fails_after: Arc::default(),
            beats: Arc::default(),
            looks: Arc::default(),
            ledger: Failure::default(),
            keeps: Arc::default(),
            keeping: None,
            panics: false,
            is_well: false,
        }
    }

    /// A driver of the store that answers now.
    pub(super) fn driver(&self, failure: &Failure) -> Flaky {
        Flaky {
            own: MemoryBackend::named(&self.name.lock()),
            name: Arc::clone(&self.name),
            failure: Arc::clone(failure),
            held: Arc::clone(&self.held),
            writes: Arc::clone(&self.writes),
            fails_after: Arc::clone(&self.fails_after),
            beats: Arc::clone(&self.beats),
            looks: Arc::clone(&self.looks),
            ledger: Arc::clone(&self.ledger),
            keeps: Arc::clone(&self.keeps),
            keeping: self.keeping,
            is_well: self.is_well,
        }
    }
}

pub(super) async fn start(
    name: &str,
    policy: OnUnavailable,
    failing: Option<ErrorKind>,
) -> (Result<Persist>, Failure) {
    let mut open = Opener::new(name);
    open.failure = Failure::new(Mutex::new(failing));
    let failure = Arc::clone(&open.failure);
    (connect(open, policy).await, failure)
}

/// Of a store without a schema, which is opened again.
pub(super) fn connector(open: Opener) -> Connector {
    Connector {
        open: Arc::new(open),
        name: "memory",
        powers: crate::powers::Powers {
            owners: true,
            ledger: true,
            ..Default::default()
        },
        migrate: true,
        lasting: true,
        reopens: true,
        within: Duration::from_secs(10),
        outbox: None,
    }
}

pub(super) async fn connect(open: Opener, policy: OnUnavailable) -> Result<Persist> {
    Persist::builder(None)
        .actor("tester")
        .on_unavailable(policy)
        .connect_by(connector(open))
        .await
}

pub(super) fn queued(number: u128) -> JobUpdate {
    JobUpdate::new(Uuid::from_u128(number), JobState::Queued)
}

pub(super) async fn until_ready(persist: &Persist) {
    let is_ready = async || persist.health().await.expect("an answer").mode == Mode::Ready;
    until("it heals", is_ready).await;
}

/// Waits for a condition for an hour of the paused clock, which passes as soon as nothing else can run.
pub(super) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let hour = Duration::from_secs(3_600);
    tokio::time::timeout(hour, waiting).await.expect(what);
}
