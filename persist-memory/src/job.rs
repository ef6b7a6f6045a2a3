//! Pages of jobs.

use persist_core::{Job, JobQuery, Page, Result};

use crate::state::State;

/// A page of a checked query.
pub(crate) fn page(state: &State, query: &JobQuery) -> Result<Page<Job>> {
    let jobs = state
        .jobs
        .walk(query.order, query.position()?, query.created, query.ids.from)
        .filter_map(|(id, line)| Job::from_row(*id, &line.row))
        .filter(|job| query.matches(job))
        .take(query.limit as usize + 1)
        .collect();
    Ok(Page::from_overread(jobs, query.limit, |job| query.cursor(job)))
}
