//! Defects of the changes that are watched.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use persist_core::{ChangePosition, ChangeQuery, Changed, Changes, ErrorKind, Result, Seq};

use super::{Broken, Defect, life};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watches {
    /// Of several changes at once the second is left out.
    SkipsOneOfSeveral,
    /// A slot that was told is not told again when it is filled.
    FillsAreForgotten,
    /// A walk that can't go on begins anew in silence.
    LagIsNotTold,
    /// A walk from the start lags behind what was pruned before it began.
    StartLags,
    /// From now on means from the start.
    NowIsTheStart,
    /// A place of another store or listing is the start.
    OtherPlaceIsStart,
    /// More follow is never told.
    MoreIsNotTold,
}

/// All, with the case that notices.
pub(super) const ALL: &[(Watches, &str)] = &[
    (
        Watches::SkipsOneOfSeveral,
        "changes::every_claim_and_every_fill_is_seen_once_in_order",
    ),
    (
        Watches::FillsAreForgotten,
        "changes::every_claim_and_every_fill_is_seen_once_in_order",
    ),
    (
        Watches::LagIsNotTold,
        "changes_pruned::behind_what_was_pruned_a_walk_lags_and_anew_it_does_not",
    ),
    (
        Watches::StartLags,
        "changes_pruned::behind_what_was_pruned_a_walk_lags_and_anew_it_does_not",
    ),
    (
        Watches::NowIsTheStart,
        "changes::from_now_on_only_what_comes_is_seen",
    ),
    (
        Watches::OtherPlaceIsStart,
        "changes::a_place_of_elsewhere_is_refused",
    ),
    (
        Watches::MoreIsNotTold,
        "changes::an_answer_has_at_most_its_limit_and_says_whether_more_follow",
    ),
];

fn has(broken: &Broken, defect: Watches) -> bool {
    broken.defect == Some(Defect::Watch(defect))
}

#[async_trait]
impl Changes for Broken {
    async fn now(&self) -> Result<ChangePosition> {
        life::begin(self, "now").await?;
        let mut now = self.inner.now().await?;
        if has(self, Watches::NowIsTheStart) {
            now.seq = Seq::new(0);
        }
        Ok(now)
    }

    async fn since(&self, query: &ChangeQuery) -> Result<Changed> {
        life::begin(self, "changes").await?;
        let anew = ChangeQuery::default().limit(query.limit);
        let mut changed = match self.inner.since(query).await {
            Err(error) if error.kind() == ErrorKind::Lagged && has(self, Watches::LagIsNotTold) => {
                self.inner.since(&anew).await?
            }
            Err(error)
                if error.context("field") == Some("after") && has(self, Watches::OtherPlaceIsStart) =>
            {
                self.inner.since(&anew).await?
            }
            answer => answer?,
        };
        if has(self, Watches::StartLags) {
            // A place of before any prune, also where the walk began after it.
            changed.next.prunes = 0;
        }
        if has(self, Watches::MoreIsNotTold) {
            changed.more = false;
        }
        if has(self, Watches::SkipsOneOfSeveral) && changed.changes.len() > 1 {
            changed.changes.remove(1);
        }
        if has(self, Watches::FillsAreForgotten) {
            let mut told = self.shared.told.lock();
            changed
                .changes
                .retain(|change| told.insert((change.event.subject.clone(), change.event.rank)));
        }
        Ok(changed)
    }

    async fn hint(&self) {
        if self.closes.load(Ordering::SeqCst) > 0 {
            std::future::pending::<()>().await;
        }
        self.inner.hint().await;
    }
}
