//! Defects of what an update does, and of what is told of it.

use persist_core::{
    Attribute, CHUNK, Claim, Error, JobState, Outcome, PersistBackend as _, Result, Slot, State, Subject,
    VmKey,
};
use persist_memory::MemoryBackend;

use super::rewrite::{self, claim_of, standing};
use super::told::told;
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
    (
        Writes::StoresNothing,
        "outcomes::the_first_update_is_applied_and_makes_the_row",
    ),
    (
        Writes::LateIsDropped,
        "outcomes::an_update_of_a_lower_phase_is_late_and_the_state_stays",
    ),
    (
        Writes::LateReadsApplied,
        "outcomes::a_late_update_tells_the_row_and_not_its_own_slot",
    ),
    (
        Writes::FilledReadsUnchanged,
        "outcomes::each_attribute_fills_its_blank",
    ),
    (
        Writes::UnchangedReadsFilled,
        "outcomes::the_same_update_again_is_unchanged",
    ),
    (
        Writes::UnchangedReadsApplied,
        "outcomes::the_same_update_again_is_unchanged",
    ),
    (
        Writes::RefusedIsError,
        "outcomes::any_two_endings_of_one_attempt_exclude_each_other",
    ),
    (
        Writes::RefusedNamesTheRow,
        "outcomes::a_refusal_below_the_row_tells_what_stands_and_the_row",
    ),
    (
        Writes::AlwaysCreated,
        "outcomes::an_update_of_a_later_phase_is_applied_and_moves_the_row",
    ),
    (
        Writes::CurrentOfTheBatchsEnd,
        "batches::a_repetition_tells_the_row_as_of_its_position",
    ),
    (Writes::OutcomesSwapped, "batches::outcomes_come_by_position"),
    (Writes::OutcomesByKey, "batches::outcomes_come_by_position"),
    (
        Writes::RepetitionInBatchReadsSame,
        "batches::a_repeated_slot_is_applied_and_then_unchanged",
    ),
    (
        Writes::LastOfLargeBatchIsLost,
        "batches::every_size_around_a_chunk_is_taken",
    ),
    (
        Writes::LargeBatchIsError,
        "batches::every_size_around_a_chunk_is_taken",
    ),
    (Writes::EmptyBatchIsError, "batches::an_empty_batch_is_fine"),
    (
        Writes::FillOverwrites,
        "outcomes::an_update_that_says_otherwise_is_unchanged",
    ),
    (Writes::FillForgetsReason, "outcomes::a_reason_fills_its_blank"),
    (
        Writes::RepetitionMovesTime,
        "outcomes::another_time_for_a_held_slot_is_unchanged",
    ),
    (
        Writes::SecondEndingStands,
        "outcomes::any_two_endings_of_one_attempt_exclude_each_other",
    ),
    (
        Writes::OldTimeIsDropped,
        "times::the_times_of_updates_decide_no_order",
    ),
    (
        Writes::LostIsFinal,
        "outcomes::a_lost_job_is_healed_by_any_reported_ending",
    ),
    (
        Writes::SkippedPhaseIsError,
        "outcomes::every_state_may_come_first",
    ),
    (Writes::VmNeedsItsJob, "vms::a_vm_may_come_before_its_job"),
    (Writes::NamesFoldCase, "input::i5_case_is_told_apart"),
    (Writes::TimesAreCut, "times::k3_microseconds_are_kept"),
    (
        Writes::TextsAreTrimmed,
        "input::i5_trailing_spaces_are_told_apart",
    ),
    (
        Writes::TextsAreCut,
        "limits::i2_a_text_at_its_limit_is_stored_exactly",
    ),
    (
        Writes::TextsAreAscii,
        "limits::i2_a_text_of_multi_byte_characters_is_measured_in_bytes",
    ),
    (
        Writes::TwoWinners,
        "concurrency::x2_the_same_update_from_many_tasks_is_applied_once",
    ),
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
    let has_job = inner.job(claim.subject().request_id()).await?.is_some();
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
        (Writes::VmNeedsItsJob, ..) if claim.subject().is_vm() && !has_job => {
            return Err(Error::invalid("request_id", "has no such job"));
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
