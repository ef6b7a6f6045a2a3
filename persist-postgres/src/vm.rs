//! VMs: the entity, and the reads of them.

use std::sync::Arc;

use persist_core::sql::{self, Dialect};
use persist_core::{Attempt, Page, Rank, Result, StateTable as _, Vm, VmKey, VmQuery};
use sea_orm::FromQueryResult as _;
use sea_orm::entity::prelude::*;
use sqlx::postgres::{PgArguments, PgRow};

use crate::bind;
use crate::row;
use crate::session::Session;

/// A row of `vms` as the store's statements read it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "vms")]
pub struct Model {
    /// The job that it was booted for.
    #[sea_orm(primary_key, auto_increment = false)]
    pub request_id: Uuid,
    /// Its libvirt domain.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub domain_name: String,
    /// The word of the state.
    #[sea_orm(column_type = "Text")]
    pub state: String,
    /// The highest slot.
    pub rank: i64,
    /// Hypervisor back end.
    #[sea_orm(column_type = "Text", nullable)]
    pub backend: Option<String>,
    /// Disk overlay.
    #[sea_orm(column_type = "Text", nullable)]
    pub overlay_path: Option<String>,
    /// Cloud-init seed image.
    #[sea_orm(column_type = "Text", nullable)]
    pub seed_path: Option<String>,
    /// The earliest `at`.
    pub created_at: ChronoDateTimeUtc,
    /// The latest `at`.
    pub updated_at: ChronoDateTimeUtc,
}

/// Nothing: a VM may come before its job, so no table refers to another.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for Vm {
    type Error = persist_core::Error;

    fn try_from(row: Model) -> Result<Self> {
        let id = row.request_id;
        let state = persist_core::VmState::from_name(&row.state)
            .ok_or_else(|| row::unknown("vms", "state", id, &row.state))?;
        let attempt: Attempt = row::rank("vms", id, row.rank).map(Rank::attempt)?;
        let mut vm = Self::new(VmKey::new(id, row.domain_name), state, attempt, row.created_at);
        vm.backend = row.backend;
        vm.overlay_path = row.overlay_path;
        vm.seed_path = row.seed_path;
        vm.updated_at = row.updated_at;
        Ok(vm)
    }
}

fn decode(row: PgRow) -> Result<Vm> {
    Model::from_query_result(&row.into(), "")
        .map_err(|_| row::undecodable("vms"))?
        .try_into()
}

pub(crate) async fn get(session: &mut Session, sql: Arc<str>, key: &VmKey) -> Result<Option<Vm>> {
    // The server refuses NUL in a text, where all that is meant is: no VM has such a name.
    if key.domain_name.contains('\0') {
        return Ok(None);
    }
    let mut arguments = PgArguments::default();
    bind::add(&mut arguments, key.request_id)?;
    bind::add(&mut arguments, key.domain_name.as_str())?;
    let rows = session.rows(sql, arguments).await?;
    rows.into_iter().next().map(decode).transpose()
}

pub(crate) async fn list(session: &mut Session, schema: Option<&str>, query: &VmQuery) -> Result<Page<Vm>> {
    let rows = session
        .select(&sql::vms(Dialect::Postgres, schema, query)?)
        .await?;
    row::page(rows, query.limit, decode, |vm| query.cursor(vm))
}
