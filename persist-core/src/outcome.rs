//! What became of one update. A report, not a lock.

use std::fmt;

use serde::Serialize;

use crate::attempt::Attempt;
use crate::state::State;

/// State and attempt of the current row, as it stood when the update had been merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Current {
    /// The state of the highest slot.
    pub state: State,
    /// The attempt of the highest slot.
    pub attempt: Attempt,
}

/// What one update got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The slot was free and is above the row: the row moved forward.
    Applied {
        /// Whether this made the row.
        created: bool,
    },
    /// The slot was free, but the row is already further: history grew, the state stays.
    Late {
        /// The row.
        current: Current,
    },
    /// The slot held this very state, and the update filled blanks of it.
    Filled {
        /// The row.
        current: Current,
    },
    /// The slot held this very state and needed nothing that the update has.
    Unchanged {
        /// The row.
        current: Current,
    },
    /// The slot holds another state: two endings of one attempt. Nothing changed.
    Refused {
        /// The state that stands in the slot.
        standing: State,
        /// The row.
        current: Current,
    },
    /// Durably in the local spool, not yet in the database.
    Spooled,
    /// Not recorded: no-op or best-effort mode. Counted.
    Dropped,
}

impl Outcome {
    /// The stable snake-case word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Applied { .. } => "applied",
            Self::Late { .. } => "late",
            Self::Filled { .. } => "filled",
            Self::Unchanged { .. } => "unchanged",
            Self::Refused { .. } => "refused",
            Self::Spooled => "spooled",
            Self::Dropped => "dropped",
        }
    }

    /// The row after the update, where the outcome tells it.
    pub fn current(&self) -> Option<Current> {
        match *self {
            Self::Late { current }
            | Self::Filled { current }
            | Self::Unchanged { current }
            | Self::Refused { current, .. } => Some(current),
            Self::Applied { .. } | Self::Spooled | Self::Dropped => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
