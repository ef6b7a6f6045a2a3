//! The memory backend as oracle: what it holds after the same updates, every other store must hold.

use std::sync::Arc;

use persist_core::{JobQuery, Order, Outcome, PersistBackend, Update, VmQuery};
use persist_memory::MemoryBackend;

use crate::case::{CaseResult, ensure_eq, export};
use crate::sample::claims;
use crate::walk;

/// An empty store in memory.
pub(crate) fn memory() -> Arc<dyn PersistBackend> {
    Arc::new(MemoryBackend::new())
}

/// What the updates get when they are applied one by one.
pub(crate) async fn one_by_one(
    backend: &Arc<dyn PersistBackend>,
    updates: &[Update],
) -> CaseResult<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for claim in claims(updates.iter().cloned())? {
        outcomes.extend(backend.apply(&[claim]).await?);
    }
    Ok(outcomes)
}

/// Fails unless both stores hold the same rows and the same history, but for what each store gives itself.
pub(crate) async fn same_content(
    found: &Arc<dyn PersistBackend>,
    expected: &Arc<dyn PersistBackend>,
    clause: &str,
) -> CaseResult {
    ensure_eq!(export(found).await?, export(expected).await?, "{clause}: history");
    let jobs = || JobQuery::default().order(Order::ById).limit(1_000);
    let (found_jobs, expected_jobs) = (
        walk::jobs(found, jobs()).await?,
        walk::jobs(expected, jobs()).await?,
    );
    ensure_eq!(found_jobs, expected_jobs, "{clause}: jobs");
    let vms = || VmQuery::default().order(Order::ById).limit(1_000);
    let (found_vms, expected_vms) = (walk::vms(found, vms()).await?, walk::vms(expected, vms()).await?);
    ensure_eq!(found_vms, expected_vms, "{clause}: VMs");
    Ok(())
}
