//! The ids that are the benchmark's, and the rows under them.

use std::future::ready;

use futures_util::TryStreamExt as _;
use persist::{
    Attempt, Cursor, EventQuery, IdRange, JobQuery, Order, PersistBackend, PersistExt as _, Position, Rank,
    Result, VmQuery,
};
use uuid::Uuid;

/// High half of every id: version 8, "vendor specific", of RFC 9562.
const HIGH: u64 = 0xbe9c_bec4_be9c_8000;
/// Low halves: the variant's two bits, and the counters of runs and jobs.
const LOW: u64 = 0x8000_0000_0000_0000;
const HIGHEST_LOW: u64 = 0xbfff_ffff_ffff_ffff;
const BITS_OF_RUN: u32 = 8;

/// The ids of one run. They rise with time, as those of version 7 do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range(u64);

impl Range {
    pub(crate) fn new(run: usize) -> Self {
        let run = run as u64 % (1 << BITS_OF_RUN);
        Self(LOW | run << (62 - BITS_OF_RUN))
    }

    pub(crate) fn id(self, number: u64) -> Uuid {
        // The lowest is nobody's.
        Uuid::from_u64_pair(HIGH, self.0 | (number + 1))
    }

    /// The place in the history by key behind which this run's slots begin.
    fn begins_after(self) -> Cursor {
        let lowest = Uuid::from_u64_pair(HIGH, self.0);
        let first = Rank::new(Attempt::FIRST, 0);
        Cursor::encode(&Position::EventKey(lowest, String::new(), first.get()))
    }

    fn contains(self, id: Uuid) -> bool {
        let (high, low) = id.as_u64_pair();
        high == HIGH && low >> (62 - BITS_OF_RUN) == self.0 >> (62 - BITS_OF_RUN)
    }

    /// Slots of the history under these ids. Nothing is read of what is before and behind them, but for the rest of
    /// a page.
    pub(crate) async fn slots(self, backend: &dyn PersistBackend) -> Result<u64> {
        backend
            .all_events(EventQuery::default().after(Some(self.begins_after())))
            .try_take_while(|event| ready(Ok(self.contains(event.subject.request_id()))))
            .try_fold(0, |slots, _| ready(Ok(slots + 1)))
            .await
    }
}

/// The ids of all runs, from this one on.
pub(crate) fn all_from(from: Uuid) -> IdRange {
    IdRange::new(Some(from), Some(Uuid::from_u64_pair(HIGH, HIGHEST_LOW)))
}

pub(crate) fn lowest() -> Uuid {
    Uuid::from_u64_pair(HIGH, LOW)
}

/// Whether the store holds rows of anybody else.
pub(crate) async fn has_foreign_rows(backend: &dyn PersistBackend) -> Result<bool> {
    let below = IdRange::new(None, Some(Uuid::from_u64_pair(HIGH, LOW - 1)));
    let above = IdRange::new(Some(Uuid::from_u64_pair(HIGH, HIGHEST_LOW + 1)), None);
    for ids in [below, above] {
        let jobs = JobQuery::default().ids(ids).order(Order::ById).limit(1);
        let vms = VmQuery::default().ids(ids).order(Order::ById).limit(1);
        if !backend.jobs(&jobs).await?.items.is_empty() || !backend.vms(&vms).await?.items.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_ids_of_its_own() {
        let (first, second) = (Range::new(0), Range::new(1));
        assert!(first.contains(first.id(0)) && first.contains(first.id(1 << 40)));
        assert!(!first.contains(second.id(0)) && second.contains(second.id(7)));
        assert!(
            all_from(lowest()).contains(first.id(5)) && all_from(lowest()).contains(Range::new(255).id(5))
        );
        assert_eq!(first.id(3).get_version_num(), 8);
        assert!(!all_from(lowest()).contains(Uuid::max()) && !all_from(lowest()).contains(Uuid::nil()));
    }

    #[cfg(feature = "memory")]
    #[tokio::test]
    async fn only_slots_of_the_run_are_counted() {
        let url = "memory:".parse().unwrap();
        let backend = persist::open(&url, &persist::OpenOptions::default())
            .await
            .unwrap();
        let (before, run, after) = (Range::new(6), Range::new(7), Range::new(8));
        let last = run.id((1 << 54) - 2);
        let ids = [
            Uuid::from_u128(7),
            before.id(0),
            run.id(0),
            run.id(1),
            last,
            after.id(0),
            Uuid::max(),
        ];
        let queued = |id| persist::JobUpdate::new(id, persist::JobState::Queued);
        let prepared = |id| persist::VmUpdate::new(id, "vm-1", persist::VmState::Prepared);
        let claims = ids.into_iter().flat_map(|id| {
            let job = queued(id).check(&persist::SystemClock).unwrap();
            [job, prepared(id).check(&persist::SystemClock).unwrap()]
        });
        backend.apply(&claims.collect::<Vec<_>>()).await.unwrap();
        assert!(run.contains(last));
        assert_eq!(run.slots(&*backend).await.unwrap(), 6);
        assert_eq!(Range::new(9).slots(&*backend).await.unwrap(), 0);
    }
}
