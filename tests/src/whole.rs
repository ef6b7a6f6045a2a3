//! A store as a whole: all that can be seen of it, and emptying it.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use persist_core::{
    Event, EventQuery, Job, JobQuery, LARGEST_PRUNE, Order, PersistBackend, PersistExt as _, Prune, Result,
    Vm, VmQuery, jsonl,
};

/// All that can be seen of a store, but for the numbers and times that it gave itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// By id.
    pub jobs: Vec<Job>,
    /// By key.
    pub vms: Vec<Vm>,
    /// The history in the exchange format.
    pub lines: Vec<String>,
}

/// Reads all of it.
///
/// # Errors
/// As reading does.
pub async fn read(backend: &Arc<dyn PersistBackend>) -> Result<Whole> {
    let (jobs, vms) = (
        JobQuery::default().order(Order::ById),
        VmQuery::default().order(Order::ById),
    );
    Ok(Whole {
        jobs: backend.all_jobs(jobs).try_collect().await?,
        vms: backend.all_vms(vms).try_collect().await?,
        lines: history(backend).await?.iter().map(jsonl::line).collect(),
    })
}

/// The history by key.
///
/// # Errors
/// As reading does.
pub async fn history(backend: &Arc<dyn PersistBackend>) -> Result<Vec<Event>> {
    backend.all_events(EventQuery::default()).try_collect().await
}

/// Removes all of it.
///
/// # Errors
/// As reading and pruning do.
pub async fn clear(backend: &Arc<dyn PersistBackend>) -> Result<()> {
    let mut ids: Vec<_> = history(backend)
        .await?
        .iter()
        .map(|event| event.subject.request_id())
        .collect();
    ids.dedup();
    for some in ids.chunks(LARGEST_PRUNE as usize) {
        backend
            .prune(&Prune::default().ids(some.to_vec()).limit(LARGEST_PRUNE))
            .await?;
    }
    Ok(())
}
