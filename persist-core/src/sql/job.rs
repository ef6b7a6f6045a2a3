//! Statements that read jobs.

use sea_query::{Expr, ExprTrait as _};
use uuid::Uuid;

use super::select::{List, ranges_after};
use super::{Dialect, JOB_COLUMNS, JOBS, Statement};
use crate::error::Result;
use crate::job::JobQuery;

/// One job.
pub fn job(dialect: Dialect, schema: Option<&str>, id: Uuid) -> Statement {
    let mut list = List::new(dialect, schema, JOBS.name, &JOB_COLUMNS);
    list.select.and_where(Expr::col("request_id").eq(dialect.id(id)));
    list.select
}

/// A page of jobs and one row more, of a checked query.
///
/// # Errors
/// `InvalidInput` for a cursor that does not belong here.
pub fn jobs(dialect: Dialect, schema: Option<&str>, query: &JobQuery) -> Result<Statement> {
    let mut list = List::new(dialect, schema, JOBS.name, &JOB_COLUMNS);
    list.states(&query.states);
    list.text("repo_url", query.repo_url.as_deref());
    list.text("runs_on", query.runs_on.as_deref());
    list.hex_prefix("commit_sha", query.commit_sha.as_deref());
    let position = query.position()?;
    let (created, ids) = ranges_after(query.order, query.created, query.ids, position);
    list.created(created);
    list.ids(ids);
    let position = position.map(|(at, id)| [dialect.time(at), dialect.id(id)]);
    Ok(list.page(query.order, ["created_at", "request_id"], position, query.limit))
}
