//! A store behind faults and retries, held to the contract, that answers as if no answer had been lost.
//!
//! What a lost first try had applied reads `Unchanged` when it is sent again: the contract allows that, and the cases
//! of the suite would have to allow it at every update. Here each retried call is held to it instead, and the case
//! hears what its update got when it was applied.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use persist_core::layer::{Faults, Faulty, Retrying};
use persist_core::{
    Capabilities, Changes, Claim, Error, ErrorKind, Event, EventQuery, Health, Inspect, Job, JobQuery,
    Ledger, Marks, Outcome, Owners, Page, PersistBackend, Prune, Pruned, Result, Schema, Vm, VmKey, VmQuery,
};
use uuid::Uuid;

/// What the store answered to all tries of one call.
#[derive(Debug, Default)]
struct Answers {
    /// Where the claims are in memory, and their outcomes. Every try hands on slices of what the caller gave.
    applied: Vec<(usize, Vec<Outcome>)>,
    pruned: Vec<Pruned>,
}

tokio::task_local! {
    static ANSWERS: RefCell<Answers>;
}

/// Notes what the store answers, below the faults.
#[derive(Debug)]
struct Noted(Arc<dyn PersistBackend>);

/// Tells it, above the retries.
#[derive(Debug)]
struct Retold {
    inner: Retrying<Faulty<Noted>>,
    /// Whether anything was ever removed: then a slot that is claimed again may be free again.
    pruned: AtomicBool,
}

/// `backend` behind faults, retried for `within`. A retry that is told what the contract does not allow is
/// `Internal`.
pub fn behind_faults(
    backend: Arc<dyn PersistBackend>,
    faults: Faults,
    within: Duration,
) -> Arc<dyn PersistBackend> {
    let faulty = Faulty::new(Arc::new(Noted(backend)), faults);
    Arc::new(Retold {
        inner: Retrying::new(faulty, within),
        pruned: AtomicBool::new(false),
    })
}

/// Whether a claim that first got this may get that when it is sent again.
fn may_follow(first: Outcome, again: Outcome) -> bool {
    match (first, again) {
        (Outcome::Refused { standing, .. }, Outcome::Refused { standing: still, .. }) => standing == still,
        (Outcome::Refused { .. }, _) => false,
        (_, again) => matches!(again, Outcome::Unchanged { .. }),
    }
}

/// What each claim got when it was first merged, where all later answers are such as may follow.
fn first_told(
    claims: &[Claim],
    tries: &[(usize, Vec<Outcome>)],
    may_vanish: bool,
) -> Result<Vec<Option<Outcome>>> {
    let mut first = vec![None; claims.len()];
    for (address, outcomes) in tries {
        let skipped = (address - claims.as_ptr().addr()) / size_of::<Claim>();
        for ((told, outcome), claim) in first[skipped..].iter_mut().zip(outcomes).zip(&claims[skipped..]) {
            match *told {
                None => *told = Some(*outcome),
                Some(earlier) if may_vanish || may_follow(earlier, *outcome) => {}
                Some(earlier) => {
                    let subject = claim.subject();
                    let what = format!("{subject:?} got {earlier:?}, and {outcome:?} when it was sent again");
                    return Err(Error::new(ErrorKind::Internal, what));
                }
            }
        }
    }
    Ok(first)
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait]
impl PersistBackend for Noted {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    async fn apply(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        let outcomes = self.0.apply(claims).await?;
        let note = (claims.as_ptr().addr(), outcomes.clone());
        ANSWERS.with(|answers| answers.borrow_mut().applied.push(note));
        Ok(outcomes)
    }
    async fn job(&self, id: Uuid) -> Result<Option<Job>> {
        self.0.job(id).await
    }
    async fn vm(&self, key: &VmKey) -> Result<Option<Vm>> {
        self.0.vm(key).await
    }
    async fn jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        self.0.jobs(query).await
    }
    async fn vms(&self, query: &VmQuery) -> Result<Page<Vm>> {
        self.0.vms(query).await
    }
    async fn events(&self, query: &EventQuery) -> Result<Page<Event>> {
        self.0.events(query).await
    }
    async fn prune(&self, request: &Prune) -> Result<Pruned> {
        let pruned = self.0.prune(request).await?;
        ANSWERS.with(|answers| answers.borrow_mut().pruned.push(pruned.clone()));
        Ok(pruned)
    }
    async fn health(&self) -> Result<Health> {
        self.0.health().await
    }
    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

impl Capabilities for Noted {
    fn schema(&self) -> Option<&dyn Schema> {
        self.0.schema()
    }

    fn changes(&self) -> Option<&dyn Changes> {
        self.0.changes()
    }

    fn owners(&self) -> Option<&dyn Owners> {
        self.0.owners()
    }

    fn ledger(&self) -> Option<&dyn Ledger> {
        self.0.ledger()
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        self.0.inspect()
    }

    fn marks(&self) -> Option<&dyn Marks> {
        self.0.marks()
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait]
impl PersistBackend for Retold {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn apply(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        let call = async {
            let last = self.inner.apply(claims).await?;
            let tries = ANSWERS.with(RefCell::take).applied;
            let first = first_told(claims, &tries, self.pruned.load(Ordering::Relaxed))?;
            Ok(first
                .into_iter()
                .zip(last)
                .map(|(first, last)| first.unwrap_or(last))
                .collect())
        };
        ANSWERS.scope(RefCell::default(), call).await
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

    /// All that its tries removed: each removes what still matches.
    async fn prune(&self, request: &Prune) -> Result<Pruned> {
        self.pruned.store(true, Ordering::Relaxed);
        let call = async {
            let mut pruned = self.inner.prune(request).await?;
            let mut tries = ANSWERS.with(RefCell::take).pruned;
            tries.pop();
            for lost in tries.into_iter().filter(|_| !request.dry_run) {
                pruned.requests += lost.requests;
                pruned.jobs += lost.jobs;
                pruned.vms += lost.vms;
                pruned.events += lost.events;
            }
            Ok(pruned)
        };
        ANSWERS.scope(RefCell::default(), call).await
    }

    async fn health(&self) -> Result<Health> {
        self.inner.health().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

impl Capabilities for Retold {
    fn schema(&self) -> Option<&dyn Schema> {
        self.inner.schema()
    }

    fn changes(&self) -> Option<&dyn Changes> {
        self.inner.changes()
    }

    fn owners(&self) -> Option<&dyn Owners> {
        self.inner.owners()
    }

    fn ledger(&self) -> Option<&dyn Ledger> {
        self.inner.ledger()
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        self.inner.inspect()
    }

    fn marks(&self) -> Option<&dyn Marks> {
        self.inner.marks()
    }
}

#[cfg(test)]
mod tests;
