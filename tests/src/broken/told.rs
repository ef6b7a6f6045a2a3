//! Outcomes as a broken store tells them.

use std::collections::HashMap;

use persist_core::{Claim, Current, Error, Outcome, Rank, Result, Subject};

use super::Writes;

/// The outcomes as they are told.
pub(super) fn told(defect: Writes, claims: &[Claim], mut outcomes: Vec<Outcome>) -> Result<Vec<Outcome>> {
    match defect {
        Writes::OutcomesSwapped if outcomes.len() > 1 => outcomes.swap(0, 1),
        Writes::OutcomesByKey => {
            let mut keyed: Vec<_> = claims.iter().zip(outcomes).collect();
            keyed.sort_by_key(|(claim, _)| (claim.subject(), claim.rank()));
            outcomes = keyed.into_iter().map(|(_, outcome)| outcome).collect();
        }
        Writes::RepetitionInBatchReadsSame => {
            let mut first: HashMap<(&Subject, Rank), Outcome> = HashMap::new();
            for (claim, outcome) in claims.iter().zip(&mut outcomes) {
                *outcome = *first.entry((claim.subject(), claim.rank())).or_insert(*outcome);
            }
        }
        Writes::CurrentOfTheBatchsEnd => {
            let mut last = HashMap::new();
            for (claim, outcome) in claims.iter().zip(&outcomes) {
                let moved = Current {
                    state: claim.state(),
                    attempt: claim.attempt(),
                };
                last.insert(claim.subject(), outcome.current().unwrap_or(moved));
            }
            for (claim, outcome) in claims.iter().zip(&mut outcomes) {
                *outcome = with_current(*outcome, last[claim.subject()]);
            }
        }
        Writes::RefusedIsError
            if outcomes
                .iter()
                .any(|outcome| matches!(outcome, Outcome::Refused { .. })) =>
        {
            return Err(Error::invalid("state", "the attempt has ended"));
        }
        _ => outcomes
            .iter_mut()
            .for_each(|outcome| *outcome = retold(defect, *outcome)),
    }
    Ok(outcomes)
}

fn retold(defect: Writes, outcome: Outcome) -> Outcome {
    match (defect, outcome) {
        (Writes::LateReadsApplied, Outcome::Late { .. })
        | (Writes::UnchangedReadsApplied, Outcome::Unchanged { .. }) => Outcome::Applied { created: false },
        (Writes::FilledReadsUnchanged, Outcome::Filled { current }) => Outcome::Unchanged { current },
        (Writes::UnchangedReadsFilled, Outcome::Unchanged { current }) => Outcome::Filled { current },
        (Writes::AlwaysCreated, Outcome::Applied { .. }) => Outcome::Applied { created: true },
        (_, outcome) => outcome,
    }
}

fn with_current(outcome: Outcome, current: Current) -> Outcome {
    match outcome {
        Outcome::Late { .. } => Outcome::Late { current },
        Outcome::Filled { .. } => Outcome::Filled { current },
        Outcome::Unchanged { .. } => Outcome::Unchanged { current },
        Outcome::Refused { standing, .. } => Outcome::Refused { standing, current },
        other => other,
    }
}
