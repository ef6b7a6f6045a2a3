//! Ending what nobody sees to any more.

use persist_core::{
    CHUNK, Error, ErrorKind, JobState, JobUpdate, Orphan, OrphanQuery, Outcome, Result, Subject, Update,
    VmState, VmUpdate, limits,
};
use serde::{Deserialize, Serialize};

use crate::alive;
use crate::persist::Persist;

/// Which orphans to end, and what to say of it.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// Which ones; its limit is of no consequence.
    pub orphans: OrphanQuery,
    /// Who reports: at most 128 bytes; the handle's actor unless set.
    pub actor: Option<String>,
    /// Why: at most 1,024 bytes, cut beyond.
    pub reason: Option<String>,
    /// Whether they are only counted.
    pub dry_run: bool,
}

impl Recovery {
    /// Of these.
    pub fn of(orphans: OrphanQuery) -> Self {
        Self {
            orphans,
            ..Self::default()
        }
    }

    /// Reported by this actor.
    #[must_use]
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// For this reason.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Whether they are only counted.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// The update that ends an orphan, in the attempt in which it was seen.
    fn ending(&self, orphan: &Orphan) -> Update {
        let attempt = orphan.attempt.get();
        let (actor, reason) = (
            self.actor.clone().unwrap_or_default(),
            self.reason.clone().unwrap_or_default(),
        );
        match &orphan.subject {
            Subject::Job(id) => JobUpdate::new(*id, JobState::Lost)
                .attempt(attempt)
                .actor(actor)
                .reason(reason)
                .into(),
            Subject::Vm(key) => VmUpdate::new(key.request_id, &key.domain_name, VmState::Failed)
                .attempt(attempt)
                .actor(actor)
                .reason(reason)
                .into(),
        }
    }
}

/// What a recovery ended, or with `dry_run` would end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Recovered {
    /// Jobs that are `lost` now.
    pub jobs: u64,
    /// VMs that are `failed` now.
    pub vms: u64,
    /// Jobs and VMs that went on by themselves meanwhile: they are as they went on. The history of one that began another
    /// attempt has the ending in the attempt that was left.
    pub passed: u64,
}

fn went_away(recovered: &Recovered, of: usize) -> Error {
    let Recovered { jobs, vms, passed } = *recovered;
    let what = format!(
        "the database went away: {} of {of} orphans are recorded as ended, and {passed} went on by themselves; call it again",
        jobs + vms
    );
    Error::new(ErrorKind::Unavailable, what)
}

impl Persist {
    /// Ends orphans: jobs become `lost`, VMs `failed`, in their current attempts, by ordinary updates.
    ///
    /// A job that is reported to have ended after all is healed by that, and a VM still becomes `destroyed`. Only what is stored
    /// changes: a VM that runs on is to be destroyed by whoever can. All orphans are listed before the first one is ended, so that
    /// nothing is ended because of something that this has ended. Dropping it leaves some ended and others not; call it again.
    ///
    /// For an example see [`keep_alive`](Self::keep_alive).
    ///
    /// # Errors
    /// As every read, and as [`record`](Self::record); `Unavailable` also where history is optional and the database went away
    /// in between, with how many were ended until then; `Unsupported` for a store that knows of no owners.
    pub async fn recover(&self, recovery: &Recovery) -> Result<Recovered> {
        let told = async {
            let left = self.orphans(&recovery.orphans).await?;
            let mut recovered = Recovered::default();
            for chunk in left.chunks(CHUNK) {
                let outcomes = if recovery.dry_run {
                    vec![Outcome::Applied { created: false }; chunk.len()]
                } else {
                    let endings = chunk.iter().map(|orphan| recovery.ending(orphan));
                    self.record(endings.collect()).await?
                };
                let mut dropped = 0_u64;
                for (orphan, outcome) in chunk.iter().zip(outcomes) {
                    let count = match outcome {
                        // What waits in a spool comes to it.
                        Outcome::Applied { .. } | Outcome::Spooled if orphan.subject.is_vm() => {
                            &mut recovered.vms
                        }
                        Outcome::Applied { .. } | Outcome::Spooled => &mut recovered.jobs,
                        // Said of all of a call, where history is optional: it is not recorded, or not known to be.
                        Outcome::Dropped => &mut dropped,
                        _ => &mut recovered.passed,
                    };
                    *count += 1;
                }
                if dropped > 0 {
                    return Err(went_away(&recovered, left.len()));
                }
            }
            Ok(recovered)
        };
        told.await.map_err(|error: Error| error.during("recover"))
    }

    /// All orphans of a query. There are not more than live rows.
    async fn orphans(&self, query: &OrphanQuery) -> Result<Vec<Orphan>> {
        self.refuse_off("recover")?;
        let backend = self.backend();
        let owners = alive::of(&*backend)?;
        let mut query = query.clone().limit(limits::LARGEST_PAGE);
        let mut all = Vec::new();
        loop {
            let page = owners.orphans(&query).await?;
            all.extend(page.items);
            match page.next {
                Some(next) => query = query.after(Some(next)),
                None => return Ok(all),
            }
        }
    }
}
