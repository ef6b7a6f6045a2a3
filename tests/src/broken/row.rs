//! Defects of the current row, which must be the fold of its history.

use persist_core::merge::{self, Row};
use persist_core::{
    Attribute, Attributes, Claim, Event, Job, JobQuery, Outcome, Page, PersistBackend as _, Result, Slot,
    Subject, Vm, VmQuery,
};

use super::{Broken, Defect, rewrite};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// A late update overwrites the state.
    GoesBackwards,
    /// The second ending of an attempt is shown, though the first stands.
    SecondEndingIsShown,
    /// A blank of a later slot hides an earlier value.
    BlankOverwrites,
    /// The value that came last is shown, though a higher slot has another.
    LateValueWins,
    /// What a late update brought is not shown.
    LateValueIsLost,
    /// What a fill brought is not shown.
    FillIsNotShown,
    /// `created_at` is the time of the update that came first.
    CreatedIsFirstToCome,
    /// `updated_at` is the time of the update that came last.
    UpdatedIsLastToCome,
    /// `updated_at` is the time of the state that is shown.
    UpdatedIsOfTheState,
}

/// Of jobs, with the case that notices.
pub(super) const JOBS: &[(Rows, &str)] = &[
    (
        Rows::GoesBackwards,
        "outcomes::an_update_of_a_lower_phase_is_late_and_the_state_stays",
    ),
    (
        Rows::SecondEndingIsShown,
        "outcomes::any_two_endings_of_one_attempt_exclude_each_other",
    ),
    (
        Rows::BlankOverwrites,
        "attributes::a_blank_in_a_higher_slot_takes_no_value_away",
    ),
    (
        Rows::LateValueWins,
        "attributes::a_late_update_does_not_override_a_higher_slot",
    ),
    (
        Rows::LateValueIsLost,
        "attributes::a_late_update_may_bring_what_no_higher_slot_has",
    ),
    (
        Rows::FillIsNotShown,
        "attributes::a_fill_at_the_rows_own_rank_shows_at_once",
    ),
    (
        Rows::CreatedIsFirstToCome,
        "times::a_late_update_may_move_the_beginning_back",
    ),
    (
        Rows::UpdatedIsLastToCome,
        "times::a_row_runs_from_its_earliest_to_its_latest_time",
    ),
    (
        Rows::UpdatedIsOfTheState,
        "times::a_late_update_may_move_the_end_forward",
    ),
];

/// Of VMs, with the case that notices.
pub(super) const VMS: &[(Rows, &str)] = &[
    (Rows::GoesBackwards, "vms::a_lower_phase_is_late"),
    (
        Rows::SecondEndingIsShown,
        "vms::stopped_and_failed_exclude_each_other",
    ),
    (
        Rows::BlankOverwrites,
        "attributes::a_vms_attributes_follow_the_same_rule",
    ),
    (
        Rows::LateValueWins,
        "attributes::a_vms_attributes_follow_the_same_rule",
    ),
    (
        Rows::LateValueIsLost,
        "attributes::a_vms_attributes_follow_the_same_rule",
    ),
    (Rows::FillIsNotShown, "vms::each_attribute_fills_its_blank"),
    (
        Rows::CreatedIsFirstToCome,
        "join::every_order_of_a_vms_updates_gives_one_row",
    ),
    (
        Rows::UpdatedIsLastToCome,
        "join::every_order_of_a_vms_updates_gives_one_row",
    ),
    (
        Rows::UpdatedIsOfTheState,
        "join::every_order_of_a_vms_updates_gives_one_row",
    ),
];

/// The job as the broken fold shows it.
pub(super) async fn job(broken: &Broken, job: Job) -> Result<Option<Job>> {
    let defect = match broken.defect {
        None => None,
        Some(Defect::Job(defect)) => Some(defect),
        Some(_) => return Ok(Some(job)),
    };
    let row = refold(broken, defect, &Subject::Job(job.request_id)).await?;
    Ok(row.and_then(|row| Job::from_row(job.request_id, &row)))
}

/// The VM as the broken fold shows it.
pub(super) async fn vm(broken: &Broken, vm: Vm) -> Result<Option<Vm>> {
    let defect = match broken.defect {
        None => None,
        Some(Defect::Vm(defect)) => Some(defect),
        Some(_) => return Ok(Some(vm)),
    };
    let row = refold(broken, defect, &Subject::Vm(vm.key())).await?;
    Ok(row.and_then(|row| Vm::from_row(vm.key(), &row)))
}

/// A page of jobs: found and ordered as they should be, shown as the broken fold does.
pub(super) async fn jobs(broken: &Broken, query: &JobQuery) -> Result<Page<Job>> {
    let page = broken.inner.jobs(query).await?;
    let mut shown = Vec::new();
    for item in page.items {
        shown.extend(job(broken, item).await?);
    }
    Ok(Page::new(shown, page.next))
}

/// The same of VMs.
pub(super) async fn vms(broken: &Broken, query: &VmQuery) -> Result<Page<Vm>> {
    let page = broken.inner.vms(query).await?;
    let mut shown = Vec::new();
    for item in page.items {
        shown.extend(vm(broken, item).await?);
    }
    Ok(Page::new(shown, page.next))
}

async fn refold(broken: &Broken, defect: Option<Rows>, subject: &Subject) -> Result<Option<Row>> {
    let events = rewrite::history(&broken.inner, subject.request_id()).await?;
    let slots: Vec<_> = events
        .iter()
        .filter(|event| event.subject == *subject)
        .map(Event::slot)
        .collect();
    let Some(mut row) = merge::fold(&slots) else {
        return Ok(None);
    };
    if let Some(defect) = defect {
        spoil(defect, &mut row, &slots, &broken.log_of(subject));
    }
    Ok(Some(row))
}

fn spoil(defect: Rows, row: &mut Row, slots: &[Slot], log: &[(Claim, Outcome)]) {
    let took_slot = |outcome: &Outcome| matches!(outcome, Outcome::Applied { .. } | Outcome::Late { .. });
    let claimed = || {
        log.iter()
            .filter(|(_, outcome)| took_slot(outcome))
            .map(|(claim, _)| claim)
    };
    match defect {
        Rows::GoesBackwards => {
            if let Some(last) = claimed().next_back() {
                (row.state, row.rank) = (last.state(), last.rank());
            }
        }
        Rows::SecondEndingIsShown => {
            let refused = |(claim, outcome): &&(Claim, Outcome)| {
                matches!(outcome, Outcome::Refused { .. }) && claim.rank() == row.rank
            };
            if let Some((claim, _)) = log.iter().rfind(refused) {
                row.state = claim.state();
            }
        }
        Rows::BlankOverwrites => {
            if let Some(top) = slots.iter().max_by_key(|slot| slot.rank) {
                row.attributes = top.attributes.clone();
            }
        }
        Rows::LateValueWins => {
            for claim in log
                .iter()
                .filter(|(_, outcome)| tells_values(outcome))
                .map(|(claim, _)| claim)
            {
                for attribute in Attribute::ALL {
                    if let Some(value) = claim.attribute(attribute) {
                        row.attributes.set(attribute, Some(value.to_owned()));
                    }
                }
            }
        }
        Rows::LateValueIsLost => {
            let late = |slot: &Slot| {
                log.iter().any(|(claim, outcome)| {
                    claim.rank() == slot.rank && matches!(outcome, Outcome::Late { .. })
                })
            };
            refold_values(row, slots.iter().filter(|slot| !late(slot)).cloned());
        }
        Rows::FillIsNotShown => refold_values(row, claimed().map(Slot::claimed_by)),
        Rows::CreatedIsFirstToCome => {
            if let Some(first) = claimed().next() {
                row.created_at = first.at();
            }
        }
        Rows::UpdatedIsLastToCome => {
            if let Some(last) = claimed().next_back() {
                row.updated_at = last.at();
            }
        }
        Rows::UpdatedIsOfTheState => {
            if let Some(top) = slots.iter().max_by_key(|slot| slot.rank) {
                row.updated_at = top.at;
            }
        }
    }
}

/// Whether the update's values went into the store.
fn tells_values(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Applied { .. } | Outcome::Late { .. } | Outcome::Filled { .. }
    )
}

/// The attributes of these slots alone.
fn refold_values(row: &mut Row, slots: impl Iterator<Item = Slot>) {
    let slots: Vec<_> = slots.collect();
    row.attributes = merge::fold(&slots).map_or_else(Attributes::default, |row| row.attributes);
}
