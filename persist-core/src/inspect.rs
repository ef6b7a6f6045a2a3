//! The power to be looked over: what of a store is not as it should be, and the statement that mends it.

pub mod code;

use std::cmp::Reverse;
use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Compares a store with what this program expects of it: tables, columns, keys, indexes, constraints, settings, files.
///
/// ```
/// # use persist_core::{Inspect, PersistBackend, Result, Severity};
/// # async fn example(backend: std::sync::Arc<dyn PersistBackend>) -> Result<()> {
/// let Some(inspect) = backend.inspect() else { return Ok(()) };
/// for finding in inspect.findings().await? {
///     println!("{} {}: {}", finding.severity.name(), finding.place, finding.what);
///     if finding.is_safe && finding.severity > Severity::Info {
///         inspect.mend(&finding).await?;
///     }
/// }
/// # Ok(()) }
/// ```
#[async_trait]
pub trait Inspect: Debug + Send + Sync {
    /// What is not as it should be, the worst first. Changes nothing, also where it is dropped at any await, and ends by the
    /// deadline of a read. Tells no value of a row; rows are counted only to say whether what is wrong can be mended.
    ///
    /// # Errors
    /// None of its own: a store in which much is wrong is one with many findings.
    async fn findings(&self) -> Result<Vec<Finding>>;

    /// Mends a finding that is [safe](Finding::is_safe) to mend. It looks again first and runs its own statements, never those of
    /// its argument, so that a finding from elsewhere is no way to run anything. Dropped, it may or may not have been mended;
    /// another look tells. An index of a large table takes its time: up to an hour.
    ///
    /// # Errors
    /// `InvalidInput` for a finding that is not safe, or that this store does not have now, as after it was mended; `Auth`
    /// where the role may not change the tables; `ReadOnly` where nothing may be written; whatever else the mending meets.
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
    /// A stable snake-case word for this sort of finding, such as `missing_index`: one of [`code::ALL`], or of a backend of
    /// an embedder's own.
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

    /// Whether it is about the same as another one, found at another time, and would be mended by the same statements.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.code, &self.place, &self.mend) == (&other.code, &other.place, &other.mend)
    }
}

/// Sorts findings, the worst first, and leaves those that are equally bad in their order.
pub fn worst_first(findings: &mut [Finding]) {
    findings.sort_by_key(|finding| Reverse(finding.severity));
}

/// The finding of a store that can be mended in this way now, as it is now.
///
/// # Errors
/// `InvalidInput` where there is none, or it is not safe.
pub fn mendable<'f>(now: &'f [Finding], finding: &Finding) -> Result<&'f Finding> {
    let Some(found) = now.iter().find(|found| found.is_same(finding)) else {
        return Err(Error::invalid(
            "finding",
            "the store does not have it now; look again",
        ));
    };
    if !found.is_safe || found.mend.is_empty() {
        return Err(Error::invalid(
            "finding",
            "to mend it needs a person; run what it says after a second look",
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn finding(place: &str, severity: Severity) -> Finding {
        Finding::new(
            code::MISSING_INDEX,
            place,
            severity,
            "it is missing",
            "reads are slow",
        )
        .mended_by(["CREATE"])
    }

    #[test]
    fn the_worst_come_first_and_equals_stay_in_their_order() {
        use Severity::{Error, Info, Warning};
        let mut findings =
            [("a", Info), ("b", Error), ("c", Warning), ("d", Error)].map(|(place, bad)| finding(place, bad));
        worst_first(&mut findings);
        assert_eq!(findings.map(|finding| finding.place), ["b", "d", "c", "a"]);
    }

    #[test]
    fn only_what_is_there_now_and_safe_can_be_mended() {
        let (unsafe_one, safe) = (
            finding("a", Severity::Error),
            finding("b", Severity::Error).safe(),
        );
        let now = [unsafe_one.clone(), safe.clone()];
        assert_eq!(mendable(&now, &safe).unwrap(), &safe);
        let elsewhere = safe.clone().mended_by(["DROP TABLE jobs"]);
        // What was made safe by whoever asks is judged by what is found.
        for refused in [unsafe_one.safe(), elsewhere, finding("c", Severity::Error).safe()] {
            assert_eq!(
                mendable(&now, &refused).unwrap_err().kind(),
                ErrorKind::InvalidInput,
                "{refused:?}"
            );
        }
    }

    #[test]
    fn codes_are_words_and_each_is_listed_once() {
        let mut all = code::ALL.to_vec();
        all.dedup();
        assert_eq!(all.len(), code::ALL.len());
        assert!(all.is_sorted());
        let is_word = |code: &&str| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        assert!(all.iter().all(is_word));
    }
}
