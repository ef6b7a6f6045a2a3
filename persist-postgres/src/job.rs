//! Jobs: the entity, and the reads of them.

use std::sync::Arc;

use persist_core::sql::{self, Dialect};
use persist_core::{Attempt, Job, JobQuery, Page, Rank, Result, StateTable as _};
use sea_orm::FromQueryResult as _;
use sea_orm::entity::prelude::*;
use sqlx::postgres::{PgArguments, PgRow};

use crate::bind;
use crate::connection::Work;
use crate::points::Rows;
use crate::row;
use crate::session::Session;
use crate::statements::Statements;

/// A row of `jobs` as the store's statements read it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "jobs")]
pub struct Model {
    /// The orchestrator's id of the job.
    #[sea_orm(primary_key, auto_increment = false)]
    pub request_id: Uuid,
    /// The word of the state.
    #[sea_orm(column_type = "Text")]
    pub state: String,
    /// The highest slot.
    pub rank: i64,
    /// Repository.
    #[sea_orm(column_type = "Text", nullable)]
    pub repo_url: Option<String>,
    /// Commit.
    #[sea_orm(column_type = "Text", nullable)]
    pub commit_sha: Option<String>,
    /// Runner label.
    #[sea_orm(column_type = "Text", nullable)]
    pub runs_on: Option<String>,
    /// The earliest `at`.
    pub created_at: ChronoDateTimeUtc,
    /// The latest `at`.
    pub updated_at: ChronoDateTimeUtc,
}

/// Nothing: VMs may come before their job, so no table refers to another.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for Job {
    type Error = persist_core::Error;

    fn try_from(row: Model) -> Result<Self> {
        let id = row.request_id;
        let state = persist_core::JobState::from_name(&row.state)
            .ok_or_else(|| row::unknown("jobs", "state", id, &row.state))?;
        let attempt: Attempt = row::rank("jobs", id, row.rank).map(Rank::attempt)?;
        let mut job = Self::new(id, state, attempt, row.created_at);
        job.repo_url = row.repo_url;
        job.commit_sha = row.commit_sha;
        job.runs_on = row.runs_on;
        job.updated_at = row.updated_at;
        Ok(job)
    }
}

fn model(row: PgRow) -> Result<Model> {
    Model::from_query_result(&row.into(), "").map_err(|_| row::undecodable("jobs"))
}

fn decode(row: PgRow) -> Result<Job> {
    model(row)?.try_into()
}

/// The rows of keys that have one. A row that can't be read fails for its own key.
pub(crate) fn by_key(
    session: &mut Session,
    statements: Arc<Statements>,
    ids: Arc<[Uuid]>,
) -> Work<'_, Rows<Uuid, Job>> {
    Box::pin(async move {
        let mut arguments = PgArguments::default();
        let sql = if let [id] = ids[..] {
            bind::add(&mut arguments, id)?;
            &statements.job
        } else {
            bind::add(&mut arguments, &*ids)?;
            &statements.jobs_by_key
        };
        let rows = session.rows(Arc::clone(sql), arguments).await?;
        let models = rows.into_iter().map(model);
        models
            .map(|row| row.map(|row| (row.request_id, row.try_into())))
            .collect()
    })
}

pub(crate) async fn list(session: &mut Session, schema: Option<&str>, query: &JobQuery) -> Result<Page<Job>> {
    let rows = session
        .select(&sql::jobs(Dialect::Postgres, schema, query)?)
        .await?;
    row::page(rows, query.limit, decode, |job| query.cursor(job))
}
