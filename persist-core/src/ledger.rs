//! The power to remember what was refused: what was tried, and what stood.

mod query;
mod refusal;

use std::collections::BTreeMap;
use std::fmt::Debug;

use async_trait::async_trait;

use crate::claim::Claim;
use crate::error::Result;
use crate::outcome::Outcome;
use crate::page::Page;
use crate::state::State;
use crate::subject::Subject;

pub use query::{RefusalPosition, RefusalQuery};
pub use refusal::Refusal;

/// The refusals of a store. They are no part of the history: `export` does not show them, `copy` does not bring them, and
/// they go with their job when it is pruned.
///
/// There is one for each slot and state that was tried in vain, however often: a slot of a job has at most three, one of a
/// VM at most one, so that they are bounded by the history. A backend by itself keeps nothing: `replay` keeps what it is
/// answered with, and the facade what its updates are, once a second and beside them, so that nobody waits for it.
///
/// [`keep`](Self::keep) has the deadline of a write, [`refusals`](Self::refusals) that of a read. Both are cancel-safe, and
/// `Closed` after close.
///
/// ```
/// # use persist_core::{Claim, Outcome, PersistBackend, RefusalQuery, Result, Tried};
/// # async fn example(backend: std::sync::Arc<dyn PersistBackend>, claim: Claim) -> Result<()> {
/// let Some(ledger) = backend.ledger() else { return Ok(()) };
/// let outcomes = backend.apply(&[claim.clone()]).await?;
/// ledger.keep(&Tried::of(&[claim], &outcomes)).await?;
/// for refusal in ledger.refusals(&RefusalQuery::default()).await?.items {
///     println!("{} tried {}, {} stands", refusal.claim.subject(), refusal.claim.state(), refusal.standing);
/// }
/// # Ok(()) }
/// ```
///
/// # Errors
/// Of each call: `SchemaMismatch` on a store that lacks the migration of refusals, which is an optional one.
#[async_trait]
pub trait Ledger: Debug + Send + Sync {
    /// Keeps refusals, in any number and order, of slots that are there; the deadline counts per chunk. One that is there
    /// already counts on: its first update stays, what stands and the time of the last try are the new ones. After an error
    /// any of them may be kept, and keeping them again counts them again.
    async fn keep(&self, tried: &[Tried]) -> Result<()>;

    /// A page of refusals, those that were tried last first.
    ///
    /// # Errors
    /// `InvalidInput` as [`RefusalQuery::check`] says.
    async fn refusals(&self, query: &RefusalQuery) -> Result<Page<Refusal>>;
}

/// An update that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tried {
    /// The update.
    pub claim: Claim,
    /// The state that stood in its slot.
    pub standing: State,
    /// How many tries it stands for, from 1.
    pub tries: u32,
}

impl Tried {
    /// One try.
    pub fn new(claim: Claim, standing: State) -> Self {
        Self {
            claim,
            standing,
            tries: 1,
        }
    }

    /// Stands for this many tries.
    #[must_use]
    pub fn tries(mut self, tries: u32) -> Self {
        self.tries = tries.max(1);
        self
    }

    /// Those of a batch that were refused. Allocates nothing where none was.
    pub fn of(claims: &[Claim], outcomes: &[Outcome]) -> Vec<Self> {
        let answered = claims.iter().zip(outcomes);
        let refused = answered.filter_map(|(claim, outcome)| match outcome {
            Outcome::Refused { standing, .. } => Some(Self::new(claim.clone(), *standing)),
            _ => None,
        });
        refused.collect()
    }

    /// What the ledger keeps it under: its slot, and the state that it tried.
    pub fn key(&self) -> (&Subject, i64, &'static str) {
        let claim = &self.claim;
        (claim.subject(), claim.rank().get(), claim.state().name())
    }

    /// One for each key, in the order of keys: the first update of each, the last standing, all tries. For backends.
    pub fn merged(tried: &[Self]) -> Vec<Self> {
        let mut merged: BTreeMap<_, Self> = BTreeMap::new();
        for one in tried {
            let of_key = merged.entry(one.key());
            of_key
                .and_modify(|first| {
                    first.standing = one.standing;
                    first.tries = first.tries.saturating_add(one.tries);
                })
                .or_insert_with(|| one.clone());
        }
        merged.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Current;
    use crate::{FixedClock, JobState, JobUpdate, time};
    use uuid::Uuid;

    fn claim(n: u128, state: JobState, actor: &str) -> Claim {
        let clock = FixedClock(time::from_micros(5).unwrap());
        let update = JobUpdate::new(Uuid::from_u128(n), state).actor(actor);
        update.check(&clock).unwrap()
    }

    #[test]
    fn what_was_refused_is_taken_from_the_answers_by_position() {
        let claims = [
            claim(1, JobState::Failed, "a"),
            claim(2, JobState::Failed, "a"),
            claim(3, JobState::Failed, "a"),
        ];
        let standing = State::Job(JobState::Succeeded);
        let current = Current {
            state: standing,
            attempt: claims[1].attempt(),
        };
        let outcomes = [
            Outcome::Applied { created: true },
            Outcome::Refused { standing, current },
            Outcome::Unchanged { current },
        ];
        let tried = Tried::of(&claims, &outcomes);
        assert_eq!(tried, [Tried::new(claims[1].clone(), standing)]);
    }

    #[test]
    fn one_key_is_merged_to_one() {
        let [succeeded, cancelled] = [JobState::Succeeded, JobState::Cancelled].map(State::Job);
        let tried = [
            Tried::new(claim(2, JobState::Failed, "first"), succeeded).tries(3),
            Tried::new(claim(2, JobState::TimedOut, "other"), succeeded),
            Tried::new(claim(1, JobState::Failed, "b"), succeeded),
            Tried::new(claim(2, JobState::Failed, "second"), cancelled).tries(0),
        ];
        let merged = Tried::merged(&tried);
        let told: Vec<_> = merged
            .iter()
            .map(|one| (one.claim.actor().unwrap(), one.standing, one.tries))
            .collect();
        assert_eq!(
            told,
            [
                ("b", succeeded, 1),
                ("first", cancelled, 4),
                ("other", succeeded, 1)
            ]
        );
        let many = Tried::new(claim(2, JobState::Failed, "first"), succeeded).tries(u32::MAX);
        assert_eq!(Tried::merged(&[many.clone(), many])[0].tries, u32::MAX);
    }
}
