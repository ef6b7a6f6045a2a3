//! Defects of what an update does, and of what is told of it.

use std::collections::HashMap;

use persist_core::{
    Attribute, CHUNK, Claim, Error, JobState, Outcome, PersistBackend as _, Rank, Result, Slot, State,
    Subject, VmKey,
};
use persist_memory::MemoryBackend;

use super::rewrite::{self, claim_of, standing};
use super::{Broken, Defect};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// Says how it went and stores nothing.
    StoresNothing,
    /// A late update is told and not stored.
    LateIsDropped,
    /// A late update reads `Applied`.
    LateReadsApplied,
    /// A fill reads `Unchanged`.
    FilledReadsUnchanged,
    /// A repetition reads `Filled`.
    UnchangedReadsFilled,
    /// A repetition reads `Applied`.
    UnchangedReadsApplied,
    /// A refusal is an error.
    RefusedIsError,
    /// A refusal names the row's state in place of the one that stands in the slot.
    RefusedNamesTheRow,
    /// `created` is always true.
    AlwaysCreated,
    /// `current` is the row at the end of the batch.
    CurrentOfTheBatchsEnd,
    /// The first two outcomes of a batch are swapped.
    OutcomesSwapped,
    /// Outcomes come in the order of the keys.
    OutcomesByKey,
    /// A slot that stands twice in a batch gets the first one's outcome twice.
    RepetitionInBatchReadsSame,
    /// The last update of a batch of more than one chunk is told and not stored.
    LastOfLargeBatchIsLost,
    /// A batch of more than one chunk is an error.
    LargeBatchIsError,
    /// An empty batch is an error.
    EmptyBatchIsError,
    /// A value is overwritten by a fill.
    FillOverwrites,
    /// Actor and reason are not filled.
    FillForgetsReason,
    /// A repetition moves the slot's time.
    RepetitionMovesTime,
    /// The second ending takes the slot, and reads `Applied`.
    SecondEndingStands,
    /// An update whose time is before the row's is not stored.
    OldTimeIsDropped,
    /// A reported ending does not heal `lost`.
    LostIsFinal,
    /// A new subject must begin in its first phase.
    SkippedPhaseIsError,
    /// A VM's job must be there before it.
    VmNeedsItsJob,
    /// Names of VMs fold their letter case.
    NamesFoldCase,
    /// Milliseconds.
    TimesAreCut,
    /// Spaces at the ends of texts go.
    TextsAreTrimmed,
    /// Texts are cut at 255 bytes.
    TextsAreCut,
    /// Characters beyond ASCII become question marks.
    TextsAreAscii,
    /// Whoever looked before the winner had written is told `Applied` too.
    TwoWinners,
}

/// All, with the case that notices.
pub(super) const ALL: &[(Writes, &str)] = &[
    (Writes::StoresNothing, ""),
    (Writes::LateIsDropped, ""),
    (Writes::LateReadsApplied, ""),
    (Writes::FilledReadsUnchanged, ""),
    (Writes::UnchangedReadsFilled, ""),
    (Writes::UnchangedReadsApplied, ""),
    (Writes::RefusedIsError, ""),
    (Writes::RefusedNamesTheRow, ""),
    (Writes::AlwaysCreated, ""),
    (Writes::CurrentOfTheBatchsEnd, ""),
    (Writes::OutcomesSwapped, ""),
    (Writes::OutcomesByKey, ""),
    (Writes::RepetitionInBatchReadsSame, ""),
    (Writes::LastOfLargeBatchIsLost, ""),
    (Writes::LargeBatchIsError, ""),
    (Writes::EmptyBatchIsError, ""),
    (Writes::FillOverwrites, ""),
    (Writes::FillForgetsReason, ""),
    (Writes::RepetitionMovesTime, ""),
    (Writes::SecondEndingStands, ""),
    (Writes::OldTimeIsDropped, ""),
    (Writes::LostIsFinal, ""),
    (Writes::SkippedPhaseIsError, ""),
    (Writes::VmNeedsItsJob, ""),
    (Writes::NamesFoldCase, ""),
    (Writes::TimesAreCut, ""),
    (Writes::TextsAreTrimmed, ""),
    (Writes::TextsAreCut, ""),
    (Writes::TextsAreAscii, ""),
    (Writes::TwoWinners, ""),
];

/// The key under which a VM is stored.
pub(super) fn stored_key(broken: &Broken, key: &VmKey) -> VmKey {
    match broken.defect {
        Some(Defect::Write(Writes::NamesFoldCase)) => {
            VmKey::new(key.request_id, key.domain_name.to_lowercase())
        }
        _ => key.clone(),
    }
}

pub(super) async fn apply(broken: &Broken, defect: Writes, claims: &[Claim]) -> Result<Vec<Outcome>> {
    let inner = &broken.inner;
    let large = claims.len() > CHUNK;
    match defect {
        Writes::StoresNothing => return MemoryBackend::new().apply(claims).await,
        Writes::LargeBatchIsError if large => return Err(Error::invalid("batch", "has too many updates")),
        Writes::EmptyBatchIsError if claims.is_empty() => return Err(Error::invalid("batch", "is empty")),
        Writes::LastOfLargeBatchIsLost if large => {
            let told = rewrite::copy_of(inner).await?.apply(claims).await?;
            inner.apply(&claims[..claims.len() - 1]).await?;
            return Ok(told);
        }
        Writes::LateIsDropped
        | Writes::FillOverwrites
        | Writes::FillForgetsReason
        | Writes::RepetitionMovesTime
        | Writes::SecondEndingStands
        | Writes::OldTimeIsDropped
        | Writes::LostIsFinal
        | Writes::SkippedPhaseIsError
        | Writes::VmNeedsItsJob
        | Writes::CurrentOfTheBatchsEnd
        | Writes::RefusedNamesTheRow
        | Writes::TwoWinners => {}
        _ => {
            let stored: Vec<_> = claims.iter().map(|claim| as_stored(defect, claim)).collect();
            let outcomes = inner.apply(&stored).await?;
            return told(defect, claims, outcomes);
        }
    }
    let mut outcomes = Vec::with_capacity(claims.len());
    for claim in claims {
        outcomes.push(one(broken, defect, claim).await?);
    }
    told(defect, claims, outcomes)
}

/// The claim as a store of the wrong types keeps it.
fn as_stored(defect: Writes, claim: &Claim) -> Claim {
    let (mut subject, mut slot) = (claim.subject().clone(), Slot::claimed_by(claim));
    let mut texts = |change: fn(String) -> String| {
        for attribute in Attribute::ALL {
            let value = slot.attributes.take(attribute).map(change);
            slot.attributes.set(attribute, value);
        }
        slot.actor = slot.actor.take().map(change);
        slot.reason = slot.reason.take().map(change);
    };
    match defect {
        Writes::NamesFoldCase => {
            if let Subject::Vm(key) = &mut subject {
                key.domain_name = key.domain_name.to_lowercase();
            }
        }
        Writes::TimesAreCut => slot.at -= chrono::TimeDelta::microseconds(slot.at.timestamp_micros() % 1_000),
        Writes::TextsAreTrimmed => texts(|text| text.trim_end_matches(' ').to_owned()),
        Writes::TextsAreCut => texts(|mut text| {
            text.truncate(text.floor_char_boundary(255));
            text
        }),
        Writes::TextsAreAscii => texts(|text| text.replace(|letter: char| !letter.is_ascii(), "?")),
        _ => return claim.clone(),
    }
    claim_of(&subject, slot)
}

/// One update, by a store that thinks before it writes, and thinks wrong.
async fn one(broken: &Broken, defect: Writes, claim: &Claim) -> Result<Outcome> {
    let inner = &broken.inner;
    let held = standing(inner, claim).await?;
    let row = rewrite::row(inner, claim.subject()).await?;
    let same_state = held.as_ref().is_some_and(|slot| slot.state == claim.state());
    match (defect, &held, &row) {
        (Writes::LateIsDropped, None, Some(row)) if claim.rank() < row.rank => {
            return Ok(Outcome::Late {
                current: row.current(),
            });
        }
        (Writes::OldTimeIsDropped, None, Some(row)) if claim.at() < row.updated_at => {
            return Ok(Outcome::Unchanged {
                current: row.current(),
            });
        }
        (Writes::LostIsFinal, None, Some(row))
            if row.state == State::Job(JobState::Lost) && row.rank.attempt() == claim.attempt() =>
        {
            return Ok(Outcome::Refused {
                standing: row.state,
                current: row.current(),
            });
        }
        (Writes::SkippedPhaseIsError, None, None) if claim.rank().phase() > 0 => {
            return Err(Error::invalid("state", "must begin in the first phase"));
        }
        (Writes::VmNeedsItsJob, ..) if claim.subject().is_vm() => {
            if inner.job(claim.subject().request_id()).await?.is_none() {
                return Err(Error::invalid("request_id", "has no such job"));
            }
        }
        (Writes::FillForgetsReason, Some(held), _) => {
            let mut slot = Slot::claimed_by(claim);
            (slot.actor, slot.reason) = (held.actor.clone(), held.reason.clone());
            return Ok(inner.apply(&[claim_of(claim.subject(), slot)]).await?[0]);
        }
        (Writes::FillOverwrites, Some(held), _) if same_state => {
            let mut slot = Slot::claimed_by(claim);
            slot.at = held.at;
            slot.actor = slot.actor.or_else(|| held.actor.clone());
            slot.reason = slot.reason.or_else(|| held.reason.clone());
            slot.attributes.fill(&held.attributes);
            if slot != *held {
                rewrite::replace(inner, claim.subject(), slot).await?;
            }
        }
        (Writes::RepetitionMovesTime, Some(held), _) if same_state && held.at != claim.at() => {
            let moved = Slot {
                at: claim.at(),
                ..held.clone()
            };
            rewrite::replace(inner, claim.subject(), moved).await?;
        }
        (Writes::SecondEndingStands, Some(held), _) if !same_state => {
            let corrected = Slot {
                state: claim.state(),
                ..held.clone()
            };
            rewrite::replace(inner, claim.subject(), corrected).await?;
            return Ok(Outcome::Applied { created: false });
        }
        (Writes::TwoWinners, ..) => tokio::task::yield_now().await,
        _ => {}
    }
    let outcome = inner.apply(std::slice::from_ref(claim)).await?[0];
    Ok(match (defect, outcome, row) {
        (Writes::TwoWinners, Outcome::Unchanged { .. }, row) if held.is_none() => Outcome::Applied {
            created: row.is_none(),
        },
        (Writes::RefusedNamesTheRow, Outcome::Refused { current, .. }, _) => Outcome::Refused {
            standing: current.state,
            current,
        },
        (_, outcome, _) => outcome,
    })
}

/// The outcomes as they are told.
fn told(defect: Writes, claims: &[Claim], mut outcomes: Vec<Outcome>) -> Result<Vec<Outcome>> {
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
                let moved = persist_core::Current {
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

fn with_current(outcome: Outcome, current: persist_core::Current) -> Outcome {
    match outcome {
        Outcome::Late { .. } => Outcome::Late { current },
        Outcome::Filled { .. } => Outcome::Filled { current },
        Outcome::Unchanged { .. } => Outcome::Unchanged { current },
        Outcome::Refused { standing, .. } => Outcome::Refused { standing, current },
        other => other,
    }
}
