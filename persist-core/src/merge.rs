//! The join, as pure functions: the memory backend calls them, SQL must agree with them.

use crate::attempt::Rank;
use crate::attributes::{Attribute, Attributes};
use crate::claim::Claim;
use crate::outcome::{Current, Outcome};
use crate::state::State;
use crate::time::Timestamp;

/// A claimed slot of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Where it stands.
    pub rank: Rank,
    /// Never changes.
    pub state: State,
    /// Never changes.
    pub at: Timestamp,
    /// Set once.
    pub actor: Option<String>,
    /// Set once.
    pub reason: Option<String>,
    /// Each set once.
    pub attributes: Attributes,
}

/// What a claim does to a slot that is already held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Same state; blanks were filled.
    Filled,
    /// Same state; nothing to fill.
    Unchanged,
    /// Another state stands.
    Refused,
}

impl Slot {
    /// The slot that this claim fills when it is free.
    pub fn claimed_by(claim: &Claim) -> Self {
        Self {
            rank: claim.0.rank,
            state: claim.0.state,
            at: claim.0.at,
            actor: claim.0.actor.clone(),
            reason: claim.0.reason.clone(),
            attributes: claim.0.attributes.clone(),
        }
    }

    /// Whether the claim, being of the same state, has something that is blank here.
    pub fn lacks_any_of(&self, claim: &Claim) -> bool {
        (self.actor.is_none() && claim.0.actor.is_some())
            || (self.reason.is_none() && claim.0.reason.is_some())
            || self.attributes.lacks_any_of(&claim.0.attributes)
    }

    /// Merges a claim of the same rank.
    pub fn fill(&mut self, claim: &Claim) -> Fill {
        if self.state != claim.0.state {
            return Fill::Refused;
        }
        let mut filled = self.attributes.fill(&claim.0.attributes);
        for (mine, theirs) in [
            (&mut self.actor, &claim.0.actor),
            (&mut self.reason, &claim.0.reason),
        ] {
            if mine.is_none() && theirs.is_some() {
                mine.clone_from(theirs);
                filled = true;
            }
        }
        if filled { Fill::Filled } else { Fill::Unchanged }
    }
}

/// What a slot brings to its row: of the history, or of a claim that has just filled it.
pub trait Brings {
    /// Where it stands.
    fn rank(&self) -> Rank;
    /// Its state.
    fn state(&self) -> State;
    /// When it was so.
    fn at(&self) -> Timestamp;
    /// One of its attributes.
    fn attribute(&self, attribute: Attribute) -> Option<&str>;
}

impl Brings for Slot {
    fn rank(&self) -> Rank {
        self.rank
    }

    fn state(&self) -> State {
        self.state
    }

    fn at(&self) -> Timestamp {
        self.at
    }

    fn attribute(&self, attribute: Attribute) -> Option<&str> {
        self.attributes.get(attribute)
    }
}

impl Brings for Claim {
    fn rank(&self) -> Rank {
        self.0.rank
    }

    fn state(&self) -> State {
        self.0.state
    }

    fn at(&self) -> Timestamp {
        self.0.at
    }

    fn attribute(&self, attribute: Attribute) -> Option<&str> {
        self.0.attributes.get(attribute)
    }
}

/// A current row with the ranks that its values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The highest slot's.
    pub rank: Rank,
    /// The highest slot's.
    pub state: State,
    /// The earliest `at` of any slot.
    pub created_at: Timestamp,
    /// The latest `at` of any slot.
    pub updated_at: Timestamp,
    /// Each from the highest slot that has one.
    pub attributes: Attributes,
    ranks: [Option<Rank>; 6],
}

impl Row {
    /// The row of a subject whose first slot this is.
    pub fn first(slot: &impl Brings) -> Self {
        let mut row = Self::stored(slot.rank(), slot.state(), slot.at(), slot.at());
        row.join_attributes(slot);
        row
    }

    /// A row as a table has it, without its attributes yet.
    pub fn stored(rank: Rank, state: State, created_at: Timestamp, updated_at: Timestamp) -> Self {
        Self {
            rank,
            state,
            created_at,
            updated_at,
            attributes: Attributes::default(),
            ranks: [None; 6],
        }
    }

    /// With an attribute of the slot of this rank.
    pub fn with(mut self, attribute: Attribute, value: String, rank: Rank) -> Self {
        self.attributes.set(attribute, Some(value));
        self.ranks[attribute as usize] = Some(rank);
        self
    }

    /// Joins a slot that was claimed or filled. Says whether the row moved forward.
    pub fn join(&mut self, slot: &impl Brings) -> bool {
        let forward = slot.rank() > self.rank;
        if forward {
            self.rank = slot.rank();
            self.state = slot.state();
        }
        self.created_at = self.created_at.min(slot.at());
        self.updated_at = self.updated_at.max(slot.at());
        self.join_attributes(slot);
        forward
    }

    fn join_attributes(&mut self, slot: &impl Brings) {
        for attribute in Attribute::ALL {
            let rank = &mut self.ranks[attribute as usize];
            if let Some(value) = slot.attribute(attribute)
                && rank.is_none_or(|rank| slot.rank() >= rank)
            {
                *rank = Some(slot.rank());
                self.attributes.set(attribute, Some(value.to_owned()));
            }
        }
    }

    /// The slot that an attribute's value comes from.
    pub fn attribute_rank(&self, attribute: Attribute) -> Option<Rank> {
        self.ranks[attribute as usize]
    }

    /// State and attempt.
    pub fn current(&self) -> Current {
        Current {
            state: self.state,
            attempt: self.rank.attempt(),
        }
    }
}

/// The row of a history, or `None` of an empty one. The order of the slots does not matter.
pub fn fold<'a>(slots: impl IntoIterator<Item = &'a Slot>) -> Option<Row> {
    let mut slots = slots.into_iter();
    let mut row = Row::first(slots.next()?);
    for slot in slots {
        row.join(slot);
    }
    Some(row)
}

/// The outcome of a claim on a slot that was already held.
pub fn outcome_of_held(fill: Fill, standing: State, current: Current) -> Outcome {
    match fill {
        Fill::Filled => Outcome::Filled { current },
        Fill::Unchanged => Outcome::Unchanged { current },
        Fill::Refused => Outcome::Refused { standing, current },
    }
}

#[cfg(test)]
mod tests;
