//! What is running and what is wrong, in numbers that cost little whatever the store holds.

use chrono::TimeDelta;
use persist::{JobQuery, JobState, Order, StateTable, TimeRange};
use tokio::time::{Duration, timeout};

use crate::app::App;
use crate::failure::Answer;
use crate::filter::all_orphans;

/// Rows that are counted one by one; of more it is told that they are more.
const MOST: u32 = 1_000;
/// What is wrong needs no long number.
const MOST_WRONG: u32 = 100;
/// Orphans are found by looking at everything live: a store with very much of it shows its jobs first.
const ORPHANS_WITHIN: Duration = Duration::from_millis(300);

/// A number for a person.
#[derive(Debug)]
pub(crate) struct Counted {
    /// With a `+` where there are more; a dash where it could not be counted.
    pub(crate) text: String,
    pub(crate) is_zero: bool,
    /// Why it could not be counted.
    pub(crate) why: Option<String>,
}

impl Counted {
    fn new(count: usize, more: bool) -> Self {
        Self {
            text: format!("{count}{}", if more { "+" } else { "" }),
            is_zero: count == 0 && !more,
            why: None,
        }
    }

    fn unknown(why: impl Into<String>) -> Self {
        Self {
            text: "–".into(),
            is_zero: true,
            why: Some(why.into()),
        }
    }
}

/// The numbers above the list of jobs.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) queued: Counted,
    pub(crate) running: Counted,
    pub(crate) failed: Counted,
    pub(crate) orphans: Counted,
}

pub(crate) async fn front(app: &App) -> Answer<Front> {
    let live = JobState::TABLE.iter().filter(|line| !line.ended);
    let live = JobQuery::default()
        .states(live.map(|line| line.state))
        .limit(MOST);
    let day = app.now().checked_sub_signed(TimeDelta::hours(24));
    let failed = JobQuery::default()
        .states([JobState::Failed, JobState::TimedOut, JobState::Lost])
        .created(TimeRange::new(day, None))
        .order(Order::NewestFirst)
        .limit(MOST_WRONG);
    let (live, failed, orphans) =
        tokio::join!(app.backend.jobs(&live), app.backend.jobs(&failed), orphans(app));
    let (live, failed) = (live?, failed?);
    let of = |state| live.items.iter().filter(|job| job.state == state).count();
    Ok(Front {
        queued: Counted::new(of(JobState::Queued), live.next.is_some()),
        running: Counted::new(of(JobState::Running), live.next.is_some()),
        failed: Counted::new(failed.items.len(), failed.next.is_some()),
        orphans,
    })
}

async fn orphans(app: &App) -> Counted {
    let Some(owners) = app.backend.owners() else {
        return Counted::unknown("this store keeps no heartbeats");
    };
    match timeout(ORPHANS_WITHIN, owners.orphans(&all_orphans(MOST_WRONG))).await {
        Ok(Ok(page)) => Counted::new(page.items.len(), page.next.is_some()),
        Ok(Err(error)) => Counted::unknown(error.to_string()),
        Err(_) => Counted::unknown("there is too much that is live to look at all of it now"),
    }
}
