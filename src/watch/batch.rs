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
    pub(super) fn of(batch: Batch, query: &WatchQuery) -> Self {
        let left = match query.request_id {
            None => 0..batch.changes.len(),
            Some(id) => {
                let by_job = batch.by_job();
                by_job.partition_point(|one| one.0 < id)..by_job.partition_point(|one| one.0 <= id)
            }
        };
        Self {
            batch,
            left,
            is_of_one: query.request_id.is_some(),
        }
    }

    pub(super) fn next(&mut self) -> Option<&Arc<Change>> {
        let next = self.left.next()?;
        let place = if self.is_of_one {
            self.batch.by_job()[next].1
        } else {
            next
        };
        self.batch.changes.get(place)
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
            let mut rest = Rest::of(batch.clone(), &query);
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
    }
}
