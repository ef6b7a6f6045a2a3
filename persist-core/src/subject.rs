//! What an update is about: a job, or one of its VMs.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};

/// A VM's key: the job that it was booted for, and its libvirt domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VmKey {
    /// The job's id.
    pub request_id: Uuid,
    /// The libvirt domain, 1–255 bytes.
    pub domain_name: String,
}

impl VmKey {
    /// A key; it is not checked here but where it is used.
    pub fn new(request_id: Uuid, domain_name: impl Into<String>) -> Self {
        Self {
            request_id,
            domain_name: domain_name.into(),
        }
    }
}

/// A job or a VM. Ordered by `request_id`, a job before its VMs, VMs by the bytes of their names: the
/// order of the history's key on every backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A job.
    Job(Uuid),
    /// A VM.
    Vm(VmKey),
}

impl Subject {
    /// The subject that a history row names: no domain name for the job itself.
    pub fn new(request_id: Uuid, domain_name: &str) -> Self {
        if domain_name.is_empty() {
            Self::Job(request_id)
        } else {
            Self::Vm(VmKey::new(request_id, domain_name))
        }
    }

    /// The job's id, also of a VM.
    pub fn request_id(&self) -> Uuid {
        match self {
            Self::Job(id) => *id,
            Self::Vm(key) => key.request_id,
        }
    }

    /// The VM's domain, or `""` for the job itself: the value of the history's key column.
    pub fn domain_name(&self) -> &str {
        match self {
            Self::Job(_) => "",
            Self::Vm(key) => &key.domain_name,
        }
    }

    /// The VM's domain; `None` for the job itself: what a reader is told.
    pub fn vm_name(&self) -> Option<&str> {
        match self {
            Self::Job(_) => None,
            Self::Vm(key) => Some(&key.domain_name),
        }
    }

    /// Whether it is a VM.
    pub fn is_vm(&self) -> bool {
        matches!(self, Self::Vm(_))
    }

    /// The key by which history and merging statements are ordered.
    pub fn key(&self) -> (Uuid, &str) {
        (self.request_id(), self.domain_name())
    }
}

impl Ord for Subject {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Subject {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(id) => write!(f, "job {id}"),
            Self::Vm(key) => write!(
                f,
                "VM {} of job {}",
                key.domain_name.escape_debug(),
                key.request_id
            ),
        }
    }
}

/// # Errors
/// `InvalidInput` for the nil UUID, which is what a forgotten id looks like.
pub(crate) fn check_request_id(id: Uuid) -> Result<Uuid> {
    if id.is_nil() {
        Err(Error::invalid("request_id", "must not be the nil UUID"))
    } else {
        Ok(id)
    }
}
