//! Jobs by filters that no index serves, within a bound.

use persist::{Job, JobQuery, Page, PersistBackend, Result, limits};

/// Rows that one request looks at: some 60 ms of a local store. One that found too little goes on from there.
const MOST_LOOKED_AT: u32 = 20_000;

/// A page of jobs. With a commit or a runner label in it the rows are walked and compared here: the store would walk all of
/// its history for a commit that it does not have. Such a page may hold few rows, or none, and have a next one.
pub(crate) async fn jobs(backend: &dyn PersistBackend, query: &JobQuery) -> Result<Page<Job>> {
    if query.commit_sha.is_none() && query.runs_on.is_none() {
        return backend.jobs(query).await;
    }
    let mut wide = query.clone().limit(limits::LARGEST_PAGE);
    wide.commit_sha = None;
    wide.runs_on = None;
    let mut items = Vec::new();
    for _ in 0..MOST_LOOKED_AT / limits::LARGEST_PAGE {
        let page = backend.jobs(&wide).await?;
        for job in page.items.into_iter().filter(|job| query.matches(job)) {
            if items.len() == query.limit as usize {
                let next = items.last().map(|last| query.cursor(last));
                return Ok(Page::new(items, next));
            }
            items.push(job);
        }
        if page.next.is_none() {
            return Ok(Page::new(items, None));
        }
        wide.after = page.next;
    }
    Ok(Page::new(items, wide.after))
}
