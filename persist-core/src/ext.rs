//! Conveniences over any backend.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;

use chrono::TimeDelta;
use futures_core::Stream;
use futures_util::{TryStreamExt as _, stream};
use uuid::Uuid;

use crate::artefacts::{self, Artefact};
use crate::backend::PersistBackend;
use crate::changes::Change;
use crate::cursor::Cursor;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventQuery};
use crate::job::{Job, JobQuery};
use crate::jsonl;
use crate::ledger::{Refusal, RefusalQuery};
use crate::limits::LARGEST_PAGE;
use crate::owners::{Orphan, OrphanQuery};
use crate::page::{IdRange, Order, Page};
use crate::stats::{self, Stats, StatsQuery};
use crate::story::{AsOf, Story};
use crate::time::Timestamp;
use crate::verify::{self, Checked};
use crate::vm::{Vm, VmQuery};
use crate::watch;

/// What can be built from the ten methods. Implemented for every backend, and by no one else.
///
/// The streams run in constant memory, one page of 1,000 rows at a time; a query's own `limit` does not bound
/// them. A stream ends after its first error. Dropping one is always safe.
pub trait PersistExt: PersistBackend {
    /// All jobs of a query, from its cursor on.
    fn all_jobs(&self, query: JobQuery) -> impl Stream<Item = Result<Job>> + Send {
        pages(query.after.clone(), move |after| {
            let query = query.clone().after(after).limit(LARGEST_PAGE);
            async move { self.jobs(&query).await }
        })
    }

    /// All VMs of a query, from its cursor on.
    fn all_vms(&self, query: VmQuery) -> impl Stream<Item = Result<Vm>> + Send {
        pages(query.after.clone(), move |after| {
            let query = query.clone().after(after).limit(LARGEST_PAGE);
            async move { self.vms(&query).await }
        })
    }

    /// The whole history of a query, from its cursor on.
    fn all_events(&self, query: EventQuery) -> impl Stream<Item = Result<Event>> + Send {
        pages(query.after.clone(), move |after| {
            let query = query.clone().after(after).limit(LARGEST_PAGE);
            async move { self.events(&query).await }
        })
    }

    /// All orphans of a query, from its cursor on. `Unsupported` from a backend that knows of no owners.
    fn all_orphans(&self, query: OrphanQuery) -> impl Stream<Item = Result<Orphan>> + Send {
        pages(query.after.clone(), move |after| {
            let query = query.clone().after(after).limit(LARGEST_PAGE);
            async move {
                let none = || Error::new(ErrorKind::Unsupported, "this backend knows of no owners");
                self.owners().ok_or_else(none)?.orphans(&query).await
            }
        })
    }

    /// All refusals of a query, from its cursor on. `Unsupported` from a backend that keeps none.
    fn all_refusals(&self, query: RefusalQuery) -> impl Stream<Item = Result<Refusal>> + Send {
        pages(query.after.clone(), move |after| {
            let query = query.clone().after(after).limit(LARGEST_PAGE);
            async move {
                let none = || Error::new(ErrorKind::Unsupported, "this backend keeps no refusals");
                self.ledger().ok_or_else(none)?.refusals(&query).await
            }
        })
    }

    /// At most so many refusals of a job and its VMs, the last tried first; `None` where the store keeps no account of them, by its
    /// schema or for this role.
    ///
    /// # Errors
    /// Whatever reading meets, also a row that can't be read.
    fn refusals_of(
        &self,
        request_id: Uuid,
        most: usize,
    ) -> impl Future<Output = Result<Option<Vec<Refusal>>>> + Send {
        use futures_util::StreamExt as _;
        async move {
            let of_job = RefusalQuery::default().request_id(request_id);
            match self.all_refusals(of_job).take(most).try_collect().await {
                Ok(refusals) => Ok(Some(refusals)),
                Err(error) if keeps_none(&error) => Ok(None),
                Err(error) => Err(error),
            }
        }
    }

    /// The whole history in the exchange format, a line (without its line feed) each, ordered by
    /// (`request_id`, `domain_name`, rank): the same store gives the same lines on every backend.
    fn export(&self) -> impl Stream<Item = Result<String>> + Send {
        use futures_util::StreamExt as _;
        self.all_events(EventQuery::default())
            .map(|event| event.map(|event| jsonl::line(&event)))
    }

    /// The story of a job and its VMs, now or as of a moment: attempts, waits, phases, gaps, what is odd and what was refused. `None` where
    /// nothing was reported (by then). Reads the history of this one job into memory, some 200 bytes a slot.
    ///
    /// ```
    /// # use persist_core::{PersistBackend, PersistExt as _, Result};
    /// # async fn example(backend: std::sync::Arc<dyn PersistBackend>, id: uuid::Uuid) -> Result<()> {
    /// if let Some(story) = backend.explain(id, None).await? {
    ///     println!("{} slots, {} oddities", story.timeline.len(), story.oddities.len());
    /// }
    /// # Ok(()) }
    /// ```
    fn explain(
        &self,
        request_id: Uuid,
        as_of: Option<AsOf>,
    ) -> impl Future<Output = Result<Option<Story>>> + Send {
        async move {
            let events = self.all_events(EventQuery::default().request_id(request_id));
            let events: Vec<_> = events.try_collect().await?;
            let Some(mut story) = Story::of(request_id, events, as_of) else {
                return Ok(None);
            };
            if let Some(refusals) = self.refusals_of(request_id, usize::MAX).await? {
                story.refused(refusals, as_of);
            }
            Ok(Some(story))
        }
    }

    /// The request ids in a range, of jobs and of VMs whose job has not reported, in their order: not all where there are more
    /// than `most`, and enough to see whether the beginning of an id names one job.
    ///
    /// ```
    /// # use persist_core::{IdRange, PersistBackend, PersistExt as _, Result};
    /// # async fn example(backend: std::sync::Arc<dyn PersistBackend>) -> Result<()> {
    /// let found = backend.request_ids(IdRange::of_prefix("0190c2f4")?, 2).await?;
    /// println!("{}", if found.len() == 1 { "it is one" } else { "none, or several" });
    /// # Ok(()) }
    /// ```
    fn request_ids(&self, ids: IdRange, most: u32) -> impl Future<Output = Result<BTreeSet<Uuid>>> + Send {
        async move {
            let jobs = JobQuery::default().ids(ids).order(Order::ById).limit(most);
            let vms = VmQuery::default().ids(ids).order(Order::ById).limit(LARGEST_PAGE);
            let jobs = self.jobs(&jobs).await?.items;
            let vms = self.vms(&vms).await?.items;
            let found = jobs.iter().map(|job| job.request_id);
            Ok(found.chain(vms.iter().map(|vm| vm.request_id)).collect())
        }
    }

    /// Every overlay and seed that a VM reported, by (`request_id`, `domain_name`), with what the record says of it at `now`:
    /// whether it is in use, kept, overdue or gone. What ended less than `grace` ago is not overdue yet. Reads all VMs and jobs.
    ///
    /// It knows nothing of disks: compare it with a folder to find what leaks.
    fn artefacts(&self, now: Timestamp, grace: TimeDelta) -> impl Stream<Item = Result<Artefact>> + Send {
        artefacts::artefacts(self, now, grace)
    }

    /// How many jobs there are and were, how long they waited and how long they ran, also by repository and runner label. Reads
    /// the live jobs, those that were created in the time that is asked for, and the history of these: by their indexes, in
    /// constant memory but for the groups, of which there are at most a thousand.
    fn stats(&self, query: &StatsQuery) -> impl Future<Output = Result<Stats>> + Send {
        stats::stats(self, query)
    }

    /// Every job and VM in the order of (`request_id`, `domain_name`), each compared with its history: a row must be the fold
    /// of its slots. Reads the whole store; may run beside writers, whose updates are no flaw.
    ///
    /// It shows what became of rows; an edit that changes row and history alike it can't see. What no reader is told
    /// is not compared: the rank of a row beyond its attempt, and those of its attributes.
    ///
    /// ```
    /// # use futures_util::TryStreamExt as _;
    /// # use persist_core::{PersistBackend, PersistExt as _, Result};
    /// # async fn example(backend: std::sync::Arc<dyn PersistBackend>) -> Result<()> {
    /// let flawed = backend.verify().try_filter(|checked| std::future::ready(checked.flaw.is_some()));
    /// let flawed: Vec<_> = flawed.try_collect().await?;
    /// assert!(flawed.is_empty(), "{flawed:?}");
    /// # Ok(()) }
    /// ```
    fn verify(&self) -> impl Stream<Item = Result<Checked>> + Send {
        verify::verify(self)
    }

    /// Every slot that is claimed or filled, from a place on, as it comes; with `None` from the first slot that there is.
    /// Go on later from [`Change::cursor`]. For what comes from now on only, begin at [`Changes::now`](crate::Changes::now).
    ///
    /// It polls: soon after a hint or a change, else every second at the latest. An error that may pass, as of a database
    /// that is away, is told in the log and waited for; any other ends the stream, such as `Lagged` after a prune, and
    /// `Unsupported` where the store can't be watched. For many watchers of one store see the facade's `Persist::watch`.
    ///
    /// ```
    /// # use persist_core::{Cursor, PersistBackend, PersistExt as _, Result};
    /// # use futures_util::TryStreamExt as _;
    /// # async fn example(backend: std::sync::Arc<dyn PersistBackend>, from: Option<Cursor>) -> Result<()> {
    /// let mut changes = std::pin::pin!(backend.watch(from));
    /// while let Some(change) = changes.try_next().await? {
    ///     println!("{} {}; go on from {}", change.event.subject, change.event.state.name(), change.cursor());
    /// }
    /// # Ok(()) }
    /// ```
    fn watch(&self, from: Option<Cursor>) -> impl Stream<Item = Result<Change>> + Send {
        watch::stream(self, from)
    }
}

impl<B: PersistBackend + ?Sized> PersistExt for B {}

/// Whether an error of reading refusals says that there are none to read for this reader.
fn keeps_none(error: &Error) -> bool {
    use ErrorKind::{Auth, SchemaMismatch, Unsupported};
    // A row that can't be read is one that there is.
    let is_of_a_row = error.context("request_id").is_some();
    !is_of_a_row && matches!(error.kind(), Auth | SchemaMismatch | Unsupported)
}

struct Walk<T, F> {
    fetch: F,
    rows: VecDeque<T>,
    /// Where the next page begins; the outer `None` is the end.
    next: Option<Option<Cursor>>,
}

fn pages<T, F, Fut>(after: Option<Cursor>, fetch: F) -> impl Stream<Item = Result<T>>
where
    F: FnMut(Option<Cursor>) -> Fut,
    Fut: Future<Output = Result<Page<T>>>,
{
    let walk = Walk {
        fetch,
        rows: VecDeque::new(),
        next: Some(after),
    };
    stream::unfold(walk, |mut walk| async move {
        loop {
            if let Some(row) = walk.rows.pop_front() {
                return Some((Ok(row), walk));
            }
            let after = walk.next.take()?;
            match (walk.fetch)(after).await {
                Ok(page) => {
                    walk.rows = page.items.into();
                    walk.next = page.next.map(Some);
                }
                Err(error) => return Some((Err(error), walk)),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_cannot_be_read_is_no_lack_of_rows() {
        for kind in [ErrorKind::Auth, ErrorKind::SchemaMismatch, ErrorKind::Unsupported] {
            let error = Error::new(kind, "what");
            assert!(keeps_none(&error), "{kind:?}");
            assert!(!keeps_none(&error.with("request_id", Uuid::nil())), "{kind:?}");
        }
        assert!(!keeps_none(&Error::new(ErrorKind::Timeout, "what")));
    }
}
