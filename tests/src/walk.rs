//! Walks along pages that end also where a broken store would go round for ever.

use std::sync::Arc;

use persist_core::{Cursor, Event, EventQuery, Job, JobQuery, Page, PersistBackend, Vm, VmQuery};

use crate::case::{CaseResult, ensure};

/// More pages than any case needs.
const MOST_PAGES: usize = 2_000;

/// Rows so far, and the next page's cursor; says when the walk is over.
struct Walk<T> {
    rows: Vec<T>,
    pages: usize,
    last: Option<Cursor>,
}

impl<T> Walk<T> {
    fn new() -> Self {
        Self {
            rows: Vec::new(),
            pages: 0,
            last: None,
        }
    }

    fn add(&mut self, page: Page<T>, limit: u32) -> CaseResult<Option<Cursor>> {
        ensure!(
            page.items.len() <= limit as usize,
            "a page has at most its limit of rows"
        );
        ensure!(
            page.next.is_none() || page.items.len() == limit as usize,
            "a page that is followed by another is full: {} of {limit} rows",
            page.items.len()
        );
        ensure!(
            page.next.is_none() || page.next != self.last,
            "the cursor of each page is a new one"
        );
        self.pages += 1;
        ensure!(self.pages < MOST_PAGES, "a walk along the pages comes to an end");
        self.rows.extend(page.items);
        self.last.clone_from(&page.next);
        Ok(page.next)
    }
}

/// All jobs of a query, page by page.
pub async fn jobs(backend: &Arc<dyn PersistBackend>, mut query: JobQuery) -> CaseResult<Vec<Job>> {
    let mut walk = Walk::new();
    loop {
        let page = backend.jobs(&query).await?;
        match walk.add(page, query.limit)? {
            Some(next) => query = query.after(Some(next)),
            None => return Ok(walk.rows),
        }
    }
}

/// All VMs of a query, page by page.
pub async fn vms(backend: &Arc<dyn PersistBackend>, mut query: VmQuery) -> CaseResult<Vec<Vm>> {
    let mut walk = Walk::new();
    loop {
        let page = backend.vms(&query).await?;
        match walk.add(page, query.limit)? {
            Some(next) => query = query.after(Some(next)),
            None => return Ok(walk.rows),
        }
    }
}

/// The whole history of a query, page by page.
pub async fn events(backend: &Arc<dyn PersistBackend>, mut query: EventQuery) -> CaseResult<Vec<Event>> {
    let mut walk = Walk::new();
    loop {
        let page = backend.events(&query).await?;
        match walk.add(page, query.limit)? {
            Some(next) => query = query.after(Some(next)),
            None => return Ok(walk.rows),
        }
    }
}
