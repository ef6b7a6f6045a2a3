//! VMs: the entity, and the reads of them.

use std::sync::Arc;

use persist_core::sql::{self, Dialect};
use persist_core::{Attempt, Page, Rank, Result, StateTable as _, Vm, VmKey, VmQuery};
use sea_orm::FromQueryResult as _;
use sea_orm::entity::prelude::*;
use sqlx::postgres::{PgArguments, PgRow};

use crate::bind;
use crate::connection::Work;
use crate::points::Rows;
use crate::row;
use crate::session::Session;
use crate::statements::Statements;

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

fn model(row: PgRow) -> Result<Model> {
    Model::from_query_result(&row.into(), "").map_err(|_| row::undecodable("vms"))
}

fn decode(row: PgRow) -> Result<Vm> {
    model(row)?.try_into()
}

/// The rows of keys that have one. A row that can't be read fails for its own key.
pub(crate) fn by_key(
    session: &mut Session,
    statements: Arc<Statements>,
    keys: Arc<[VmKey]>,
) -> Work<'_, Rows<VmKey, Vm>> {
    Box::pin(async move {
        // The server refuses NUL in a text, where all that is meant is: no VM has such a name.
        let keys: Vec<_> = keys
            .iter()
            .filter(|key| !key.domain_name.contains('\0'))
            .collect();
        let mut arguments = PgArguments::default();
        let sql = match keys[..] {
            [] => return Ok(Vec::new()),
            [key] => {
                bind::add(&mut arguments, key.request_id)?;
                bind::add(&mut arguments, key.domain_name.as_str())?;
                &statements.vm
            }
            _ => {
                bind::add(
                    &mut arguments,
                    keys.iter().map(|key| key.request_id).collect::<Vec<_>>(),
                )?;
                let names = keys.iter().map(|key| key.domain_name.as_str());
                bind::add(&mut arguments, names.collect::<Vec<_>>())?;
                &statements.vms_by_key
            }
        };
        let rows = session.rows(Arc::clone(sql), arguments).await?;
        let models = rows.into_iter().map(model);
        models
            .map(|row| {
                row.map(|row| {
                    (
                        VmKey::new(row.request_id, row.domain_name.clone()),
                        row.try_into(),
                    )
                })
            })
            .collect()
    })
}

pub(crate) async fn list(session: &mut Session, schema: Option<&str>, query: &VmQuery) -> Result<Page<Vm>> {
    let rows = session
        .select(&sql::vms(Dialect::Postgres, schema, query)?)
        .await?;
    row::page(rows, query.limit, decode, |vm| query.cursor(vm))
}
