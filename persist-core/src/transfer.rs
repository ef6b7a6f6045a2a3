//! Copying a store into another while it is written, with a proof at the end.

mod proof;

use serde::{Deserialize, Serialize};

use crate::attempt::Attempt;
use crate::backend::PersistBackend;
use crate::changes::ChangeQuery;
use crate::cursor::Cursor;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventQuery};
use crate::limits::LARGEST_PAGE;
use crate::outcome::Outcome;
use crate::state::State;
use crate::subject::Subject;
use crate::time::SystemClock;
use crate::update::Update;

/// Parts of a page that go to the target at once, so that its writer has more than one flush to make.
const PARTS: usize = 4;
/// Pages between two times that the place is kept: what is copied again after a kill changes nothing.
const PAGES: u32 = 8;
/// How often a copy begins anew because what it had yet to see was pruned.
const MOST_STARTS: u32 = 3;

/// Copies all slots of one store into another, live: the source may be written meanwhile, and so may the target.
///
/// First the whole history by key, then what changed since, until it has caught up; then both are walked side by side. Its place is
/// kept in the target as a [mark](crate::Marks) by the source's `instance_id`, so that a copy that was killed goes on where it
/// was. Updates are joined as from any other reporter: rows come out as the fold of both, and what the target already held
/// stays. The target keeps its own `instance_id`, numbers and times of recording.
///
/// ```
/// # use persist_core::{PersistBackend, Transfer, Result};
/// # async fn example(from: std::sync::Arc<dyn PersistBackend>, to: std::sync::Arc<dyn PersistBackend>) -> Result<()> {
/// let done = Transfer::new(&*from, &*to).run(|progress| println!("{}: {}", progress.doing, progress.slots)).await?;
/// assert!(done.conflicts.is_empty() && done.proven);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "nothing is copied before it runs"]
pub struct Transfer<'b> {
    from: &'b dyn PersistBackend,
    to: &'b dyn PersistBackend,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// `copying`, `catching up`, `proving` or `looking again at jobs`.
    pub doing: &'static str,
    /// Slots of this run so far, in that doing; of the last one jobs.
    pub slots: u64,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Transferred {
    /// Slots that were read and sent, those that had been before a kill aside.
    pub read: u64,
    /// Of those: new in the target.
    pub applied: u64,
    /// Of those: new in the target, below its current row.
    pub late: u64,
    /// Of those: filled blanks of the target.
    pub filled: u64,
    /// Of those: were there.
    pub unchanged: u64,
    /// Of those: the target holds another state in the slot, and keeps it.
    pub refused: u64,
    /// Slots of the source that were compared with the target at the end.
    pub compared: u64,
    /// Of those: were not there or lacked something, and were copied again.
    pub again: u64,
    /// Slots that only the target has.
    pub extra: u64,
    /// Slots of which the target says something else. Nothing of them was changed.
    pub conflicting: u64,
    /// The first 10,000 of those, by key.
    pub conflicts: Vec<Conflict>,
    /// Jobs of which something was missing, and that changed too fast to be found whole after it was copied again.
    pub unproven: u64,
    /// Whether every slot that was compared stands in the target with equal content, at the latest after it was copied again:
    /// not where any conflicts, or a job is unproven.
    pub proven: bool,
    /// Whether both exports were the same, byte by byte. They are where the target began empty and both are quiet.
    pub equal: bool,
}

/// A slot of which source and target say different things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "Columns")]
#[non_exhaustive]
pub struct Conflict {
    /// The job or VM.
    pub subject: Subject,
    /// Its attempt.
    pub attempt: Attempt,
    /// The state that the source has in the slot.
    pub state: State,
    /// The column in which they differ.
    pub column: &'static str,
}

#[derive(Serialize)]
struct Columns {
    request_id: uuid::Uuid,
    domain_name: Option<String>,
    attempt: Attempt,
    state: State,
    column: &'static str,
}

impl From<Conflict> for Columns {
    fn from(conflict: Conflict) -> Self {
        Self {
            request_id: conflict.subject.request_id(),
            domain_name: conflict.subject.vm_name().map(str::to_owned),
            attempt: conflict.attempt,
            state: conflict.state,
            column: conflict.column,
        }
    }
}

impl Conflict {
    fn new(event: &Event, column: &'static str) -> Self {
        Self {
            subject: event.subject.clone(),
            attempt: event.attempt(),
            state: event.state,
            column,
        }
    }

    fn is_of(&self, event: &Event) -> bool {
        (&self.subject, self.attempt, self.state) == (&event.subject, event.attempt(), event.state)
    }
}

/// Where a copy stands, as the mark keeps it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Place {
    /// From here on what changed is yet to be copied; `None` where the source has no order of changes.
    since: Option<Cursor>,
    /// The walk over the whole history stands here.
    key: Option<Cursor>,
    /// The whole history was copied.
    whole: bool,
}

impl<'b> Transfer<'b> {
    /// From one store to another.
    pub fn new(from: &'b dyn PersistBackend, to: &'b dyn PersistBackend) -> Self {
        Self { from, to }
    }

    /// Copies until it has caught up, and proves what there is then. May be dropped and run again.
    ///
    /// # Errors
    /// `InvalidInput` where both are one store; whatever either meets.
    pub async fn run(&self, mut each: impl FnMut(Progress) + Send) -> Result<Transferred> {
        let ids = (
            self.from.health().await?.instance_id,
            self.to.health().await?.instance_id,
        );
        if ids.0.is_some() && ids.0 == ids.1 {
            return Err(Error::invalid("to", "is the store that is copied"));
        }
        let mark = ids.0.map(|id| format!("copy:{id}"));
        let mut done = Transferred::default();
        let mut place = self.place(mark.as_deref()).await?;
        if place.since.is_none() && place.key.is_none() {
            // Without an order of changes all of it is read again, which is how it began.
            place = Place::default();
        }
        let mut starts = 0;
        loop {
            if !place.whole {
                self.whole(&mut place, mark.as_deref(), &mut done, &mut each)
                    .await?;
            }
            match self.rest(&mut place, mark.as_deref(), &mut done, &mut each).await {
                // What it had yet to see is gone: what is left is copied as a whole.
                Err(error) if error.kind() == ErrorKind::Lagged && starts < MOST_STARTS => {
                    starts += 1;
                    place = Place::default();
                }
                rest => break rest?,
            }
        }
        proof::prove(self, &mut place, mark.as_deref(), &mut done, &mut each).await?;
        Ok(done)
    }

    async fn place(&self, mark: Option<&str>) -> Result<Place> {
        let kept = match (self.to.marks(), mark) {
            (Some(marks), Some(mark)) => marks.mark(mark).await?,
            _ => None,
        };
        // One of another version is no place: the copy begins anew, which changes nothing that was copied.
        Ok(kept
            .and_then(|kept| serde_json::from_str(&kept).ok())
            .unwrap_or_default())
    }

    /// A copy without a place is made once more from the start, which changes nothing: no reason to end this one.
    async fn keep(&self, place: &Place, mark: Option<&str>) {
        if let (Some(marks), Some(mark)) = (self.to.marks(), mark) {
            let says = serde_json::to_string(place).expect("a place has only texts");
            if let Err(error) = marks.set_mark(mark, Some(&says)).await {
                tracing::warn!(%error, "the place of the copy could not be kept; a next run reads more again");
            }
        }
    }

    /// The history by key, from where the walk stood.
    async fn whole(
        &self,
        place: &mut Place,
        mark: Option<&str>,
        done: &mut Transferred,
        each: &mut (impl FnMut(Progress) + Send),
    ) -> Result<()> {
        if place.key.is_none() {
            // Before the first page: what changes while they are read comes after.
            place.since = match self.from.changes() {
                Some(changes) => match changes.now().await {
                    // Nor has a source that lacks the migration of that order: it may be another's, and read only.
                    Err(error)
                        if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::SchemaMismatch) =>
                    {
                        None
                    }
                    now => Some(now?.cursor()),
                },
                None => None,
            };
        }
        let query = |key: &Option<Cursor>| {
            let query = EventQuery::default().limit(LARGEST_PAGE);
            query.after(key.clone())
        };
        let first = query(&place.key);
        let mut page = self.from.events(&first).await?;
        let mut pages = 0;
        loop {
            // The next page is read while this one is written.
            let next = async {
                match &page.next {
                    Some(next) => {
                        let query = query(&Some(next.clone()));
                        self.from.events(&query).await.map(Some)
                    }
                    None => Ok(None),
                }
            };
            let (sent, next) = tokio::join!(self.send(&page.items), next);
            note(done, &sent?);
            each(Progress {
                doing: "copying",
                slots: done.read,
            });
            pages += 1;
            let Some(next) = next? else { break };
            place.key = page.next.take();
            if pages % PAGES == 0 {
                self.keep(place, mark).await;
            }
            page = next;
        }
        place.key = None;
        place.whole = true;
        self.keep(place, mark).await;
        Ok(())
    }

    /// What changed since, until no more is to be had at once: where somebody writes all the time there is always something.
    async fn rest(
        &self,
        place: &mut Place,
        mark: Option<&str>,
        done: &mut Transferred,
        each: &mut (impl FnMut(Progress) + Send),
    ) -> Result<()> {
        let (Some(changes), Some(mut since)) = (self.from.changes(), place.since.clone()) else {
            return Ok(());
        };
        let (mut pages, mut slots) = (0, 0);
        loop {
            let query = ChangeQuery::default().after(Some(since.clone()));
            let changed = changes.since(&query).await?;
            since = changed.next.cursor();
            place.since = Some(since.clone());
            let events: Vec<_> = changed.changes.into_iter().map(|change| change.event).collect();
            let sent = self.send(&events).await?;
            note(done, &sent);
            slots += events.len() as u64;
            each(Progress {
                doing: "catching up",
                slots,
            });
            pages += 1;
            if pages % PAGES == 0 || !changed.more {
                self.keep(place, mark).await;
            }
            if !changed.more {
                return Ok(());
            }
        }
    }

    async fn send(&self, events: &[Event]) -> Result<Vec<Outcome>> {
        let claims = events.iter().map(|event| {
            // No program of ours has written it, so that which it is must be told.
            let told = |error: Error| {
                let what = format!(
                    "{}, attempt {}, {}: {error}",
                    event.subject,
                    event.attempt(),
                    event.state
                );
                Error::new(error.kind(), what).with("request_id", event.subject.request_id())
            };
            Update::from(event).check(&SystemClock).map_err(told)
        });
        let claims = claims.collect::<Result<Vec<_>>>()?;
        let size = claims.len().div_ceil(PARTS).max(1);
        let parts = claims.chunks(size).map(|part| self.to.apply(part));
        let outcomes = futures_util::future::try_join_all(parts).await?;
        Ok(outcomes.into_iter().flatten().collect())
    }
}

fn note(done: &mut Transferred, outcomes: &[Outcome]) {
    for outcome in outcomes {
        done.read += 1;
        match outcome {
            Outcome::Applied { .. } => done.applied += 1,
            Outcome::Late { .. } => done.late += 1,
            Outcome::Filled { .. } => done.filled += 1,
            Outcome::Refused { .. } => done.refused += 1,
            _ => done.unchanged += 1,
        }
    }
}
