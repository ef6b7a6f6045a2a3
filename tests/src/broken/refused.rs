//! Defects of the account of what was refused.

use async_trait::async_trait;
use persist_core::{
    Event, Ledger, Page, Refusal, RefusalQuery, Result, Seq, Slot, SystemClock, Tried, Update,
};

use super::{Broken, Defect};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Tries are not counted.
    TriesAreNotCounted,
    /// Of a batch the first is kept.
    OneOfABatchIsKept,
    /// The time of the last try is that of the first.
    LastIsFirst,
    /// What stood first is told for ever.
    StandingStays,
    /// The reason is lost.
    ReasonIsLost,
    /// The first page comes in the order of keys.
    OrderIsOfKeys,
    /// The job that is asked for is ignored.
    JobIsIgnored,
    /// The last of a page that is followed by another is lost.
    LastOfPageIsLost,
    /// After close nothing is told, which is no error.
    ClosedIsEmpty,
}

/// All, with the case that notices.
pub(super) const ALL: &[(Refused, &str)] = &[
    (
        Refused::TriesAreNotCounted,
        "ledger::the_same_try_again_is_counted",
    ),
    (
        Refused::OneOfABatchIsKept,
        "ledger::a_batch_may_name_one_many_times",
    ),
    (Refused::LastIsFirst, "ledger::the_same_try_again_is_counted"),
    (Refused::StandingStays, "ledger::the_same_try_again_is_counted"),
    (Refused::ReasonIsLost, "ledger::a_refusal_is_told_as_it_was_tried"),
    (
        Refused::OrderIsOfKeys,
        "refusal_queries::the_last_tried_comes_first",
    ),
    (
        Refused::JobIsIgnored,
        "refusal_queries::a_walk_of_one_job_sees_its_own",
    ),
    (
        Refused::LastOfPageIsLost,
        "refusal_queries::pages_of_any_size_see_all_once",
    ),
    (Refused::ClosedIsEmpty, "ledger::every_call_after_close_is_closed"),
];

impl Broken {
    fn refused(&self) -> Option<Refused> {
        match self.defect {
            Some(Defect::Refused(defect)) => Some(defect),
            _ => None,
        }
    }

    fn account(&self) -> &dyn Ledger {
        &self.inner
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait]
impl Ledger for Broken {
    async fn keep(&self, tried: &[Tried]) -> Result<()> {
        let mut tried = tried.to_vec();
        match self.refused() {
            Some(Refused::OneOfABatchIsKept) => tried.truncate(1),
            Some(Refused::StandingStays) => {
                let known = self.account().refusals(&RefusalQuery::default()).await?.items;
                for one in &mut tried {
                    let held = known.iter().find(|held| held.key() == one.key());
                    one.standing = held.map_or(one.standing, |held| held.standing);
                }
            }
            _ => {}
        }
        self.account().keep(&tried).await
    }

    async fn refusals(&self, query: &RefusalQuery) -> Result<Page<Refusal>> {
        let mut asked = query.clone();
        let defect = self.refused();
        if defect == Some(Refused::JobIsIgnored) {
            asked.request_id = None;
        }
        let answer = self.account().refusals(&asked).await;
        let mut page = match (defect, answer) {
            (Some(Refused::ClosedIsEmpty), Err(_)) => return Ok(Page::new(Vec::new(), None)),
            (_, answer) => answer?,
        };
        let items = &mut page.items;
        match defect {
            Some(Refused::TriesAreNotCounted) => items.iter_mut().for_each(|one| one.tries = 1),
            Some(Refused::LastIsFirst) => items.iter_mut().for_each(|one| one.last_at = one.first_at),
            Some(Refused::ReasonIsLost) => items.iter_mut().for_each(without_reason),
            Some(Refused::OrderIsOfKeys) => items.sort_by(|a, b| a.key().cmp(&b.key())),
            Some(Refused::LastOfPageIsLost) if page.next.is_some() => {
                items.pop();
            }
            _ => {}
        }
        Ok(page)
    }
}

/// The same update without its reason.
fn without_reason(refusal: &mut Refusal) {
    let mut slot = Slot::claimed_by(&refusal.claim);
    slot.reason = None;
    let event = Event::new(
        Seq::new(0),
        refusal.first_at,
        refusal.claim.subject().clone(),
        slot,
    );
    if let Ok(claim) = Update::from(&event).check(&SystemClock) {
        refusal.claim = claim;
    }
}
