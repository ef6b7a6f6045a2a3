//! Conveniences over any backend.

use std::collections::VecDeque;
use std::future::Future;

use futures_core::Stream;
use futures_util::stream;

use crate::backend::PersistBackend;
use crate::changes::Change;
use crate::cursor::Cursor;
use crate::error::Result;
use crate::event::{Event, EventQuery};
use crate::job::{Job, JobQuery};
use crate::jsonl;
use crate::limits::LARGEST_PAGE;
use crate::page::Page;
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

    /// The whole history in the exchange format, a line (without its line feed) each, ordered by
    /// (`request_id`, `domain_name`, rank): the same store gives the same lines on every backend.
    fn export(&self) -> impl Stream<Item = Result<String>> + Send {
        use futures_util::StreamExt as _;
        self.all_events(EventQuery::default())
            .map(|event| event.map(|event| jsonl::line(&event)))
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
