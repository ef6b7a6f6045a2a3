//! The history: the entity, and the reads of it.

use persist_core::sql::{self, Dialect, EVENTS};
use persist_core::{
    Attribute, Attributes, Event, EventPosition, EventQuery, Page, Result, Seq, Slot, State, Subject,
};
use sea_orm::FromQueryResult as _;
use sea_orm::entity::prelude::*;
use sqlx::postgres::PgRow;
use sqlx::{Decode, Postgres, Type};

use crate::row;
use crate::session::Session;

/// A row of `events` as the store's statements read it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "events")]
pub struct Model {
    /// The number of its latest change.
    pub seq: i64,
    /// The job's id, also of a VM.
    #[sea_orm(primary_key, auto_increment = false)]
    pub request_id: Uuid,
    /// The VM's domain, or nothing for the job itself.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub domain_name: String,
    /// The slot.
    #[sea_orm(primary_key, auto_increment = false)]
    pub rank: i64,
    /// The word of the state.
    #[sea_orm(column_type = "Text")]
    pub state: String,
    /// When it was so.
    pub at: ChronoDateTimeUtc,
    /// When it was claimed, by the database's clock.
    pub recorded_at: ChronoDateTimeUtc,
    /// Who reported.
    #[sea_orm(column_type = "Text", nullable)]
    pub actor: Option<String>,
    /// Why.
    #[sea_orm(column_type = "Text", nullable)]
    pub reason: Option<String>,
    /// Repository.
    #[sea_orm(column_type = "Text", nullable)]
    pub repo_url: Option<String>,
    /// Commit.
    #[sea_orm(column_type = "Text", nullable)]
    pub commit_sha: Option<String>,
    /// Runner label.
    #[sea_orm(column_type = "Text", nullable)]
    pub runs_on: Option<String>,
    /// Hypervisor back end.
    #[sea_orm(column_type = "Text", nullable)]
    pub backend: Option<String>,
    /// Disk overlay.
    #[sea_orm(column_type = "Text", nullable)]
    pub overlay_path: Option<String>,
    /// Cloud-init seed image.
    #[sea_orm(column_type = "Text", nullable)]
    pub seed_path: Option<String>,
}

/// Nothing: history stands by itself.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for Event {
    type Error = persist_core::Error;

    fn try_from(row: Model) -> Result<Self> {
        let id = row.request_id;
        let subject = Subject::new(id, &row.domain_name);
        let state = State::from_name(subject.is_vm(), &row.state)
            .ok_or_else(|| row::unknown("events", "state", id, &row.state))?;
        let rank = row::rank("events", id, row.rank)?;
        let mut attributes = Attributes::default();
        attributes.set(Attribute::RepoUrl, row.repo_url);
        attributes.set(Attribute::CommitSha, row.commit_sha);
        attributes.set(Attribute::RunsOn, row.runs_on);
        attributes.set(Attribute::Backend, row.backend);
        attributes.set(Attribute::OverlayPath, row.overlay_path);
        attributes.set(Attribute::SeedPath, row.seed_path);
        let slot = Slot {
            rank,
            state,
            at: row.at,
            actor: row.actor,
            reason: row.reason,
            attributes,
        };
        Ok(Self::new(Seq::new(row.seq), row.recorded_at, subject, slot))
    }
}

pub(crate) fn decode(row: PgRow) -> Result<Event> {
    Model::from_query_result(&row.into(), "")
        .map_err(|_| row::undecodable("events"))?
        .try_into()
}

/// The event whose columns begin at one of a row's. By their places, as who watches reads every change: 15 names a row were
/// looked up for more than the rest of it costs.
pub(crate) fn at(row: &PgRow, first: usize) -> Result<Event> {
    fn value<'r, T: Decode<'r, Postgres> + Type<Postgres>>(row: &'r PgRow, column: usize) -> Result<T> {
        row::value(EVENTS, row, column)
    }
    let model = Model {
        seq: value(row, first)?,
        request_id: value(row, first + 1)?,
        domain_name: value(row, first + 2)?,
        rank: value(row, first + 3)?,
        state: value(row, first + 4)?,
        at: value(row, first + 5)?,
        recorded_at: value(row, first + 6)?,
        actor: value(row, first + 7)?,
        reason: value(row, first + 8)?,
        repo_url: value(row, first + 9)?,
        commit_sha: value(row, first + 10)?,
        runs_on: value(row, first + 11)?,
        backend: value(row, first + 12)?,
        overlay_path: value(row, first + 13)?,
        seed_path: value(row, first + 14)?,
    };
    model.try_into()
}

/// `instance_id` is needed only where the query goes by sequence number.
pub(crate) async fn list(
    session: &mut Session,
    schema: Option<&str>,
    query: &EventQuery,
    position: &EventPosition,
    instance_id: Uuid,
) -> Result<Page<Event>> {
    let rows = session
        .select(&sql::events(Dialect::Postgres, schema, query, position))
        .await?;
    row::page(rows, query.limit, decode, |event| {
        query.cursor(event, instance_id)
    })
}
