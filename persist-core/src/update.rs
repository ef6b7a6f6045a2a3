//! What callers say: infallible builders that `check` turns into a [`Claim`].

use std::sync::Arc;

use uuid::Uuid;

use crate::attempt::{Attempt, Rank};
use crate::attributes::{Attribute, Attributes};
use crate::claim::{Claim, Said};
use crate::error::Result;
use crate::event::Event;
use crate::limits;
use crate::repo_url;
use crate::state::{JobState, State, VmState};
use crate::subject::{Subject, VmKey, check_request_id};
use crate::time::{self, Clock, Timestamp};

/// What every update may say beside its subject, state and attributes.
#[derive(Debug, Clone, PartialEq)]
struct Common {
    attempt: u32,
    at: Option<Timestamp>,
    actor: Option<String>,
    reason: Option<String>,
    attributes: Attributes,
}

impl Common {
    fn new() -> Self {
        Self {
            attempt: Attempt::FIRST.get(),
            at: None,
            actor: None,
            reason: None,
            attributes: Attributes::default(),
        }
    }

    fn check(self, subject: Subject, state: State, clock: &dyn Clock) -> Result<Claim> {
        Ok(Claim(Arc::new(Said {
            subject,
            state,
            rank: Rank::new(Attempt::new(self.attempt)?, state.phase()),
            at: time::normalize("at", self.at.unwrap_or_else(|| clock.now()))?,
            actor: limits::text("actor", self.actor, limits::ACTOR_BYTES)?,
            reason: limits::reason(self.reason)?,
            attributes: self.attributes.normalize()?,
        })))
    }
}

/// "Job S was in state X of attempt A at time T."
///
/// ```
/// use persist_core::{JobState, JobUpdate, SystemClock};
/// # let id = uuid::Uuid::from_u128(7);
/// let claim = JobUpdate::new(id, JobState::Queued)
///     .repo_url("https://example.org/acme/app.git")
///     .commit_sha("3F2A9C")
///     .runs_on("ubuntu-24.04")
///     .check(&SystemClock)?;
/// assert_eq!(claim.attempt().get(), 1);
/// # Ok::<(), persist_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use = "an update does nothing until it is recorded"]
pub struct JobUpdate {
    request_id: Uuid,
    state: JobState,
    common: Common,
}

impl JobUpdate {
    /// The job was in this state, of attempt 1, now.
    pub fn new(request_id: Uuid, state: JobState) -> Self {
        Self {
            request_id,
            state,
            common: Common::new(),
        }
    }

    /// Repository, at most 2,048 bytes; credentials in it are stripped before it is stored or printed.
    pub fn repo_url(mut self, repo_url: impl Into<String>) -> Self {
        // Here already, so that no `Debug` of an update shows them.
        let stripped = repo_url::strip_credentials(&repo_url.into());
        self.common.attributes.set(Attribute::RepoUrl, Some(stripped));
        self
    }

    /// Commit, 4–64 hex digits.
    pub fn commit_sha(mut self, commit_sha: impl Into<String>) -> Self {
        self.common
            .attributes
            .set(Attribute::CommitSha, Some(commit_sha.into()));
        self
    }

    /// Runner label, at most 256 bytes.
    pub fn runs_on(mut self, runs_on: impl Into<String>) -> Self {
        self.common
            .attributes
            .set(Attribute::RunsOn, Some(runs_on.into()));
        self
    }
}

/// "VM S was in state X of attempt A at time T." A VM's attempts count its own starts.
///
/// ```
/// use persist_core::{SystemClock, VmState, VmUpdate};
/// # let id = uuid::Uuid::from_u128(7);
/// let claim = VmUpdate::new(id, "vm-7", VmState::Prepared).backend("libvirt").check(&SystemClock)?;
/// assert_eq!(claim.subject().domain_name(), "vm-7");
/// # Ok::<(), persist_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use = "an update does nothing until it is recorded"]
pub struct VmUpdate {
    key: VmKey,
    state: VmState,
    common: Common,
}

impl VmUpdate {
    /// The VM was in this state, of attempt 1, now.
    pub fn new(request_id: Uuid, domain_name: impl Into<String>, state: VmState) -> Self {
        Self {
            key: VmKey::new(request_id, domain_name),
            state,
            common: Common::new(),
        }
    }

    /// Hypervisor back end, such as `libvirt`, at most 64 bytes.
    pub fn backend(mut self, backend: impl Into<String>) -> Self {
        self.common
            .attributes
            .set(Attribute::Backend, Some(backend.into()));
        self
    }

    /// Disk overlay, at most 4,096 bytes.
    pub fn overlay_path(mut self, overlay_path: impl Into<String>) -> Self {
        self.common
            .attributes
            .set(Attribute::OverlayPath, Some(overlay_path.into()));
        self
    }

    /// Cloud-init seed image, at most 4,096 bytes.
    pub fn seed_path(mut self, seed_path: impl Into<String>) -> Self {
        self.common
            .attributes
            .set(Attribute::SeedPath, Some(seed_path.into()));
        self
    }
}

macro_rules! common_setters {
    ($($update:ty),*) => {$(
        impl $update {
            /// Which run or start it is about: 1 to 2^31−1, 1 unless set. Checked by `check`.
            pub fn attempt(mut self, attempt: u32) -> Self {
                self.common.attempt = attempt;
                self
            }

            /// When it was so: 1970 to 9999, cut to microseconds; the clock's time unless set.
            pub fn at(mut self, at: Timestamp) -> Self {
                self.common.at = Some(at);
                self
            }

            /// Who reports it: an orchestrator instance or an operator, at most 128 bytes.
            pub fn actor(mut self, actor: impl Into<String>) -> Self {
                self.common.actor = Some(actor.into());
                self
            }

            /// Sets the actor where the update has none.
            pub fn actor_or(mut self, actor: Option<&str>) -> Self {
                if self.common.actor.as_ref().is_none_or(String::is_empty) {
                    self.common.actor = actor.map(str::to_owned);
                }
                self
            }

            /// Why; cut at 1,024 bytes.
            pub fn reason(mut self, reason: impl Into<String>) -> Self {
                self.common.reason = Some(reason.into());
                self
            }
        }
    )*};
}
// One spelling of the five setters that mean the same for both.
common_setters!(JobUpdate, VmUpdate);

impl JobUpdate {
    /// Normalises, stamps and validates.
    ///
    /// # Errors
    /// `InvalidInput` naming the first field outside its limit.
    pub fn check(self, clock: &dyn Clock) -> Result<Claim> {
        let subject = Subject::Job(check_request_id(self.request_id)?);
        self.common.check(subject, self.state.into(), clock)
    }
}

impl VmUpdate {
    /// Normalises, stamps and validates.
    ///
    /// # Errors
    /// `InvalidInput` naming the first field outside its limit.
    pub fn check(self, clock: &dyn Clock) -> Result<Claim> {
        let request_id = check_request_id(self.key.request_id)?;
        let subject = Subject::Vm(VmKey::new(request_id, limits::domain_name(self.key.domain_name)?));
        self.common.check(subject, self.state.into(), clock)
    }
}

/// An update of either kind.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "an update does nothing until it is recorded"]
pub enum Update {
    /// Of a job.
    Job(JobUpdate),
    /// Of a VM.
    Vm(VmUpdate),
}

impl From<&Event> for Update {
    /// The update that claims the same slot with all that it holds.
    fn from(event: &Event) -> Self {
        let common = Common {
            attempt: event.attempt().get(),
            at: Some(event.at),
            actor: event.actor.clone(),
            reason: event.reason.clone(),
            attributes: event.attributes.clone(),
        };
        match (&event.subject, event.state) {
            (Subject::Vm(key), State::Vm(state)) => Self::Vm(VmUpdate {
                key: key.clone(),
                state,
                common,
            }),
            (subject, State::Job(state)) => Self::Job(JobUpdate {
                request_id: subject.request_id(),
                state,
                common,
            }),
            (Subject::Job(id), State::Vm(state)) => Self::Vm(VmUpdate {
                // No job was ever in it: it is refused where it is checked.
                key: VmKey::new(*id, ""),
                state,
                common,
            }),
        }
    }
}

impl Update {
    /// Normalises, stamps and validates.
    ///
    /// # Errors
    /// `InvalidInput` naming the first field outside its limit.
    pub fn check(self, clock: &dyn Clock) -> Result<Claim> {
        match self {
            Self::Job(update) => update.check(clock),
            Self::Vm(update) => update.check(clock),
        }
    }

    /// Sets the actor where the update has none.
    pub fn actor_or(self, actor: Option<&str>) -> Self {
        match self {
            Self::Job(update) => Self::Job(update.actor_or(actor)),
            Self::Vm(update) => Self::Vm(update.actor_or(actor)),
        }
    }
}

impl From<JobUpdate> for Update {
    fn from(update: JobUpdate) -> Self {
        Self::Job(update)
    }
}

impl From<VmUpdate> for Update {
    fn from(update: VmUpdate) -> Self {
        Self::Vm(update)
    }
}
