//! What was read, shared by all who watch, and what one of them has yet to look at.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use persist_core::{Change, ChangePosition, Changed};
use uuid::Uuid;

use super::query::WatchQuery;

/// Changes up to a place.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    changes: Arc<[Arc<Change>]>,
    pub(super) next: ChangePosition,
    /// By job, and in their order: made by the first who wants one job only, so that the others need not look at all.
    by_job: Arc<OnceLock<Vec<(Uuid, usize)>>>,
}

impl Batch {
    pub(super) fn new(changed: Changed) -> Self {
        Self {
            changes: changed.changes.into_iter().map(Arc::new).collect(),
            next: changed.next,
            by_job: Arc::default(),
        }
    }

    fn by_job(&self) -> &[(Uuid, usize)] {
        self.by_job.get_or_init(|| {
            let jobs = self
                .changes
                .iter()
                .map(|change| change.event.subject.request_id());
            let mut by_job: Vec<_> = jobs.zip(0..).collect();
            by_job.sort_unstable();
            by_job
        })
    }
}

/// What of a batch one has yet to look at.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) batch: Batch,
    /// Of the changes, or of those by job.
    left: Range<usize>,
    is_of_one: bool,
}

impl Rest {
    /// What of it comes after a place: what was read twice is told once.
    pub(super) fn of(batch: Batch, query: &WatchQuery, after: Option<ChangePosition>) -> Self {
        let left = match query.request_id {
            None => 0..batch.changes.len(),
            Some(id) => {
                let by_job = batch.by_job();
                by_job.partition_point(|one| one.0 < id)..by_job.partition_point(|one| one.0 <= id)
            }
        };
        let mut rest = Self {
            batch,
            left,
            is_of_one: query.request_id.is_some(),
        };
        if let Some(after) = after {
            let (mut low, mut high) = (rest.left.start, rest.left.end);
            while low < high {
                let middle = low.midpoint(high);
                if rest.at(middle).position.key() <= after.key() {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            rest.left.start = low;
        }
        rest
    }

    fn at(&self, number: usize) -> &Arc<Change> {
        let place = if self.is_of_one {
            self.batch.by_job()[number].1
        } else {
            number
        };
        &self.batch.changes[place]
    }

    pub(super) fn next(&mut self) -> Option<&Arc<Change>> {
        let next = self.left.next()?;
        Some(self.at(next))
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<Change>> {
        self.left.clone().map(|number| self.at(number))
    }
}

/// Changes that were read together, in their order. See [`Watching::next_batch`](crate::Watching::next_batch).
#[derive(Debug)]
pub struct ChangeBatch {
    rest: Rest,
    query: WatchQuery,
}

impl ChangeBatch {
    /// `None` where nothing of it is wanted.
    pub(super) fn of(rest: Rest, query: &WatchQuery) -> Option<Self> {
        let query = query.clone();
        let batch = Self { rest, query };
        let has_any = batch.iter().next().is_some();
        has_any.then_some(batch)
    }

    /// Each of them: one at least.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Change>> {
        self.rest
            .iter()
            .filter(|change| self.query.matches(&change.event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, JobState, JobUpdate, Seq, Slot, SystemClock};

    fn change(seq: i64, job: u128) -> Change {
        let claim = JobUpdate::new(Uuid::from_u128(job), JobState::Queued);
        let claim = claim.check(&SystemClock).unwrap();
        let event = Event::new(
            Seq::new(seq),
            claim.at(),
            claim.subject().clone(),
            Slot::claimed_by(&claim),
        );
        Change::new(event, place(seq))
    }

    fn place(seq: i64) -> ChangePosition {
        ChangePosition {
            store: Uuid::from_u128(7),
            transaction: 0,
            seq: Seq::new(seq),
            prunes: 0,
        }
    }

    #[test]
    fn one_job_is_found_among_all_in_the_order_of_changes() {
        let changes = [5, 1, 9, 1, 5, 1].into_iter().zip(1..);
        let changes = changes.map(|(job, seq)| change(seq, job)).collect();
        let batch = Batch::new(Changed::new(changes, place(0), false));
        let left = |query: WatchQuery| {
            let mut rest = Rest::of(batch.clone(), &query, None);
            let next = std::iter::from_fn(|| rest.next().map(|change| change.event.seq.get()));
            next.collect::<Vec<_>>()
        };
        let of = |job| WatchQuery::default().job(Uuid::from_u128(job));
        assert_eq!(left(WatchQuery::default()), [1, 2, 3, 4, 5, 6]);
        assert_eq!(left(of(1)), [2, 4, 6]);
        assert_eq!(left(of(5)), [1, 5]);
        assert_eq!(left(of(9)), [3]);
        for none in [2, 10] {
            assert_eq!(left(of(none)), [0; 0]);
        }
        let after = |query: WatchQuery, seq| {
            let batch = ChangeBatch::of(Rest::of(batch.clone(), &query, Some(place(seq))), &query);
            let numbers = batch.map(|batch| {
                batch
                    .iter()
                    .map(|change| change.event.seq.get())
                    .collect::<Vec<_>>()
            });
            numbers.unwrap_or_default()
        };
        assert_eq!(after(WatchQuery::default(), 0), [1, 2, 3, 4, 5, 6]);
        assert_eq!(after(WatchQuery::default(), 4), [5, 6]);
        assert_eq!(after(of(1), 2), [4, 6], "what was taken before is passed over");
        assert_eq!(after(of(1), 6), [0; 0]);
        assert_eq!(after(of(1).states([JobState::Failed]), 0), [0; 0]);
    }
}
