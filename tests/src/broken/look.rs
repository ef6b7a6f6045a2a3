//! Defects of the power to be looked over.

use async_trait::async_trait;
use persist_core::inspect::{code, mendable, worst_first};
use persist_core::{Finding, Inspect, Result, Severity};

use super::{Broken, Defect, life};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looks {
    /// A store that was just made has something wrong.
    FreshIsIll,
    /// The best comes first.
    BestFirst,
    /// Whatever it is told to mend, it says it has.
    MendsAnything,
    /// A closed handle goes on looking.
    LooksAfterClose,
}

/// All, with the case that notices.
pub(super) const ALL: &[(Looks, &str)] = &[
    (Looks::FreshIsIll, "inspect::a_fresh_store_has_nothing_above_info"),
    (
        Looks::BestFirst,
        "inspect::the_worst_is_told_first_and_a_look_changes_nothing",
    ),
    (
        Looks::MendsAnything,
        "inspect::what_the_store_does_not_have_is_not_mended",
    ),
    (
        Looks::LooksAfterClose,
        "inspect::after_close_nobody_looks_or_mends",
    ),
];

/// A memory has nothing to be looked over: what is found here is made up.
pub(super) fn power(broken: &Broken) -> Option<&dyn Inspect> {
    matches!(broken.defect, None | Some(Defect::Look(_))).then_some(broken)
}

fn has(broken: &Broken, defect: Looks) -> bool {
    broken.defect == Some(Defect::Look(defect))
}

#[async_trait]
impl Inspect for Broken {
    async fn findings(&self) -> Result<Vec<Finding>> {
        if !has(self, Looks::LooksAfterClose) {
            life::begin(self, "findings").await?;
        }
        let note = |code, severity| Finding::new(code, "memory", severity, "it is so", "it is a memory");
        let mut findings = vec![note(code::NOT_DURABLE, Severity::Info)];
        if has(self, Looks::FreshIsIll) || has(self, Looks::BestFirst) {
            findings.push(note(code::BLOAT, Severity::Warning));
        }
        if !has(self, Looks::BestFirst) {
            worst_first(&mut findings);
        }
        Ok(findings)
    }

    async fn mend(&self, finding: &Finding) -> Result<()> {
        life::begin(self, "mend").await?;
        if has(self, Looks::MendsAnything) {
            return Ok(());
        }
        mendable(&self.findings().await?, finding).map(drop)
    }
}
