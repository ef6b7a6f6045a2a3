//! The attributes that an update may bring. Each is set once per slot and shown from the highest slot.

use crate::error::Result;
use crate::{limits, repo_url};

/// The name of an attribute: its column, its JSON key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Attribute {
    /// Repository of the job.
    RepoUrl,
    /// Commit of the job.
    CommitSha,
    /// Runner label of the job.
    RunsOn,
    /// Hypervisor back end of the VM.
    Backend,
    /// Disk overlay of the VM.
    OverlayPath,
    /// Cloud-init seed image of the VM.
    SeedPath,
}

impl Attribute {
    /// All, in the order of the history's columns and of the exchange format.
    pub const ALL: [Attribute; 6] = [
        Self::RepoUrl,
        Self::CommitSha,
        Self::RunsOn,
        Self::Backend,
        Self::OverlayPath,
        Self::SeedPath,
    ];
    /// Those of a job.
    pub const JOB: [Attribute; 3] = [Self::RepoUrl, Self::CommitSha, Self::RunsOn];
    /// Those of a VM.
    pub const VM: [Attribute; 3] = [Self::Backend, Self::OverlayPath, Self::SeedPath];

    /// Column and JSON key.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RepoUrl => "repo_url",
            Self::CommitSha => "commit_sha",
            Self::RunsOn => "runs_on",
            Self::Backend => "backend",
            Self::OverlayPath => "overlay_path",
            Self::SeedPath => "seed_path",
        }
    }
}

/// A value, or blank, for each attribute. A job's VM attributes are always blank, and the other way round.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Attributes([Option<String>; 6]);

impl Attributes {
    /// The value of an attribute.
    pub fn get(&self, attribute: Attribute) -> Option<&str> {
        self.0[attribute as usize].as_deref()
    }

    /// Sets or blanks an attribute.
    pub fn set(&mut self, attribute: Attribute, value: Option<String>) {
        self.0[attribute as usize] = value;
    }

    /// Takes an attribute's value out.
    pub fn take(&mut self, attribute: Attribute) -> Option<String> {
        self.0[attribute as usize].take()
    }

    /// Whether `other` has a value where this is blank.
    pub fn lacks_any_of(&self, other: &Self) -> bool {
        self.0
            .iter()
            .zip(&other.0)
            .any(|(mine, theirs)| mine.is_none() && theirs.is_some())
    }

    /// Blank becomes a value; a value stays. Says whether anything was filled.
    pub fn fill(&mut self, other: &Self) -> bool {
        let mut filled = false;
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            if mine.is_none() && theirs.is_some() {
                mine.clone_from(theirs);
                filled = true;
            }
        }
        filled
    }

    /// Limits and normalisation of every attribute.
    ///
    /// # Errors
    /// `InvalidInput` naming the field.
    pub(crate) fn normalize(mut self) -> Result<Self> {
        for attribute in Attribute::ALL {
            let value = self.take(attribute);
            self.set(attribute, normalize(attribute, value)?);
        }
        Ok(self)
    }
}

/// One attribute's limit and normalisation, as stored values and query filters have it.
///
/// # Errors
/// `InvalidInput` naming the field.
pub fn normalize(attribute: Attribute, value: Option<String>) -> Result<Option<String>> {
    let most = match attribute {
        Attribute::RepoUrl => return repo_url::normalize(value),
        Attribute::CommitSha => return limits::commit_sha(value),
        Attribute::RunsOn => limits::RUNS_ON_BYTES,
        Attribute::Backend => limits::BACKEND_BYTES,
        Attribute::OverlayPath | Attribute::SeedPath => limits::PATH_BYTES,
    };
    limits::text(attribute.name(), value, most)
}
