//! Removes the benchmark's rows, whoever has left them.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use persist::limits::LARGEST_PAGE;
use persist::{ErrorKind, JobQuery, Order, PersistBackend, Prune, Result, VmQuery};
use uuid::Uuid;

use super::range;
use crate::exit::{Code, Failure, with_causes};
use crate::talk;

/// Ids of the first call. What they hold is not known: hot jobs have 100,000 slots each.
const FIRST: u32 = 4;
/// What a call should take: a prune is one transaction, which others wait for and which a deadline ends.
const AIM: Duration = Duration::from_millis(500);
/// One removes jobs, one VMs without a job, one finds nothing; one more what a killed run had still on its way.
const ROUNDS: u32 = 4;
/// For a look at what is left, after something went wrong already.
const LOOK: Duration = Duration::from_secs(2);

/// Removes every row of the benchmark, also of runs that were killed. Nothing may write such rows meanwhile.
pub(crate) async fn clean(backend: &dyn PersistBackend) -> Result<(), Failure> {
    let bar = talk::spinner("removing the benchmark's rows");
    let mut cleaning = Cleaning {
        backend,
        batch: FIRST,
        removed: 0,
    };
    let cleaned = cleaning.run(&bar).await;
    bar.finish_and_clear();
    let (what, code) = match cleaned {
        Ok(true) => return Ok(()),
        Ok(false) => (
            "they come back: another persist bench runs on this store".to_owned(),
            Code::Failed,
        ),
        Err(error) => (with_causes(&error), error.kind().into()),
    };
    let removed = cleaning.removed;
    let left = left(backend).await;
    let text = format!(
        "the benchmark's rows could not all be removed: {what}; {removed} jobs are gone, {left} are left; persist \
         bench removes them before it runs again"
    );
    Err(Failure::told(code, text))
}

struct Cleaning<'a> {
    backend: &'a dyn PersistBackend,
    /// Ids of the next call.
    batch: u32,
    removed: u64,
}

impl Cleaning<'_> {
    /// Whether nothing is left.
    async fn run(&mut self, bar: &ProgressBar) -> Result<bool> {
        for _ in 0..ROUNDS {
            if !self.round(bar).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes what is there in the order of ids, and tells whether anything was.
    async fn round(&mut self, bar: &ProgressBar) -> Result<bool> {
        let mut from = range::lowest();
        loop {
            let ids = some_from(self.backend, from, self.batch).await?;
            let Some(last) = ids.last().copied() else {
                return Ok(from > range::lowest());
            };
            let begun = Instant::now();
            match self.backend.prune(&Prune::default().ids(ids)).await {
                Ok(pruned) => {
                    self.removed += pruned.requests;
                    self.batch = paced(self.batch, begun.elapsed());
                    from = Uuid::from_u128(last.as_u128() + 1);
                    bar.set_message(format!("removing the benchmark's rows: {} jobs", self.removed));
                }
                Err(error) if error.kind() == ErrorKind::Timeout && self.batch > 1 => {
                    self.batch = (self.batch / 8).max(1);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Ids of the next call, after one of so many took this long.
fn paced(batch: u32, took: Duration) -> u32 {
    if took < AIM / 2 {
        (batch * 2).min(LARGEST_PAGE)
    } else if took > AIM {
        (batch / 2).max(1)
    } else {
        batch
    }
}

/// Some of the benchmark's ids in order: of jobs, and where there are none of VMs, whose job may never have come.
async fn some_from(backend: &dyn PersistBackend, from: Uuid, limit: u32) -> Result<Vec<Uuid>> {
    let ids = range::all_from(from);
    let jobs = JobQuery::default().ids(ids).order(Order::ById).limit(limit);
    let jobs = backend.jobs(&jobs).await?.items;
    if !jobs.is_empty() {
        return Ok(jobs.into_iter().map(|job| job.request_id).collect());
    }
    let vms = VmQuery::default().ids(ids).order(Order::ById).limit(limit);
    let vms = backend.vms(&vms).await?.items;
    Ok(vms.into_iter().map(|vm| vm.request_id).collect())
}

/// How many are left, as far as a page of them tells.
async fn left(backend: &dyn PersistBackend) -> String {
    let look = some_from(backend, range::lowest(), LARGEST_PAGE);
    match tokio::time::timeout(LOOK, look).await {
        Ok(Ok(ids)) if ids.len() < LARGEST_PAGE as usize => ids.len().to_string(),
        Ok(Ok(ids)) => format!("{} or more", ids.len()),
        Ok(Err(_)) | Err(_) => "an unknown number".to_owned(),
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests;
