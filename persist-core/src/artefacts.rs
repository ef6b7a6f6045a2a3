//! Disk overlays and seed images as resources: which exist by the record, and which should be gone.

use chrono::TimeDelta;
use futures_core::Stream;
use futures_util::stream;
use serde::Serialize;
use uuid::Uuid;

use crate::backend::PersistBackend;
use crate::error::Result;
use crate::ext::PersistExt as _;
use crate::job::{Job, JobQuery};
use crate::listing::Listing;
use crate::page::Order;
use crate::state::{JobState, StateTable as _, VmState};
use crate::time::{self, Timestamp};
use crate::vm::{Vm, VmQuery};

/// What a path is to its VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtefactKind {
    /// The VM's disk overlay.
    Overlay,
    /// The cloud-init seed image.
    Seed,
}

impl ArtefactKind {
    /// The stable word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Seed => "seed",
        }
    }
}

/// What the record says of a path, the strongest reason to keep it last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Keeping {
    /// The VM was destroyed, and its disks with it.
    Gone,
    /// The VM is not live, and its job ended longer ago than the grace, or never came: it should have been destroyed.
    Overdue,
    /// The VM has ended, and its job is live or has ended not long ago.
    Kept,
    /// The VM is prepared or running.
    InUse,
}

impl Keeping {
    /// The stable snake-case word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Overdue => "overdue",
            Self::Kept => "kept",
            Self::InUse => "in_use",
        }
    }
}

/// A path that a VM reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Artefact {
    /// As it was reported.
    pub path: String,
    /// What it is.
    pub kind: ArtefactKind,
    /// What the record says of it.
    pub keeping: Keeping,
    /// The VM's job.
    pub request_id: Uuid,
    /// The VM.
    pub domain_name: String,
    /// The VM's state.
    pub vm_state: VmState,
    /// The job's state; `None` where the job never came.
    pub job_state: Option<JobState>,
    /// Since when the VM, and with it its job, has been as it is: the later of both updates.
    #[serde(with = "time::rfc3339")]
    pub since: Timestamp,
}

/// The record's word on a VM whose job is this, seen at `now`.
pub fn keeping(vm: &Vm, job: Option<&Job>, now: Timestamp, grace: TimeDelta) -> Keeping {
    let since = since(vm, job);
    match vm.state {
        VmState::Destroyed => Keeping::Gone,
        VmState::Prepared | VmState::Running => Keeping::InUse,
        VmState::Stopped | VmState::Failed => {
            let is_live = job.is_some_and(|job| !job.state.is_ended());
            if is_live || now - since < grace {
                Keeping::Kept
            } else {
                Keeping::Overdue
            }
        }
    }
}

fn since(vm: &Vm, job: Option<&Job>) -> Timestamp {
    job.map_or(vm.updated_at, |job| job.updated_at.max(vm.updated_at))
}

struct Walk<'b> {
    jobs: Listing<'b, Job>,
    vms: Listing<'b, Vm>,
    ready: Vec<Artefact>,
}

impl Walk<'_> {
    async fn next(&mut self, now: Timestamp, grace: TimeDelta) -> Result<Option<Artefact>> {
        loop {
            if let Some(artefact) = self.ready.pop() {
                return Ok(Some(artefact));
            }
            let Some(id) = self.vms.peek().await?.map(|vm| vm.request_id) else {
                return Ok(None);
            };
            while self.jobs.peek().await?.is_some_and(|job| job.request_id < id) {
                self.jobs.take();
            }
            let job = self.jobs.peek().await?.filter(|job| job.request_id == id);
            let Some(vm) = self.vms.take() else {
                return Ok(None);
            };
            let keeping = keeping(&vm, job, now, grace);
            let (job_state, since) = (job.map(|job| job.state), since(&vm, job));
            let paths = [
                (ArtefactKind::Seed, vm.seed_path),
                (ArtefactKind::Overlay, vm.overlay_path),
            ];
            for (kind, path) in paths {
                self.ready.extend(path.map(|path| Artefact {
                    path,
                    kind,
                    keeping,
                    request_id: id,
                    domain_name: vm.domain_name.clone(),
                    vm_state: vm.state,
                    job_state,
                    since,
                }));
            }
        }
    }
}

/// Every path that a VM reported, by (`request_id`, `domain_name`).
pub(crate) fn artefacts<B: PersistBackend + ?Sized>(
    backend: &B,
    now: Timestamp,
    grace: TimeDelta,
) -> impl Stream<Item = Result<Artefact>> + Send {
    let walk = Walk {
        jobs: Listing::new(backend.all_jobs(JobQuery::default().order(Order::ById))),
        vms: Listing::new(backend.all_vms(VmQuery::default().order(Order::ById))),
        ready: Vec::new(),
    };
    stream::unfold(Some(walk), move |walk| async move {
        let mut walk = walk?;
        match walk.next(now, grace).await {
            Ok(Some(artefact)) => Some((Ok(artefact), Some(walk))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
}
