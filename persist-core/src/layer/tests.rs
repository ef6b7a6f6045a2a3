//! The deadline layer and the one that tells, over a backend that does as it is told.

mod deadline;
mod observe;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use uuid::Uuid;

use crate::*;

/// How calls end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Answers,
    Hangs,
    /// Blocks its thread for a while.
    Blocks,
    Panics,
    Fails(ErrorKind),
    /// The first so many calls answer, all others hang.
    HangsAfter(u32),
    /// The first so many calls answer, all others say that nothing was applied.
    FailsAfter(u32),
}

/// Answers for an empty store, in its manner.
#[derive(Debug)]
struct Stub {
    manner: Manner,
    called: Arc<AtomicU32>,
    /// Calls that came to their end or were dropped.
    gone: Arc<AtomicU32>,
}

struct Gone(Arc<AtomicU32>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Stub {
    fn new(manner: Manner) -> Self {
        Self {
            manner,
            called: Arc::default(),
            gone: Arc::default(),
        }
    }

    async fn call(&self) -> Result<()> {
        let _gone = Gone(Arc::clone(&self.gone));
        let nth = self.called.fetch_add(1, Ordering::SeqCst);
        match self.manner {
            Manner::Answers => Ok(()),
            Manner::HangsAfter(answered) | Manner::FailsAfter(answered) if nth < answered => Ok(()),
            Manner::FailsAfter(_) => Err(Error::new(ErrorKind::Unavailable, "made to fail")),
            Manner::Hangs | Manner::HangsAfter(_) => std::future::pending().await,
            Manner::Blocks => {
                let (_kept, never) = std::sync::mpsc::channel::<()>();
                let _ = never.recv_timeout(std::time::Duration::from_secs(2));
                Ok(())
            }
            Manner::Panics => panic!("made to panic"),
            Manner::Fails(kind) => {
                Err(Error::new(kind, "hunter2 is no text for a metric").with("sqlstate", "57P01"))
            }
        }
    }
}

#[async_trait]
impl PersistBackend for Stub {
    fn name(&self) -> &'static str {
        "postgres"
    }
    async fn apply(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        self.call().await?;
        Ok(vec![Outcome::Applied { created: true }; claims.len()])
    }
    async fn job(&self, _: Uuid) -> Result<Option<Job>> {
        self.call().await?;
        Ok(None)
    }
    async fn vm(&self, _: &VmKey) -> Result<Option<Vm>> {
        self.call().await?;
        Ok(None)
    }
    async fn jobs(&self, _: &JobQuery) -> Result<Page<Job>> {
        self.call().await?;
        Ok(Page::new(Vec::new(), None))
    }
    async fn vms(&self, _: &VmQuery) -> Result<Page<Vm>> {
        self.call().await?;
        Ok(Page::new(Vec::new(), None))
    }
    async fn events(&self, _: &EventQuery) -> Result<Page<Event>> {
        self.call().await?;
        Ok(Page::new(Vec::new(), None))
    }
    async fn prune(&self, _: &Prune) -> Result<Pruned> {
        self.call().await?;
        Ok(Pruned::default())
    }
    async fn health(&self) -> Result<Health> {
        self.call().await?;
        Ok(Health::new("postgres", Mode::Ready))
    }
    async fn close(&self) -> Result<()> {
        self.call().await
    }
}

#[async_trait]
impl Owners for Stub {
    async fn heartbeat(&self, beat: &Heartbeat) -> Result<Owner> {
        self.call().await?;
        let at = SystemClock.now();
        Ok(Owner::new(beat.actor.clone(), beat.epoch, at, at, at, at))
    }
    async fn list(&self) -> Result<Vec<Owner>> {
        self.call().await?;
        Ok(Vec::new())
    }
    async fn orphans(&self, _: &OrphanQuery) -> Result<Page<Orphan>> {
        self.call().await?;
        Ok(Page::new(Vec::new(), None))
    }
}

#[async_trait]
impl Ledger for Stub {
    async fn keep(&self, _: &[Tried]) -> Result<()> {
        self.call().await
    }
    async fn refusals(&self, _: &RefusalQuery) -> Result<Page<Refusal>> {
        self.call().await?;
        Ok(Page::new(Vec::new(), None))
    }
}

#[async_trait]
impl Changes for Stub {
    async fn now(&self) -> Result<ChangePosition> {
        self.call().await?;
        Err(Error::new(ErrorKind::Unsupported, "a stub has no changes"))
    }
    async fn since(&self, _: &ChangeQuery) -> Result<Changed> {
        self.call().await?;
        Err(Error::new(ErrorKind::Unsupported, "a stub has no changes"))
    }
    async fn hint(&self) {
        std::future::pending::<()>().await;
    }
}

#[async_trait]
impl Marks for Stub {
    async fn mark(&self, _: &str) -> Result<Option<String>> {
        self.call().await?;
        Ok(None)
    }
    async fn set_mark(&self, _: &str, _: Option<&str>) -> Result<()> {
        self.call().await
    }
}

impl Capabilities for Stub {
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
        Some(self)
    }
}

fn claims(count: u128) -> Vec<Claim> {
    (1..=count)
        .map(|number| JobUpdate::new(Uuid::from_u128(number), JobState::Queued))
        .map(|update| update.check(&SystemClock).unwrap())
        .collect()
}
