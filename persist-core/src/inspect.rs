//! The power to be looked over: what of a store is not as it should be, and the statement that mends it.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Compares a store with what this program expects of it: tables, columns, keys, indexes, constraints, settings, files.
#[async_trait]
pub trait Inspect: Debug + Send + Sync {
    /// What is not as it should be, the worst first. Changes nothing, and reads no row of a job, a VM or the history.
    async fn findings(&self) -> Result<Vec<Finding>>;

    /// Mends a finding that is [safe](Finding::is_safe) to mend, by what it says. Repeating it changes nothing.
    ///
    /// # Errors
    /// `InvalidInput` for a finding that is not safe, or that this store does not have now; whatever the mending meets.
    async fn mend(&self, finding: &Finding) -> Result<()>;
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// It works, slower or less safely than it should.
    Warning,
    /// Updates or reads fail, or what the store promises does not hold.
    Error,
}

impl Severity {
    /// The stable word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Finding {
    /// A stable snake-case word for this sort of finding, such as `missing_index`.
    pub code: String,
    /// What it is about: a table, `table.column`, an index, a setting, a file.
    pub place: String,
    /// How bad it is.
    pub severity: Severity,
    /// What was found, and what was expected.
    pub what: String,
    /// Why that matters.
    pub why: String,
    /// The statements, or the command, that mend it, in order; empty where there is nothing to run.
    pub mend: Vec<String>,
    /// Whether `mend` may be run without a second look: it loses nothing and holds nobody up for long.
    pub is_safe: bool,
}

impl Finding {
    /// For backends.
    pub fn new(
        code: &str,
        place: impl Into<String>,
        severity: Severity,
        what: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self {
            code: code.to_owned(),
            place: place.into(),
            severity,
            what: what.into(),
            why: why.into(),
            mend: Vec::new(),
            is_safe: false,
        }
    }

    /// Is mended by these, which are for a person to run.
    #[must_use]
    pub fn mended_by(mut self, statements: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.mend = statements.into_iter().map(Into::into).collect();
        self
    }

    /// They may be run without a second look.
    #[must_use]
    pub fn safe(mut self) -> Self {
        self.is_safe = true;
        self
    }
}
