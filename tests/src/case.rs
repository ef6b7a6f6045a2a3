//! A case, what it gets, and how it ends.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use persist_core::{
    Event, EventQuery, Job, JobQuery, Outcome, PersistBackend, Subject, Update, Vm, VmKey, VmQuery, merge,
};
use uuid::Uuid;

use crate::factory::Store;
use crate::sample::claims;
use crate::walk;

/// One clause of the contract, and the function that checks it on a fresh store.
#[derive(Clone, Copy)]
pub struct Case {
    /// The clause, as the name of a test.
    pub name: &'static str,
    /// What it is about.
    pub group: &'static str,
    /// Checks it.
    pub run: fn(Arc<Ctx>) -> BoxFuture<'static, CaseResult>,
}

impl Case {
    /// `group::name`.
    pub fn full_name(&self) -> String {
        format!("{}::{}", self.group, self.name)
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full_name())
    }
}

/// How a case ends.
pub type CaseResult<T = ()> = Result<T, Stop>;

/// Why a case did not pass. Every error that can be displayed becomes a failure by `?`.
#[derive(Debug)]
pub enum Stop {
    /// A clause is broken.
    Failed(String),
    /// This kind of store can't be asked.
    Skipped(String),
}

impl<E: fmt::Display> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(format!("unexpected error: {error}"))
    }
}

/// Fails the case when the condition does not hold; the text says which clause is broken.
macro_rules! ensure {
    ($condition:expr, $($clause:tt)+) => {
        if !$condition {
            return Err($crate::case::Stop::Failed(format!($($clause)+)));
        }
    };
}

/// Fails the case when the values differ; the text says which clause is broken.
macro_rules! ensure_eq {
    ($found:expr, $expected:expr, $($clause:tt)+) => {
        match (&$found, &$expected) {
            (found, expected) => {
                if found != expected {
                    let clause = format!($($clause)+);
                    let text = format!("{clause}\n  expected: {expected:?}\n     found: {found:?}");
                    return Err($crate::case::Stop::Failed(text));
                }
            }
        }
    };
}

pub(crate) use {ensure, ensure_eq};

/// What a case gets: a fresh store, and shorthands that fail the case.
#[derive(Debug)]
pub struct Ctx {
    store: Store,
    fold_is_checked: AtomicBool,
}

impl Ctx {
    /// For the runner.
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            fold_is_checked: AtomicBool::new(true),
        }
    }

    /// The store's first handle.
    pub fn backend(&self) -> &Arc<dyn PersistBackend> {
        self.store.backend()
    }

    /// One more handle onto the same store; skips the case where there can be none.
    pub async fn another(&self) -> CaseResult<Arc<dyn PersistBackend>> {
        match self.store.open().await {
            Some(opened) => Ok(opened?),
            None => Err(Stop::Skipped("this kind of store has one handle".into())),
        }
    }

    /// Skips the case where the content does not outlive its handles.
    pub fn needs_lasting(&self) -> CaseResult {
        if self.store.is_lasting() {
            Ok(())
        } else {
            Err(Stop::Skipped(
                "this kind of store goes with its last handle".into(),
            ))
        }
    }

    /// Leaves out the check that runs after every case, where it would take too long.
    pub fn leave_fold_unchecked(&self) {
        self.fold_is_checked.store(false, Ordering::Relaxed);
    }

    /// Applies a batch.
    pub async fn apply<U: Into<Update>>(
        &self,
        updates: impl IntoIterator<Item = U>,
    ) -> CaseResult<Vec<Outcome>> {
        let claims = claims(updates)?;
        let outcomes = self.backend().apply(&claims).await?;
        ensure_eq!(
            outcomes.len(),
            claims.len(),
            "position-true: one outcome for each update"
        );
        Ok(outcomes)
    }

    /// Applies one update.
    pub async fn one(&self, update: impl Into<Update>) -> CaseResult<Outcome> {
        Ok(self.apply([update.into()]).await?[0])
    }

    /// Applies updates one by one.
    pub async fn each<U: Into<Update>>(
        &self,
        updates: impl IntoIterator<Item = U>,
    ) -> CaseResult<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        for update in updates {
            outcomes.push(self.one(update).await?);
        }
        Ok(outcomes)
    }

    /// The job, which must be there.
    pub async fn job(&self, id: Uuid) -> CaseResult<Job> {
        let job = self.backend().job(id).await?;
        job.ok_or_else(|| Stop::Failed("read your writes: an applied job must be there".into()))
    }

    /// The VM, which must be there.
    pub async fn vm(&self, id: Uuid, name: &str) -> CaseResult<Vm> {
        let vm = self.backend().vm(&VmKey::new(id, name)).await?;
        vm.ok_or_else(|| Stop::Failed("read your writes: an applied VM must be there".into()))
    }

    /// The whole history by key.
    pub async fn history(&self) -> CaseResult<Vec<Event>> {
        walk::events(self.backend(), EventQuery::default().limit(1_000)).await
    }

    /// The history of one job and its VMs, by key.
    pub async fn history_of(&self, id: Uuid) -> CaseResult<Vec<Event>> {
        walk::events(self.backend(), EventQuery::default().request_id(id).limit(1_000)).await
    }

    /// The whole store in the exchange format.
    pub async fn export(&self) -> CaseResult<Vec<String>> {
        export(self.backend()).await
    }

    /// `current == fold(history)`, for every subject of the store.
    pub async fn fold_holds(&self) -> CaseResult {
        fold_holds(self.backend()).await
    }

    /// The check that runs after every case.
    pub(crate) async fn close_out(&self) -> CaseResult {
        if !self.fold_is_checked.load(Ordering::Relaxed) || self.backend().health().await.is_err() {
            return Ok(());
        }
        self.fold_holds().await
    }
}

/// The whole store in the exchange format.
pub(crate) async fn export(backend: &Arc<dyn PersistBackend>) -> CaseResult<Vec<String>> {
    let events = walk::events(backend, EventQuery::default().limit(1_000)).await?;
    Ok(events.iter().map(persist_core::jsonl::line).collect())
}

/// `current == fold(history)`, for every subject of a store.
pub(crate) async fn fold_holds(backend: &Arc<dyn PersistBackend>) -> CaseResult {
    let history = walk::events(backend, EventQuery::default().limit(1_000)).await?;
    let jobs = walk::jobs(
        backend,
        JobQuery::default().order(persist_core::Order::ById).limit(1_000),
    )
    .await?;
    let vms = walk::vms(
        backend,
        VmQuery::default().order(persist_core::Order::ById).limit(1_000),
    )
    .await?;
    rows_are_fold(&history, jobs, vms)
}

/// Compares rows with what their history folds to.
pub(crate) fn rows_are_fold(history: &[Event], jobs: Vec<Job>, vms: Vec<Vm>) -> CaseResult {
    let mut slots: BTreeMap<&Subject, Vec<merge::Slot>> = BTreeMap::new();
    for event in history {
        slots.entry(&event.subject).or_default().push(event.slot());
    }
    let (mut folded_jobs, mut folded_vms) = (Vec::new(), Vec::new());
    for (subject, slots) in slots {
        let Some(row) = merge::fold(&slots) else { continue };
        match subject {
            Subject::Job(id) => folded_jobs.extend(Job::from_row(*id, &row)),
            Subject::Vm(key) => folded_vms.extend(Vm::from_row(key.clone(), &row)),
        }
    }
    let mut jobs = jobs;
    jobs.sort_by_key(|job| job.request_id);
    let mut vms = vms;
    vms.sort_by_key(Vm::key);
    ensure_eq!(jobs, folded_jobs, "always: current == fold(history), of jobs");
    ensure_eq!(vms, folded_vms, "always: current == fold(history), of VMs");
    Ok(())
}
