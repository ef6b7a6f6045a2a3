//! Defects of heartbeats and orphans.

use async_trait::async_trait;
use persist_core::{Heartbeat, Orphan, OrphanKind, OrphanQuery, Owner, Owners, Page, Result};

use super::{Broken, Defect};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owned {
    /// A lower epoch is told that it beats.
    LowerEpochIsTaken,
    /// A beat is told to be good for as long as any may be.
    BeatsLast,
    /// All who ever beat are alive.
    NobodyDies,
    /// Of several reasons one is told.
    OneReasonIsTold,
    /// What has no owner that is known is left alone by its owner.
    StrangersAreGone,
    /// The kinds that are asked for are ignored.
    KindsAreIgnored,
    /// The actor that is asked for is ignored.
    ActorIsIgnored,
    /// The grace is ignored.
    GraceIsIgnored,
    /// The last of a page that is followed by another is lost.
    LastOfPageIsLost,
}

/// All, with the case that notices.
pub(super) const ALL: &[(Owned, &str)] = &[
    (
        Owned::LowerEpochIsTaken,
        "owners::a_lower_epoch_is_refused_and_changes_nothing",
    ),
    (Owned::BeatsLast, "owners::a_beat_is_told_as_it_is_kept"),
    (
        Owned::NobodyDies,
        "orphans::what_an_earlier_start_left_is_told_and_what_the_new_one_reports_is_not",
    ),
    (Owned::OneReasonIsTold, "orphans::one_orphan_has_all_its_reasons"),
    (
        Owned::StrangersAreGone,
        "orphans::a_live_vm_is_told_where_its_job_is_not_live",
    ),
    (
        Owned::KindsAreIgnored,
        "orphan_queries::filters_leave_what_has_any_of_the_kinds",
    ),
    (
        Owned::ActorIsIgnored,
        "orphan_queries::filters_leave_what_the_actor_reported_last",
    ),
    (
        Owned::GraceIsIgnored,
        "orphan_queries::what_is_younger_than_the_grace_is_not_told",
    ),
    (
        Owned::LastOfPageIsLost,
        "orphan_queries::pages_of_any_size_see_all_once_in_the_order_of_keys",
    ),
];

impl Broken {
    fn owned(&self) -> Option<Owned> {
        match self.defect {
            Some(Defect::Owner(defect)) => Some(defect),
            _ => None,
        }
    }

    fn kept(&self) -> &dyn Owners {
        &self.inner
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait]
impl Owners for Broken {
    async fn heartbeat(&self, beat: &Heartbeat) -> Result<Owner> {
        let mut answer = self.kept().heartbeat(beat).await;
        match (self.owned(), &mut answer) {
            (Some(Owned::LowerEpochIsTaken), Err(error)) if error.context("field") == Some("epoch") => {
                let known = self.kept().list().await?;
                let standing = known.into_iter().find(|owner| owner.actor == beat.actor);
                return standing.map_or(answer, |mut owner| {
                    owner.epoch = beat.epoch;
                    Ok(owner)
                });
            }
            (Some(Owned::BeatsLast), Ok(owner)) => {
                owner.valid_until = owner.beat_at + *persist_core::HEARTBEAT.end();
            }
            _ => {}
        }
        answer
    }

    async fn list(&self) -> Result<Vec<Owner>> {
        self.kept().list().await
    }

    async fn orphans(&self, query: &OrphanQuery) -> Result<Page<Orphan>> {
        let mut asked = query.clone();
        let defect = self.owned();
        match defect {
            Some(Owned::KindsAreIgnored) => asked.kinds.clear(),
            Some(Owned::ActorIsIgnored) => asked.actor = None,
            Some(Owned::GraceIsIgnored) => asked.grace = std::time::Duration::ZERO,
            _ => {}
        }
        let mut page = self.kept().orphans(&asked).await?;
        match defect {
            Some(Owned::NobodyDies) => page
                .items
                .retain(|orphan| orphan.kinds != [OrphanKind::OwnerGone]),
            Some(Owned::OneReasonIsTold) => {
                page.items.iter_mut().for_each(|orphan| orphan.kinds.truncate(1));
            }
            Some(Owned::StrangersAreGone) => {
                let strange = page.items.iter_mut().filter(|orphan| orphan.actor.is_none());
                strange.for_each(|orphan| orphan.kinds.insert(0, OrphanKind::OwnerGone));
            }
            Some(Owned::LastOfPageIsLost) if page.next.is_some() => {
                page.items.pop();
            }
            _ => {}
        }
        Ok(page)
    }
}
