//! Whether a call that failed is made once more, and on what.

use std::time::Duration;

use persist_core::{Error, ErrorKind, Result, Retry, UpdateOutcome};

/// How often what gave way to others is tried at once.
pub(crate) const MOST_AT_ONCE: u64 = 20;

/// What the tries of one call have met so far.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    /// Whether only a new connection will do for the next one.
    fresh: bool,
    /// Whether that was so before: what a new one did not heal, another will not.
    renewed: bool,
    /// Whether it was cancelled once.
    cancelled: bool,
    /// Whether it may have been applied.
    unknown: bool,
    at_once: u64,
}

impl Tries {
    /// Whether the try that begins now needs a new connection. Those after it do not.
    pub(crate) fn takes_fresh(&mut self) -> bool {
        std::mem::take(&mut self.fresh)
    }

    /// The pause before the next try, after one that failed on a connection, new or not, with so much time left.
    ///
    /// # Errors
    /// The answer of the call, where there is no next try.
    pub(crate) fn again(&mut self, error: Error, was_fresh: bool, left: Duration) -> Result<Duration> {
        self.unknown |= error.outcome() == UpdateOutcome::Unknown;
        let is = |code| error.context("sqlstate") == Some(code);
        // What an old connection did not know, a new one may: a server that restarted, a changed table,
        // a prepared statement that went.
        let is_settings = error.retry() == Retry::Now && error.kind() != ErrorKind::Busy;
        let is_stale = error.kind() == ErrorKind::OutcomeUnknown && !was_fresh || is_settings || is("25P02");
        if is_stale && !self.renewed {
            (self.renewed, self.fresh) = (true, true);
            return Ok(Duration::ZERO);
        }
        if is_settings {
            // The same on a new connection: it is set up so, and trying on hides it.
            return Err(self.last(error.retry_as(Retry::Never)));
        }
        if is("57014") && !self.cancelled && !left.is_zero() {
            self.cancelled = true;
            return Ok(Duration::ZERO);
        }
        let pause = Duration::from_micros(rand::random_range(0..=2_000 * (self.at_once + 1)));
        if error.retry() != Retry::Now {
            return Err(self.last(error));
        }
        if self.at_once == MOST_AT_ONCE || left <= pause {
            // Whoever calls has no reason to do at once again what did not help so often.
            return Err(self.last(error.retry_as(Retry::Later)));
        }
        self.at_once += 1;
        Ok(pause)
    }

    /// The answer of a call that ends in this error: once it may have been applied, no later failure says that
    /// it certainly was not.
    pub(crate) fn last(&self, error: Error) -> Error {
        if self.unknown {
            error.outcome_as(UpdateOutcome::Unknown)
        } else {
            error
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: Duration = Duration::from_secs(1);

    fn of(kind: ErrorKind, sqlstate: &str) -> Error {
        Error::new(kind, "it failed").with("sqlstate", sqlstate)
    }

    /// What `26000`, `42P05` and `0A000` are classified as.
    fn settings() -> [Error; 3] {
        [
            of(ErrorKind::Unavailable, "26000").retry_as(Retry::Now),
            of(ErrorKind::Unavailable, "42P05").retry_as(Retry::Now),
            of(ErrorKind::SchemaMismatch, "0A000").retry_as(Retry::Now),
        ]
    }

    #[test]
    fn what_depends_on_the_connection_is_tried_on_one_new_one() {
        for (error, again) in settings().into_iter().zip(settings()) {
            let mut tries = Tries::default();
            assert!(!tries.takes_fresh());
            assert_eq!(tries.again(error, false, LEFT).unwrap(), Duration::ZERO);
            assert!(tries.takes_fresh());
            let error = tries.again(again, true, LEFT).unwrap_err();
            assert_eq!(
                (error.retry(), error.outcome()),
                (Retry::Never, UpdateOutcome::NotApplied)
            );
        }
    }

    #[test]
    fn only_the_next_try_takes_a_new_connection() {
        let mut tries = Tries::default();
        tries
            .again(of(ErrorKind::OutcomeUnknown, ""), false, LEFT)
            .unwrap();
        assert!(tries.takes_fresh());
        for _ in 0..MOST_AT_ONCE {
            let busy = of(ErrorKind::Busy, "40001").retry_as(Retry::Now);
            tries.again(busy, true, LEFT).unwrap();
            assert!(!tries.takes_fresh());
        }
        let busy = of(ErrorKind::Busy, "40001").retry_as(Retry::Now);
        let error = tries.again(busy, true, LEFT).unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome(), error.retry()),
            (ErrorKind::Busy, UpdateOutcome::Unknown, Retry::Later)
        );
    }

    #[test]
    fn a_cancelled_statement_is_sent_once_more_and_keeps_what_it_stored() {
        let cancelled = |outcome| of(ErrorKind::Timeout, "57014").outcome_as(outcome);
        let mut tries = Tries::default();
        tries
            .again(cancelled(UpdateOutcome::NotApplied), true, LEFT)
            .unwrap();
        let error = tries.again(cancelled(UpdateOutcome::NotApplied), true, LEFT);
        assert_eq!(error.unwrap_err().outcome(), UpdateOutcome::NotApplied);
        // An earlier wave of it was stored.
        let mut tries = Tries::default();
        tries
            .again(cancelled(UpdateOutcome::Unknown), true, LEFT)
            .unwrap();
        let refused = tries.last(of(ErrorKind::Unavailable, "53300"));
        assert_eq!(refused.outcome(), UpdateOutcome::Unknown);
    }
}
