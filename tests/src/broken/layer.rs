//! The layer itself: each method handed to the file of the defects that break it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use persist_core::{
    Capabilities, Changes, Claim, Event, EventQuery, Health, Inspect, Job, JobQuery, Ledger, Marks, Outcome,
    Owners, Page, PersistBackend, Prune, Pruned, Rank, Result, Schema, Subject, Vm, VmKey, VmQuery,
};
use persist_memory::MemoryBackend;
use uuid::Uuid;

use super::{Defect, Histories, Lives, Prunes, history, life, list, look, prune, row, write};
use crate::factory::{Factory, Store};

/// A memory backend with one clause broken, or with none.
#[derive(Debug)]
pub struct Broken {
    pub(super) inner: MemoryBackend,
    pub(super) defect: Option<Defect>,
    pub(super) shared: Arc<Shared>,
    /// How often this handle was closed.
    pub(super) closes: AtomicU32,
    /// The jobs of the last batch, as they were before it.
    pub(super) before: Mutex<HashMap<Uuid, Option<Job>>>,
    /// Whether a call was dropped.
    pub(super) busy: AtomicBool,
}

/// What the handles of one store share beside its rows.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// All that came in, with what it got, by subject.
    pub(super) log: Mutex<HashMap<Subject, Vec<(Claim, Outcome)>>>,
    /// Slots that a prune left behind.
    pub(super) ghosts: Mutex<Vec<Event>>,
    /// Sequence numbers that slots had before they were filled.
    pub(super) numbers: Mutex<HashMap<(Subject, Rank), i64>>,
    /// Offsets of the cursors that were given out.
    pub(super) offsets: Mutex<HashMap<String, usize>>,
    /// Slots that were told to who watches.
    pub(super) told: Mutex<HashSet<(Subject, Rank)>>,
    /// Whether any handle was closed.
    pub(super) closed: AtomicBool,
}

impl Broken {
    fn new(inner: MemoryBackend, defect: Option<Defect>, shared: Arc<Shared>) -> Self {
        Self {
            inner,
            defect,
            shared,
            closes: AtomicU32::new(0),
            before: Mutex::default(),
            busy: AtomicBool::new(false),
        }
    }

    pub(super) fn log_of(&self, subject: &Subject) -> Vec<(Claim, Outcome)> {
        self.shared.log.lock().get(subject).cloned().unwrap_or_default()
    }

    /// Forgets what was logged of subjects that are gone.
    async fn forget_pruned(&self) -> Result<()> {
        let logged: Vec<_> = self.shared.log.lock().keys().cloned().collect();
        for subject in logged {
            let left = EventQuery::default().request_id(subject.request_id()).limit(1);
            if self.inner.events(&left).await?.items.is_empty() {
                self.shared.log.lock().remove(&subject);
            }
        }
        Ok(())
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait]
impl PersistBackend for Broken {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn apply(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        life::begin(self, "apply").await?;
        life::remember(self, claims).await?;
        let outcomes = match self.defect {
            Some(Defect::Write(defect)) => write::apply(self, defect, claims).await?,
            Some(Defect::Prune(Prunes::PrunedComesBack)) => {
                self.inner.apply(&prune::coming_back(self, claims)).await?;
                self.inner.apply(claims).await?
            }
            Some(Defect::History(Histories::FillKeepsNumber)) => history::apply(self, claims).await?,
            _ => self.inner.apply(claims).await?,
        };
        if let None | Some(Defect::Job(_) | Defect::Vm(_) | Defect::Life(Lives::LostAtClose)) = self.defect {
            let mut log = self.shared.log.lock();
            for (claim, outcome) in claims.iter().zip(&outcomes) {
                log.entry(claim.subject().clone())
                    .or_default()
                    .push((claim.clone(), *outcome));
            }
        }
        Ok(outcomes)
    }

    async fn job(&self, id: Uuid) -> Result<Option<Job>> {
        life::begin(self, "job").await?;
        if life::is_emptied(self) {
            return Ok(None);
        }
        if let Some(before) = life::remembered(self, id) {
            return Ok(before);
        }
        match self.inner.job(id).await? {
            Some(job) => row::job(self, job).await,
            None => life::missing(self),
        }
    }

    async fn vm(&self, key: &VmKey) -> Result<Option<Vm>> {
        life::begin(self, "vm").await?;
        if life::is_emptied(self) {
            return Ok(None);
        }
        match self.inner.vm(&write::stored_key(self, key)).await? {
            Some(vm) => row::vm(self, vm).await,
            None => life::missing(self),
        }
    }

    async fn jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        life::begin(self, "jobs").await?;
        if life::is_emptied(self) {
            return Ok(Page::new(Vec::new(), None));
        }
        match self.defect {
            None | Some(Defect::Jobs(_)) => list::jobs(self, query).await,
            Some(Defect::Job(_)) => row::jobs(self, query).await,
            Some(_) => self.inner.jobs(query).await,
        }
    }

    async fn vms(&self, query: &VmQuery) -> Result<Page<Vm>> {
        life::begin(self, "vms").await?;
        if life::is_emptied(self) {
            return Ok(Page::new(Vec::new(), None));
        }
        match self.defect {
            None | Some(Defect::Vms(_)) => list::vms(self, query).await,
            Some(Defect::Vm(_)) => row::vms(self, query).await,
            Some(_) => self.inner.vms(query).await,
        }
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<Event>> {
        life::begin(self, "events").await?;
        if life::is_emptied(self) {
            return Ok(Page::new(Vec::new(), None));
        }
        match self.defect {
            None | Some(Defect::History(_) | Defect::Prune(Prunes::HistoryStays)) => {
                history::page(self, query).await
            }
            Some(_) => self.inner.events(query).await,
        }
    }

    async fn prune(&self, request: &Prune) -> Result<Pruned> {
        life::begin(self, "prune").await?;
        let pruned = match self.defect {
            Some(Defect::Prune(defect)) => prune::prune(self, defect, request).await?,
            _ => self.inner.prune(request).await?,
        };
        self.forget_pruned().await?;
        Ok(pruned)
    }

    async fn health(&self) -> Result<Health> {
        life::health(self).await
    }

    async fn close(&self) -> Result<()> {
        life::close(self).await
    }
}

impl Capabilities for Broken {
    fn schema(&self) -> Option<&dyn Schema> {
        self.inner.schema()
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
        look::power(self)
    }

    fn marks(&self) -> Option<&dyn Marks> {
        self.inner.marks()
    }
}

/// Stores with this defect. They last as long as the case, so that closed handles can be opened again.
#[derive(Debug, Clone, Copy)]
pub struct BrokenStores(pub Option<Defect>);

#[async_trait]
impl Factory for BrokenStores {
    fn name(&self) -> String {
        self.0
            .map_or_else(|| "healthy".to_owned(), |defect| defect.to_string())
    }

    async fn fresh(&self) -> Result<Store> {
        static STORES: AtomicU64 = AtomicU64::new(0);
        let name = format!("broken-{}", STORES.fetch_add(1, Ordering::Relaxed));
        let (defect, shared) = (self.0, Arc::new(Shared::default()));
        let anchor = MemoryBackend::named(&name);
        let first = Arc::new(Broken::new(
            MemoryBackend::named(&name),
            defect,
            Arc::clone(&shared),
        ));
        let another = move || {
            let inner = match defect {
                Some(Defect::Life(Lives::SecondHandleIsBlind)) => MemoryBackend::new(),
                _ => MemoryBackend::named(&name),
            };
            let handle: Arc<dyn PersistBackend> = Arc::new(Broken::new(inner, defect, Arc::clone(&shared)));
            std::future::ready(Ok(handle))
        };
        Ok(Store::new(first).another(another).survives_close().keep(anchor))
    }
}
