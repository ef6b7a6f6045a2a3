//! Reads of VMs.

use persist_core::sql::{self, Dialect, VM_COLUMNS, VMS};
use persist_core::{Page, Result, StateTable as _, Vm, VmKey, VmQuery, VmState};
use rusqlite::{Connection, Row};

use crate::bind::Select;
use crate::error::Failed;
use crate::row::{self, Columns};

/// Takes the columns in the order of [`VM_COLUMNS`].
fn decode(row: &Row<'_>) -> Result<Vm> {
    let row = Columns::new(VMS.name, &VM_COLUMNS, row, 0)?;
    let key = VmKey::new(row.id(), row.get::<String>(1)?);
    let state = row.state(2, VmState::from_name)?;
    let mut vm = Vm::new(key, state, row.rank(3)?.attempt(), row.time(7)?);
    vm.backend = row.get(4)?;
    vm.overlay_path = row.get(5)?;
    vm.seed_path = row.get(6)?;
    vm.updated_at = row.time(8)?;
    Ok(vm)
}

pub(crate) fn get(connection: &Connection, key: &VmKey) -> Result<Option<Vm>, Failed> {
    let mut select = Select::new(connection, &sql::vm(Dialect::Sqlite, None, key))?;
    Ok(select.rows()?.next()?.map(decode).transpose()?)
}

pub(crate) fn list(connection: &Connection, query: &VmQuery) -> Result<Page<Vm>, Failed> {
    let mut select = Select::new(connection, &sql::vms(Dialect::Sqlite, None, query)?)?;
    row::page(&mut select, query.limit, decode, |vm| query.cursor(vm))
}
