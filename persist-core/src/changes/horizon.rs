//! What prunes have taken away from those who watch.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::ChangePosition;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Seq;

/// Prunes that a horizon tells apart. What falls out is taken for one with the next, which lets a walk lag too often and never
/// too seldom.
const TOLD_APART: usize = 16;

/// What prunes have taken away: how often, and up to which change. Its text is what databases keep of it. For backends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Horizon {
    /// Prunes that took any slot.
    pub prunes: u64,
    /// The number of a prune, with the transaction and number of the latest change that it took. The numbers ascend to that
    /// of the last prune and the changes descend: a prune that took no later one than a prune after it lets nobody lag.
    reached: Vec<(u64, (u64, i64))>,
}

impl Horizon {
    /// Notes one more prune, whose latest change was this.
    pub fn raise(&mut self, last: (u64, i64)) {
        self.prunes = self.prunes.saturating_add(1);
        self.reached.retain(|(_, before)| *before > last);
        self.reached.push((self.prunes, last));
        if self.reached.len() > TOLD_APART {
            // As if the first of all had been as late as the second.
            self.reached[0].0 = self.reached.remove(1).0;
        }
    }

    /// The latest change that any prune took after that many.
    pub fn last_after(&self, prunes: u64) -> Option<(u64, i64)> {
        let after = self.reached.iter().find(|(number, _)| *number > prunes);
        after.map(|(_, last)| *last)
    }

    /// Where a checked query begins, as of now: at its place, or before the first change.
    ///
    /// # Errors
    /// `Lagged` where a prune since then may have taken what comes after the place, and where that is beyond `end`, the
    /// latest place that the store can have given.
    pub fn begin(
        &self,
        store: Uuid,
        after: Option<ChangePosition>,
        end: (u64, i64),
    ) -> Result<ChangePosition> {
        let Some(after) = after else {
            return Ok(ChangePosition {
                store,
                transaction: 0,
                seq: Seq::new(0),
                prunes: self.prunes,
            });
        };
        let place = (after.transaction, after.seq.get());
        if place > end || after.prunes > self.prunes {
            let what = "this place is beyond all changes of the store, which is an older one: begin anew";
            return Err(Error::new(ErrorKind::Lagged, what));
        }
        if self.last_after(after.prunes).is_some_and(|last| place < last) {
            let what = "slots after this place were pruned and can't be told of any more: begin anew";
            return Err(Error::new(ErrorKind::Lagged, what));
        }
        Ok(ChangePosition {
            prunes: self.prunes,
            ..after
        })
    }
}

/// A group of three numbers for each prune that is told apart, the latest first: `7 900 12;3 950 40`.
impl fmt::Display for Horizon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reached.is_empty() {
            return f.write_str(NO_PRUNES);
        }
        for (nth, (number, last)) in self.reached.iter().rev().enumerate() {
            let between = if nth == 0 { "" } else { ";" };
            write!(f, "{between}{number} {} {}", last.0, last.1)?;
        }
        Ok(())
    }
}

const NO_PRUNES: &str = "0 0 0";

impl FromStr for Horizon {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == NO_PRUNES {
            return Ok(Self::default());
        }
        let group = |text: &str| {
            let mut words = text.split(' ');
            let number = words.next()?.parse().ok()?;
            let last = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            words.next().is_none().then_some((number, last))
        };
        let reached: Option<Vec<(u64, (u64, i64))>> = text.rsplit(';').map(group).collect();
        let in_order = |reached: &Vec<(u64, (u64, i64))>| {
            reached.is_sorted_by(|(number, last), (next, of_next)| number < next && last > of_next)
        };
        let reached = reached.filter(in_order).ok_or_else(|| {
            let what =
                "persist_meta.pruned_to is not what a prune writes; the database is damaged or was edited";
            Error::new(ErrorKind::Corrupt, what)
        })?;
        let prunes = reached.last().map_or(0, |(number, _)| *number);
        Ok(Self { prunes, reached })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::tests::{STORE, place};

    #[test]
    fn a_walk_lags_only_where_a_prune_since_took_what_comes_after() {
        let horizon = raised([(5, 10), (4, 90)]);
        assert_eq!(horizon.to_string(), "2 4 90;1 5 10");
        let begin = |after| {
            horizon
                .begin(STORE, after, (9, i64::MAX))
                .map_err(|error| error.kind())
        };
        assert_eq!(begin(None), Ok(place(0, 0, 2)));
        assert_eq!(begin(Some(place(5, 9, 0))), Err(ErrorKind::Lagged));
        assert_eq!(begin(Some(place(4, 89, 1))), Err(ErrorKind::Lagged));
        assert_eq!(
            begin(Some(place(4, 90, 1))),
            Ok(place(4, 90, 2)),
            "only the first prune took more, before the walk began"
        );
        assert_eq!(
            begin(Some(place(5, 9, 2))),
            Ok(place(5, 9, 2)),
            "the walk began after it"
        );
        assert_eq!(
            begin(Some(place(5, 10, 0))),
            Ok(place(5, 10, 2)),
            "all that went was seen"
        );
        assert_eq!(begin(Some(place(9, i64::MAX, 2))), Ok(place(9, i64::MAX, 2)));
        for of_a_later_store in [place(10, 0, 2), place(9, 0, 3)] {
            assert_eq!(begin(Some(of_a_later_store)), Err(ErrorKind::Lagged));
        }
    }

    fn raised(lasts: impl IntoIterator<Item = (u64, i64)>) -> Horizon {
        let mut horizon = Horizon::default();
        for last in lasts {
            horizon.raise(last);
            assert_eq!(horizon.to_string().parse::<Horizon>().unwrap(), horizon);
        }
        horizon
    }

    /// Held against all prunes, kept one by one.
    #[test]
    fn a_walk_never_lags_too_seldom_and_too_often_only_over_many_prunes() {
        let lags =
            |horizon: &Horizon, prunes| horizon.begin(STORE, Some(place(0, 50, prunes)), (9, 0)).is_err();
        for (count, step) in [(12, 5_i64), (200, 37), (200, -1), (200, 1)] {
            let lasts: Vec<_> = (1..=count).map(|n| (0, (n * step).rem_euclid(101))).collect();
            let horizon = raised(lasts.iter().copied());
            for walked in 0..=lasts.len() {
                let missed = lasts[walked..].iter().any(|last| *last > (0, 50));
                let lags = lags(&horizon, walked as u64);
                assert!(lags >= missed, "after {walked} of {count} by {step}");
                assert!(
                    lags == missed || step == -1,
                    "after {walked} of {count} by {step}: {horizon}"
                );
            }
            assert!(horizon.reached.len() <= TOLD_APART);
        }
    }

    #[test]
    fn what_was_stored_before_prunes_were_told_apart_is_read() {
        let mut horizon: Horizon = "3 5 10".parse().unwrap();
        assert_eq!((horizon.prunes, horizon.to_string()), (3, "3 5 10".into()));
        horizon.raise((4, 1));
        let begin = |prunes| horizon.begin(STORE, Some(place(5, 9, prunes)), (9, 0)).is_ok();
        assert_eq!(
            [begin(0), begin(2), begin(3), begin(4)],
            [false, false, true, true]
        );
        assert_eq!(
            Horizon::default().to_string().parse::<Horizon>().unwrap(),
            Horizon::default()
        );
    }

    #[test]
    fn what_no_prune_has_written_is_damage() {
        let out_of_order = ["2 4 90;1 4 90", "2 4 90;2 5 10", "1 5 10;2 4 90", "2 4 90;1 3 10"];
        for text in out_of_order.into_iter().chain([
            "", "1 2 3;", ";1 2 3", "1", "1 2", "1 2 3 4", "a 2 3", "1 -2 3", "1 2 3 ", " 1 2 3",
        ]) {
            let refused = text.parse::<Horizon>().map_err(|error| error.kind());
            assert_eq!(refused, Err(ErrorKind::Corrupt), "{text:?}");
        }
    }
}
