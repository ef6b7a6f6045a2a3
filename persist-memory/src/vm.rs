//! Pages of VMs, and the VMs of a job.

use std::ops::Bound;

use persist_core::{Order, Page, Result, Vm, VmKey, VmQuery};
use uuid::Uuid;

use crate::state::{Key as _, Line, State, Table};

/// The VMs of a job, by name.
pub(crate) fn of_job(vms: &Table<VmKey>, id: Uuid) -> impl Iterator<Item = (&VmKey, &Line)> {
    vms.from(Bound::Included(VmKey::lowest(id)))
        .take_while(move |(key, _)| key.request_id == id)
}

/// A page of a checked query.
pub(crate) fn page(state: &State, query: &VmQuery) -> Result<Page<Vm>> {
    let vm = |(key, line): (&VmKey, &Line)| Vm::from_row(key.clone(), &line.row);
    let vms = match query.request_id {
        Some(id) => of_one_job(state, query, id)?,
        None => state
            .vms
            .walk(query.order, query.position()?, query.created, query.ids.from)
            .filter_map(vm)
            .filter(|vm| query.matches(vm))
            .take(query.limit as usize + 1)
            .collect(),
    };
    Ok(Page::from_overread(vms, query.limit, |vm| query.cursor(vm)))
}

/// A job has few VMs: sorting them is cheaper than walking past everyone else's.
fn of_one_job(state: &State, query: &VmQuery, id: Uuid) -> Result<Vec<Vm>> {
    let after = query.position()?;
    let mut vms: Vec<Vm> = of_job(&state.vms, id)
        .filter_map(|(key, line)| Vm::from_row(key.clone(), &line.row))
        .filter(|vm| query.matches(vm))
        .filter(|vm| {
            let place = || (vm.created_at, vm.key());
            after.as_ref().is_none_or(|after| match query.order {
                Order::NewestFirst => place() < *after,
                Order::OldestFirst => place() > *after,
                Order::ById => vm.key() > after.1,
            })
        })
        .collect();
    match query.order {
        Order::NewestFirst => vms.sort_by_cached_key(|vm| std::cmp::Reverse((vm.created_at, vm.key()))),
        Order::OldestFirst => vms.sort_by_cached_key(|vm| (vm.created_at, vm.key())),
        Order::ById => {}
    }
    Ok(vms)
}
