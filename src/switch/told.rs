//! What a switch tells of an outage: lines of the log, and the last error for `health`.

use persist_core::{Error, ErrorKind};

use super::Switch;

impl Switch {
    /// Loudly, once in each interval; the counts tell what the lines in between would have.
    pub(super) fn tell(&self, error: &Error, what: &str) {
        let kind = error.kind().name();
        let Some(held_back) = self.outages.lock().line() else {
            tracing::debug!(backend = self.name, kind, %error, "{what}");
            return;
        };
        let next = std::error::Error::source(error);
        let causes: Vec<_> = std::iter::successors(next, |cause| cause.source())
            .map(ToString::to_string)
            .collect();
        let (dropped, unknown) = self.counts();
        let waiting = self.waiting();
        tracing::error!(
            backend = self.name, kind, %error, ?causes, dropped, unknown, waiting, held_back, "{what}"
        );
    }

    /// As loudly as the outage was told: the end of one that no line told of needs none.
    pub(super) fn tell_on(&self) {
        let (dropped, unknown) = self.counts();
        let waiting = self.waiting();
        if self.outages.lock().was_told() {
            tracing::info!(
                backend = self.name,
                dropped,
                unknown,
                waiting,
                "persistence is on"
            );
        } else {
            tracing::debug!(
                backend = self.name,
                dropped,
                unknown,
                waiting,
                "persistence is on"
            );
        }
    }

    /// What `health` tells of last, also where errors are the caller's to see.
    pub(super) fn note(&self, error: &Error) {
        if !self.is_callers(error.kind()) {
            self.situation.lock().last_error = Some(error.clone());
        }
    }
}

/// The error of a call that the database is needed for, with what keeps it away.
pub(super) fn away(what: String, cause: Option<Error>) -> Error {
    let error = Error::new(ErrorKind::Unavailable, what);
    match cause {
        Some(cause) => error.caused_by(cause),
        None => error,
    }
}
