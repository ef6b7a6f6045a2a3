//! Statements that read VMs.

use sea_query::{Expr, ExprTrait as _};

use super::select::{List, ranges_after};
use super::{Dialect, Statement, VM_COLUMNS, VMS};
use crate::error::Result;
use crate::subject::VmKey;
use crate::vm::VmQuery;

/// One VM.
pub fn vm(dialect: Dialect, schema: Option<&str>, key: &VmKey) -> Statement {
    let mut list = List::new(dialect, schema, VMS.name, &VM_COLUMNS);
    list.select
        .and_where(Expr::col("request_id").eq(dialect.id(key.request_id)));
    list.select
        .and_where(Expr::col("domain_name").eq(key.domain_name.as_str()));
    list.select
}

/// A page of VMs and one row more, of a checked query.
///
/// # Errors
/// `InvalidInput` for a cursor that does not belong here.
pub fn vms(dialect: Dialect, schema: Option<&str>, query: &VmQuery) -> Result<Statement> {
    let mut list = List::new(dialect, schema, VMS.name, &VM_COLUMNS);
    list.equal("request_id", query.request_id.map(|id| dialect.id(id)));
    list.text("domain_name", query.domain_name.as_deref());
    list.states(&query.states);
    list.text("backend", query.backend.as_deref());
    let position = query.position()?;
    let begins = position.as_ref().map(|(at, key)| (*at, key.request_id));
    let (created, ids) = ranges_after(query.order, query.created, query.ids, begins);
    list.created(created);
    list.ids(ids);
    let position = position.map(|(at, key)| {
        [
            dialect.time(at),
            dialect.id(key.request_id),
            key.domain_name.into(),
        ]
    });
    Ok(list.page(
        query.order,
        ["created_at", "request_id", "domain_name"],
        position,
        query.limit,
    ))
}
