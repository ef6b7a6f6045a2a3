//! Attempts and ranks: where on a subject's time line a slot stands.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The ordinal of a run of a job, or of a start of a VM: 1 to 2^31−1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Attempt(u32);

impl Attempt {
    /// The first attempt.
    pub const FIRST: Attempt = Attempt(1);
    /// The highest attempt, 2^31−1.
    pub const MAX: Attempt = Attempt(i32::MAX as u32);

    /// # Errors
    /// `InvalidInput` for 0 and for more than 2^31−1.
    pub fn new(attempt: u32) -> Result<Self> {
        if (1..=Self::MAX.0).contains(&attempt) {
            Ok(Self(attempt))
        } else {
            Err(Error::invalid(
                "attempt",
                format_args!("must be 1 to {}, is {attempt}", Self::MAX.0),
            ))
        }
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The attempt after this one, or `None` after the last.
    pub fn next(self) -> Option<Self> {
        Self::new(self.0 + 1).ok()
    }
}

impl TryFrom<u32> for Attempt {
    type Error = Error;
    fn try_from(attempt: u32) -> Result<Self> {
        Self::new(attempt)
    }
}

impl From<Attempt> for u32 {
    fn from(attempt: Attempt) -> Self {
        attempt.0
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `attempt * 4 + phase`: the order of a subject's slots. (subject, rank) names a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rank(i64);

impl Rank {
    /// The rank of a phase (0–3) of an attempt.
    ///
    /// # Panics
    /// If `phase` is above 3; phases come from a state table.
    pub fn new(attempt: Attempt, phase: u8) -> Self {
        assert!(phase < 4, "phases are 0 to 3");
        Self(i64::from(attempt.0) * 4 + i64::from(phase))
    }

    /// The rank that a database column holds, or `None` if no slot can have it.
    pub fn from_i64(rank: i64) -> Option<Self> {
        let attempt = u32::try_from(rank / 4).ok()?;
        (rank >= 0 && Attempt::new(attempt).is_ok()).then_some(Self(rank))
    }

    /// The number that a database column holds.
    pub fn get(self) -> i64 {
        self.0
    }

    /// The attempt of the slot.
    pub fn attempt(self) -> Attempt {
        Attempt((self.0 / 4) as u32)
    }

    /// The phase of the slot, 0–3.
    pub fn phase(self) -> u8 {
        (self.0 % 4) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_is_its_attempt_and_phase() {
        for attempt in [Attempt::FIRST, Attempt::new(7).unwrap(), Attempt::MAX] {
            for phase in 0..4 {
                let rank = Rank::new(attempt, phase);
                assert_eq!((rank.attempt(), rank.phase()), (attempt, phase));
                assert_eq!(Rank::from_i64(rank.get()), Some(rank));
            }
        }
        for wrong in [i64::MIN, -1, 0, 3, i64::from(i32::MAX) * 4 + 4, i64::MAX] {
            assert_eq!(Rank::from_i64(wrong), None, "{wrong}");
        }
        assert!(Attempt::new(0).is_err() && Attempt::new(1 << 31).is_err());
    }
}
