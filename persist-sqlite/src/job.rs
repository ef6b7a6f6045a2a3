//! Reads of jobs.

use persist_core::sql::{self, Dialect, JOB_COLUMNS, JOBS};
use persist_core::{Job, JobQuery, JobState, Page, Result, StateTable as _};
use rusqlite::{Connection, Row};
use uuid::Uuid;

use crate::bind::Select;
use crate::error::Failed;
use crate::row::{self, Columns};

/// Takes the columns in the order of [`JOB_COLUMNS`].
fn decode(row: &Row<'_>) -> Result<Job> {
    let row = Columns::new(JOBS.name, &JOB_COLUMNS, row, 0)?;
    let state = row.state(1, JobState::from_name)?;
    let mut job = Job::new(row.id(), state, row.rank(2)?.attempt(), row.time(6)?);
    job.repo_url = row.get(3)?;
    job.commit_sha = row.get(4)?;
    job.runs_on = row.get(5)?;
    job.updated_at = row.time(7)?;
    Ok(job)
}

pub(crate) fn get(connection: &Connection, id: Uuid) -> Result<Option<Job>, Failed> {
    let mut select = Select::new(connection, &sql::job(Dialect::Sqlite, None, id))?;
    Ok(select.rows()?.next()?.map(decode).transpose()?)
}

pub(crate) fn list(connection: &Connection, query: &JobQuery) -> Result<Page<Job>, Failed> {
    let mut select = Select::new(connection, &sql::jobs(Dialect::Sqlite, None, query)?)?;
    row::page(&mut select, query.limit, decode, |job| query.cursor(job))
}
