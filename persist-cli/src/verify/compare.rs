//! The history as it is now beside the digest of what it was.

use std::fmt;
use std::pin::pin;

use futures_util::{Stream, StreamExt as _};
use indicatif::ProgressBar;
use persist::{Event, EventQuery, PersistBackend, PersistExt as _};
use serde::Serialize;
use uuid::Uuid;

use super::MOST_TOLD;
use super::digest::{Mark, Reader, Still};
use crate::exit::Failure;

/// What is not as it was.
#[derive(Debug, Serialize)]
pub(super) struct Change {
    pub(super) request_id: Uuid,
    pub(super) change: What,
    /// Slots then and now, of those that the digest is about.
    pub(super) slots_then: u64,
    pub(super) slots_now: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    /// A slot says something else.
    Edited,
    /// Slots of the job are missing.
    Deleted,
    /// Slots came that say they had been there.
    Added,
    /// All of it is missing: pruned, or deleted.
    Gone,
    /// Blanks were filled since, as late reports do, and nothing else changed.
    Completed,
}

impl What {
    /// The word of the serialised form.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Edited => "edited",
            Self::Deleted => "deleted",
            Self::Added => "added",
            Self::Gone => "gone",
            Self::Completed => "completed",
        }
    }
}

/// How many jobs are as they were.
#[derive(Debug, Default, Serialize)]
pub(super) struct Compared {
    /// Of the digest's file.
    sha256: String,
    /// Jobs of the digest.
    jobs: u64,
    unchanged: u64,
    completed: u64,
    edited: u64,
    deleted: u64,
    added: u64,
    gone: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) changes: Vec<Change>,
}

impl Compared {
    pub(super) fn is_well(&self, allow_pruned: bool) -> bool {
        self.edited == 0 && self.deleted == 0 && self.added == 0 && (allow_pruned || self.gone == 0)
    }

    fn note(&mut self, change: Change) {
        *match change.change {
            What::Edited => &mut self.edited,
            What::Deleted => &mut self.deleted,
            What::Added => &mut self.added,
            What::Gone => &mut self.gone,
            What::Completed => &mut self.completed,
        } += 1;
        if self.changes.len() < MOST_TOLD {
            self.changes.push(change);
        }
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "of {} jobs of the digest (SHA-256 {}) {} are unchanged",
            self.jobs, self.sha256, self.unchanged
        )?;
        for (count, what) in [
            (self.completed, "were completed since"),
            (self.edited, "were edited"),
            (self.deleted, "lack slots"),
            (self.added, "have slots that were not there"),
            (self.gone, "are gone"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// A job as it is now.
struct Now {
    id: Uuid,
    /// What was recorded in the time that the digest is about, by key.
    slots: Vec<Event>,
}

/// Walks both in the order of ids.
pub(super) async fn compare(
    backend: &dyn PersistBackend,
    mut digest: Reader,
    bar: &ProgressBar,
) -> Result<Compared, Failure> {
    let mut compared = Compared::default();
    let until = digest.head.until;
    let mut jobs = pin!(jobs(backend, until));
    let mut now = jobs.next().await.transpose()?;
    while let Some((id, then)) = digest.next()? {
        // Jobs that the digest has not: slots that are old enough were not there.
        while let Some(job) = now.take_if(|job| job.id < id) {
            compared.judge(job.id, &[], Some(&job.slots));
            now = jobs.next().await.transpose()?;
        }
        compared.jobs += 1;
        if compared.jobs.is_multiple_of(1_000) {
            bar.set_message(format!("{} jobs of the digest", compared.jobs));
        }
        let found = now.take_if(|job| job.id == id);
        compared.judge(id, &then, found.as_ref().map(|job| &job.slots[..]));
        if found.is_some() {
            now = jobs.next().await.transpose()?;
        }
    }
    compared.sha256 = digest.sha256();
    while let Some(job) = now {
        compared.judge(job.id, &[], Some(&job.slots));
        now = jobs.next().await.transpose()?;
    }
    Ok(compared)
}

impl Compared {
    fn judge(&mut self, id: Uuid, then: &[Mark], now: Option<&[Event]>) {
        let (slots_then, slots_now) = (then.len() as u64, now.map_or(0, |now| now.len() as u64));
        match what(then, now) {
            None if slots_then == 0 => {}
            None => self.unchanged += 1,
            // Late reports do that, and there may be many.
            Some(What::Completed) => self.completed += 1,
            Some(change) => self.note(Change {
                request_id: id,
                change,
                slots_then,
                slots_now,
            }),
        }
    }
}

fn what(then: &[Mark], now: Option<&[Event]>) -> Option<What> {
    let Some(now) = now else {
        return Some(What::Gone);
    };
    match now.len().cmp(&then.len()) {
        std::cmp::Ordering::Less => return Some(What::Deleted),
        std::cmp::Ordering::Greater => return Some(What::Added),
        std::cmp::Ordering::Equal => {}
    }
    let still = then.iter().zip(now).map(|(mark, event)| mark.still(event));
    still.fold(None, |worst, still| match (worst, still) {
        (Some(What::Edited), _) | (_, Still::Other) => Some(What::Edited),
        (_, Still::Filled) => Some(What::Completed),
        (worst, Still::Same) => worst,
    })
}

/// Each job with its slots that were recorded before a time; one of which none was is there all the same.
fn jobs(
    backend: &dyn PersistBackend,
    until: persist::Timestamp,
) -> impl Stream<Item = Result<Now, persist::Error>> {
    let events = backend.all_events(EventQuery::default()).fuse().boxed();
    futures_util::stream::unfold(
        (events, None::<Event>),
        move |(mut events, mut first)| async move {
            let mut job: Option<Now> = None;
            loop {
                let event = match first.take() {
                    Some(event) => event,
                    None => match events.next().await {
                        None => return Some((Ok(job?), (events, None))),
                        Some(Err(error)) => {
                            return Some((Err(error), (futures_util::stream::empty().boxed(), None)));
                        }
                        Some(Ok(event)) => event,
                    },
                };
                let id = event.subject.request_id();
                if let Some(done) = job.take_if(|job| job.id != id) {
                    return Some((Ok(done), (events, Some(event))));
                }
                let job = job.get_or_insert_with(|| Now {
                    id,
                    slots: Vec::new(),
                });
                if event.recorded_at < until {
                    job.slots.push(event);
                }
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use persist::{JobState, JobUpdate, Seq, Slot, SystemClock};

    fn event(attempt: u32, set: impl FnOnce(JobUpdate) -> JobUpdate) -> Event {
        let update = JobUpdate::new(Uuid::from_u128(7), JobState::Queued).attempt(attempt);
        let at = persist::time::from_micros(1_000_000).unwrap();
        let claim = set(update.at(at)).check(&SystemClock).unwrap();
        Event::new(Seq::new(1), at, claim.subject().clone(), Slot::claimed_by(&claim))
    }

    #[test]
    fn what_became_of_a_job_is_told_apart_whatever_else_was_filled() {
        let bare = || event(1, |update| update);
        let filled = || event(1, |update| update.actor("webhook"));
        let then: Vec<_> = [bare(), event(2, |update| update.runs_on("large"))]
            .iter()
            .map(Mark::of)
            .collect();
        let now = |first: Event, runs_on: &str| [first, event(2, |update| update.runs_on(runs_on))];
        assert_eq!(what(&then, Some(&now(bare(), "large"))), None);
        assert_eq!(what(&then, Some(&now(filled(), "large"))), Some(What::Completed));
        assert_eq!(
            what(&then, Some(&now(filled(), "small"))),
            Some(What::Edited),
            "a fill hides nothing"
        );
        assert_eq!(
            what(&then, Some(&now(bare(), ""))),
            Some(What::Edited),
            "a value was taken away"
        );
        let mut other = bare();
        other.state = JobState::Running.into();
        assert_eq!(what(&then, Some(&now(other, "large"))), Some(What::Edited));
        assert_eq!(what(&then, None), Some(What::Gone));
        assert_eq!(
            what(&then, Some(&[])),
            Some(What::Deleted),
            "its slots say that they are young"
        );
        assert_eq!(what(&then[..1], Some(&now(bare(), "large"))), Some(What::Added));
    }
}
