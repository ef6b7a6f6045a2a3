//! How a batch that names a slot many times becomes statements that name it once, and how the outcomes are
//! told as if the batch had been applied one by one.
//!
//! Pure: a wave is what one statement merges; [`settle`] reads the outcomes off what came back.

use std::collections::HashMap;

use persist_core::merge::Slot;
use persist_core::{Attributes, Claim, Current, Outcome, Rank, State, Subject};

/// What one statement merges: at most one claim of each slot.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wave {
    /// Claims that are sent, as indices into the batch, by (`request_id`, `domain_name`, rank): every writer
    /// takes its locks in this order.
    pub(crate) sent: Vec<usize>,
    /// All claims that are answered, by position in the batch, each with the one that is sent for its slot.
    steps: Vec<(usize, usize)>,
}

/// Deals the claims of `batch` at `indices` into waves, to be run one after the other.
///
/// A claim that brings nothing beyond an earlier one of its slot is not sent again: what stands in the slot tells
/// what it gets. Any other repetition goes into a later wave, and with it every later claim of its subject, so that
/// outcomes stay true to positions.
pub(crate) fn plan(batch: &[Claim], indices: impl Iterator<Item = usize>) -> Vec<Wave> {
    struct Held {
        wave: usize,
        sent: usize,
        /// What the slot holds when this was applied, where it is not what the claim that is sent says.
        says: Option<Slot>,
    }
    let mut waves: Vec<Wave> = Vec::new();
    let mut floors: HashMap<&Subject, usize> = HashMap::new();
    let mut slots: HashMap<(&Subject, Rank), Held> = HashMap::new();
    for index in indices {
        let claim = &batch[index];
        let floor = floors.entry(claim.subject()).or_insert(0);
        let slot = (claim.subject(), claim.rank());
        let held = slots.remove(&slot);
        // Nothing of a claim is copied but where its slot is named again.
        let said = |held: &Held| match &held.says {
            Some(says) => says.clone(),
            None => Slot::claimed_by(&batch[held.sent]),
        };
        let held = held.map(|held| (said(&held), held));
        let same = held.as_ref().is_some_and(|(says, _)| says.state == claim.state());
        let held = match held {
            Some((says, held)) if held.wave == *floor && brings_nothing(claim, same.then_some(&says)) => held,
            held => {
                if held.as_ref().is_some_and(|(_, held)| held.wave == *floor) {
                    *floor += 1;
                }
                let says = match held {
                    Some((mut says, _)) if same => {
                        says.fill(claim);
                        Some(says)
                    }
                    _ => None,
                };
                Held {
                    wave: *floor,
                    sent: index,
                    says,
                }
            }
        };
        if waves.len() <= held.wave {
            waves.resize_with(held.wave + 1, Wave::default);
        }
        let wave = &mut waves[held.wave];
        if held.sent == index {
            wave.sent.push(index);
        }
        wave.steps.push((index, held.sent));
        slots.insert(slot, held);
    }
    for wave in &mut waves {
        wave.sent
            .sort_by_key(|index| (batch[*index].subject(), batch[*index].rank()));
    }
    waves
}

/// Whether sending a claim could change nothing in a slot that says this, or, where that is of another state, in
/// any slot.
fn brings_nothing(claim: &Claim, says: Option<&Slot>) -> bool {
    match says {
        Some(says) => !says.lacks_any_of(claim),
        None => {
            claim.actor().is_none()
                && claim.reason().is_none()
                && *claim.attributes() == Attributes::default()
        }
    }
}

/// A row as the statement left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Where it stood; `None` if there was none.
    pub(crate) before: Option<Rank>,
    pub(crate) rank: Rank,
    pub(crate) state: State,
}

/// What the statement returned.
#[derive(Debug, Default)]
pub(crate) struct Returned<'b> {
    /// All that were sent were free, and are claimed: none is named.
    pub(crate) are_all_claimed: bool,
    /// Else the slots that changed; whether they were claimed, or else filled.
    pub(crate) slots: HashMap<(&'b Subject, Rank), bool>,
    /// The row of every subject of which a slot changed.
    pub(crate) rows: HashMap<&'b Subject, Moved>,
}

impl Returned<'_> {
    /// Whether anything changed.
    pub(crate) fn is_any(&self) -> bool {
        self.are_all_claimed || !self.slots.is_empty()
    }
}

/// What a slot holds that was looked up, and the row of its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) standing: Option<State>,
    pub(crate) row: Option<(Rank, State)>,
}

/// Slots that were looked up.
pub(crate) type Looked<'b> = HashMap<(&'b Subject, Rank), Found>;

/// The outcomes of a wave.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Settled<'b> {
    /// By index into the batch.
    pub(crate) outcomes: Vec<(usize, Outcome)>,
    /// Claims whose slot vanished under them, pruned by another: to be started again.
    pub(crate) vanished: Vec<usize>,
    /// A subject whose slot stands and whose row is gone. No prune leaves that behind.
    pub(crate) without_row: Option<&'b Subject>,
    /// Slots that must be looked up first; while there are any, the rest says nothing.
    pub(crate) missing: Vec<(&'b Subject, Rank)>,
}

/// Replays a wave in the order of positions.
pub(crate) fn settle<'b>(
    batch: &'b [Claim],
    wave: &Wave,
    returned: &Returned<'b>,
    looked: &Looked<'b>,
) -> Settled<'b> {
    let mut settled = Settled::default();
    // Where each row that moved stands at this position: `None` before it exists. Its state is looked up only for
    // an outcome that tells it, which no ordinary step forward does.
    let mut tops: HashMap<&Subject, Option<(Rank, Option<State>)>> = HashMap::new();
    for &(index, sent) in &wave.steps {
        let claim = &batch[index];
        let (subject, rank, says) = (claim.subject(), claim.rank(), batch[sent].state());
        let moved = returned.rows.get(subject);
        let changed = if returned.are_all_claimed {
            Some(true)
        } else {
            returned.slots.get(&(subject, rank)).copied()
        };
        let found = looked.get(&(subject, rank));
        if changed.is_none() && found.is_none() {
            settled.missing.push((subject, rank));
            continue;
        }
        let top = match moved {
            None => found
                .and_then(|found| found.row)
                .map(|(rank, state)| (rank, Some(state))),
            Some(moved) => *tops.entry(subject).or_insert_with(|| {
                let before = moved.before?;
                if before == moved.rank {
                    return Some((before, Some(moved.state)));
                }
                Some(match looked.get(&(subject, before)).map(|found| found.standing) {
                    None => (before, None),
                    Some(Some(state)) => (before, Some(state)),
                    // Pruned meanwhile: the row as it stands is the nearest that can be told.
                    Some(None) => (moved.rank, Some(moved.state)),
                })
            }),
        };
        if changed == Some(true) && index == sent && top.is_none_or(|(top, _)| rank > top) {
            tops.insert(subject, Some((rank, Some(claim.state()))));
            let created = top.is_none();
            settled.outcomes.push((index, Outcome::Applied { created }));
            continue;
        }
        let current = match top {
            Some((top, None)) => {
                settled.missing.push((subject, top));
                continue;
            }
            Some((top, Some(state))) => Some(Current {
                state,
                attempt: top.attempt(),
            }),
            None => None,
        };
        let outcome = match (changed, current) {
            (Some(true), Some(current)) if index == sent => Some(Outcome::Late { current }),
            (Some(false), Some(current)) if index == sent => Some(Outcome::Filled { current }),
            (Some(_), Some(current)) if says == claim.state() => Some(Outcome::Unchanged { current }),
            (Some(_), Some(current)) => Some(Outcome::Refused {
                standing: says,
                current,
            }),
            (None, Some(current)) => found.and_then(|found| found.standing).map(|standing| {
                if standing == claim.state() {
                    Outcome::Unchanged { current }
                } else {
                    Outcome::Refused { standing, current }
                }
            }),
            (_, None) => None,
        };
        match outcome {
            Some(outcome) => settled.outcomes.push((index, outcome)),
            None => {
                settled.vanished.push(index);
                if moved.is_none() && found.is_some_and(|found| found.standing.is_some()) {
                    settled.without_row = Some(subject);
                }
            }
        }
    }
    settled
}

#[cfg(test)]
mod tests;
