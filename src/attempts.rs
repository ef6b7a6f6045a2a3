//! Warns of updates below the current attempt, once per subject.

use std::collections::{HashSet, VecDeque};

use parking_lot::Mutex;
use persist_core::{Attempt, Outcome, Subject};

/// Subjects that are remembered; the oldest is forgotten first, and may be warned of again.
const REMEMBERED: usize = 1_024;

#[derive(Debug, Default)]
pub(crate) struct Warned(Mutex<(HashSet<Subject>, VecDeque<Subject>)>);

impl Warned {
    /// The usual cause of a silent `Unchanged`: a rerun that forgot to count its attempt.
    pub(crate) fn look(&self, subject: &Subject, attempt: Attempt, outcome: &Outcome) {
        let Some(current) = outcome.current().map(|current| current.attempt) else {
            return;
        };
        if attempt < current && self.is_new(subject) {
            let (attempt, current) = (attempt.get(), current.get());
            tracing::warn!(%subject, attempt, current, "an update is of an earlier attempt than the current one");
        }
    }

    fn is_new(&self, subject: &Subject) -> bool {
        let (known, order) = &mut *self.0.lock();
        if !known.insert(subject.clone()) {
            return false;
        }
        order.push_back(subject.clone());
        if order.len() > REMEMBERED
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_new_once_and_memory_is_bounded() {
        let warned = Warned::default();
        let subject = |n| Subject::Job(uuid::Uuid::from_u128(n));
        assert!(warned.is_new(&subject(1)) && !warned.is_new(&subject(1)));
        for n in 2..=(REMEMBERED as u128 + 1) {
            assert!(warned.is_new(&subject(n)));
        }
        assert_eq!(warned.0.lock().0.len(), REMEMBERED);
        assert!(warned.is_new(&subject(1)));
    }
}
