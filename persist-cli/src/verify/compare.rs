//! The history as it is now beside the digest of what it was.

use std::fmt;
use std::pin::pin;

use futures_util::{Stream, StreamExt as _};
use indicatif::ProgressBar;
use persist::{Event, EventQuery, PersistBackend, PersistExt as _};
use serde::Serialize;
use uuid::Uuid;

use super::MOST_TOLD;
use super::digest::{Line, Reader, Running};
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
    /// Blanks were filled since, as late reports do; that nothing else changed of it can't be told.
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
            "of {} jobs of the digest {} are unchanged",
            self.jobs, self.unchanged
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
    while let Some(then) = digest.next()? {
        // Jobs that the digest has not: a slot of theirs that is old enough was not there.
        while let Some(job) = now.take_if(|job| job.id < then.id) {
            compared.note(change(&Line::nothing(job.id), Some(&job), What::Added));
            now = jobs.next().await.transpose()?;
        }
        compared.jobs += 1;
        if compared.jobs.is_multiple_of(1_000) {
            bar.set_message(format!("{} jobs of the digest", compared.jobs));
        }
        let found = now.take_if(|job| job.id == then.id);
        match what(&then, found.as_ref()) {
            None => compared.unchanged += 1,
            Some(what) => compared.note(change(&then, found.as_ref(), what)),
        }
        if found.is_some() {
            now = jobs.next().await.transpose()?;
        }
    }
    while let Some(job) = now {
        compared.note(change(&Line::nothing(job.id), Some(&job), What::Added));
        now = jobs.next().await.transpose()?;
    }
    Ok(compared)
}

fn change(then: &Line, now: Option<&Line>, change: What) -> Change {
    Change {
        request_id: then.id,
        change,
        slots_then: then.slots,
        slots_now: now.map_or(0, |now| now.slots),
    }
}

fn what(then: &Line, now: Option<&Line>) -> Option<What> {
    let Some(now) = now else {
        return Some(What::Gone);
    };
    if then.sha256 == now.sha256 && then.slots == now.slots {
        return None;
    }
    Some(match now.slots.cmp(&then.slots) {
        std::cmp::Ordering::Less => What::Deleted,
        std::cmp::Ordering::Greater => What::Added,
        std::cmp::Ordering::Equal if now.seq > then.seq => What::Completed,
        std::cmp::Ordering::Equal => What::Edited,
    })
}

impl Line {
    fn nothing(id: Uuid) -> Self {
        Running::of(id).line()
    }
}

/// The digest of each job as it is now, of what was recorded before a time.
fn jobs(
    backend: &dyn PersistBackend,
    until: persist::Timestamp,
) -> impl Stream<Item = Result<Line, persist::Error>> {
    let events = backend.all_events(EventQuery::default()).fuse().boxed();
    futures_util::stream::unfold(
        (events, None::<Event>),
        move |(mut events, mut first)| async move {
            let mut running: Option<Running> = None;
            loop {
                let event = match first.take() {
                    Some(event) => event,
                    None => match events.next().await {
                        None => return Some((Ok(running?.line()), (events, None))),
                        Some(Err(error)) => {
                            return Some((Err(error), (futures_util::stream::empty().boxed(), None)));
                        }
                        Some(Ok(event)) => event,
                    },
                };
                if event.recorded_at >= until {
                    continue;
                }
                let id = event.subject.request_id();
                match running.take_if(|running| running.id != id) {
                    Some(done) => return Some((Ok(done.line()), (events, Some(event)))),
                    None => running.get_or_insert_with(|| Running::of(id)).add(&event),
                }
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_a_job_is_told_apart() {
        let line = |slots, seq, sha256: &str| Line {
            id: Uuid::nil(),
            slots,
            seq,
            sha256: sha256.to_owned(),
        };
        let then = line(3, 7, "a");
        assert_eq!(what(&then, Some(&then)), None);
        assert_eq!(what(&then, None), Some(What::Gone));
        assert_eq!(what(&then, Some(&line(3, 7, "b"))), Some(What::Edited));
        assert_eq!(what(&then, Some(&line(3, 9, "b"))), Some(What::Completed));
        assert_eq!(what(&then, Some(&line(2, 6, "b"))), Some(What::Deleted));
        assert_eq!(what(&then, Some(&line(4, 9, "b"))), Some(What::Added));
    }
}
