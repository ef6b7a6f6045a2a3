//! Which calls meet which fault.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::Retry;

/// What one call of a [`Faulty`](super::Faulty) backend meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The call is not made: `Unavailable`, certainly not applied.
    FailBefore,
    /// The call is made, and what it answered is lost: `OutcomeUnknown`, and `Unavailable` for a read.
    FailAfter,
    /// The call is made after this time.
    Delay(Duration),
    /// The call is not made and never answers; it ends when its caller drops it.
    FreezeBefore,
    /// The call is made, and then never answers; it ends when its caller drops it.
    FreezeAfter,
}

/// Which of the calls, numbered from 1, meet a fault: some by chance, and some that were named.
///
/// The fault of a call depends on the seed and on its number alone: the same seed gives the same faults.
///
/// ```
/// use persist_core::layer::{Fault, Faults};
/// let faults = Faults::seeded(7)
///     .rate(0.05, Fault::FailBefore)
///     .rate(0.05, Fault::FailAfter)
///     .at(3, Fault::FreezeAfter);
/// assert_eq!(faults.of(3), Some(Fault::FreezeAfter));
/// let failed = (4..10_004).filter(|call| faults.of(*call).is_some()).count();
/// assert!((900..1_100).contains(&failed), "{failed}");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    seed: u64,
    rates: Vec<(f64, Fault)>,
    named: BTreeMap<u64, Fault>,
    retry: Retry,
}

impl Default for Faults {
    fn default() -> Self {
        Self::seeded(0)
    }
}

impl Faults {
    /// No faults yet. The seed decides which calls a [`rate`](Self::rate) strikes.
    pub fn seeded(seed: u64) -> Self {
        Self {
            seed,
            rates: Vec::new(),
            named: BTreeMap::new(),
            retry: Retry::Later,
        }
    }

    /// Strikes this share of all calls, from 0 to 1. Shares of several faults exclude each other: what is beyond 1
    /// in all never comes.
    #[must_use]
    pub fn rate(mut self, share: f64, fault: Fault) -> Self {
        self.rates.push((share, fault));
        self
    }

    /// Strikes the call of this number, whatever chance says.
    #[must_use]
    pub fn at(mut self, call: u64, fault: Fault) -> Self {
        self.named.insert(call, fault);
        self
    }

    /// How its errors say to be retried; `Later` unless set. With `Now` a retry costs a millisecond and no back-off.
    #[must_use]
    pub fn retried(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// What the call of this number meets.
    pub fn of(&self, call: u64) -> Option<Fault> {
        if let Some(fault) = self.named.get(&call) {
            return Some(*fault);
        }
        let mut luck = chance(self.seed, call);
        self.rates.iter().find_map(|(share, fault)| {
            luck -= share;
            (luck < 0.0).then_some(*fault)
        })
    }

    pub(super) fn retry(&self) -> Retry {
        self.retry
    }
}

/// From 0 to below 1, as SplitMix64 has it.
fn chance(seed: u64, call: u64) -> f64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = |mut bits: u64| {
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    };
    let bits = mixed(mixed(seed.wrapping_add(STEP)).wrapping_add(call.wrapping_mul(STEP)));
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_faults_and_another_one_others() {
        let faults = |seed| {
            let faults = Faults::seeded(seed).rate(0.5, Fault::FailAfter);
            (1..200).map(|call| faults.of(call)).collect::<Vec<_>>()
        };
        assert_eq!(faults(1), faults(1));
        assert_ne!(faults(1), faults(2));
    }

    #[test]
    fn each_fault_has_its_share_and_the_named_calls_theirs() {
        let faults = Faults::seeded(3)
            .rate(0.25, Fault::FailBefore)
            .rate(0.05, Fault::FreezeAfter)
            .at(9, Fault::FreezeBefore);
        let struck = |fault| {
            (10..10_010)
                .filter(|call| faults.of(*call) == Some(fault))
                .count()
        };
        let found = [Fault::FailBefore, Fault::FreezeAfter, Fault::FreezeBefore].map(struck);
        assert!((2_400..2_600).contains(&found[0]), "{found:?}");
        assert!((400..600).contains(&found[1]), "{found:?}");
        assert_eq!((found[2], faults.of(9)), (0, Some(Fault::FreezeBefore)));
        assert_eq!(Faults::default().of(1), None);
        assert_eq!(
            Faults::default().rate(1.0, Fault::FailAfter).of(1),
            Some(Fault::FailAfter)
        );
    }
}
