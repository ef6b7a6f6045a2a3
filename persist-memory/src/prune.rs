//! Retention: which request ids go, in which order.

use std::collections::HashMap;

use persist_core::merge::Row;
use persist_core::{
    Attribute, Order, Prune, PrunePosition, PruneRepo, Pruned, Result, State as SubjectState, TimeRange,
};
use uuid::Uuid;

use crate::state::State;

/// Removes what matches, or counts it.
pub(crate) fn prune(state: &mut State, request: &Prune) -> Result<Pruned> {
    let (after, limit) = (request.position()?, request.limit as usize);
    let found = |candidates: &mut dyn Iterator<Item = PrunePosition>| {
        let matching = candidates.filter(|place| matches(state, request, place.request_id));
        matching.take(limit + 1).collect::<Vec<_>>()
    };
    let mut matching = if request.ids.is_empty() && request.keep_per_repo.is_none() {
        found(&mut by_age(state, request, after))
    } else {
        let mut places = match request.keep_per_repo {
            Some(keep) => beyond(state, request, keep),
            None => named(state, request),
        };
        places.retain(|place| Some(place) > after.as_ref());
        places.sort_unstable();
        found(&mut places.into_iter())
    };
    let next = (matching.len() > limit).then(|| matching[limit - 1].clone());
    matching.truncate(limit);

    let mut pruned = Pruned::new(matching.len() as u64, 0, 0, 0, false);
    let mut last = 0;
    for PrunePosition { request_id: id, .. } in matching {
        if let Some(line) = state.jobs.get(&id) {
            pruned.jobs += 1;
            pruned.events += line.slots.len() as u64;
        }
        for (_, line) in state.vms_of(id) {
            pruned.vms += 1;
            pruned.events += line.slots.len() as u64;
        }
        if !request.dry_run {
            last = last.max(state.remove(id));
        }
    }
    if last > 0 {
        state.pruned.raise((0, last));
    }
    Ok(pruned.ended_at(next))
}

/// All after a place that may be meant, along the order by age.
fn by_age<'s>(
    state: &'s State,
    request: &Prune,
    after: Option<PrunePosition>,
) -> impl Iterator<Item = PrunePosition> + 's {
    // What began later has not ended before.
    let mut created = TimeRange::default();
    created.until = request.ended_before;
    created.from = after.as_ref().map(|after| after.created_at);
    let jobs = state.jobs.walk(Order::OldestFirst, None, created, None);
    let mut jobs = jobs
        .map(|(id, line)| place(PruneRepo::Any, &line.row, *id))
        .peekable();
    let without_job = request.states.is_empty();
    let vms = state.vms.walk(Order::OldestFirst, None, created, None);
    let vms = vms.filter(move |(key, line)| {
        let earliest = || {
            state
                .vms_of(key.request_id)
                .map(|(key, vm)| (vm.row.created_at, key))
                .min()
        };
        without_job
            && state.jobs.get(&key.request_id).is_none()
            && earliest() == Some((line.row.created_at, key))
    });
    let mut vms = vms
        .map(|(key, line)| place(PruneRepo::Any, &line.row, key.request_id))
        .peekable();
    let merged = std::iter::from_fn(move || match (jobs.peek(), vms.peek()) {
        (Some(job), Some(vm)) if vm < job => vms.next(),
        (None, _) => vms.next(),
        _ => jobs.next(),
    });
    merged.filter(move |place| Some(place) > after.as_ref())
}

fn place(repo: PruneRepo, row: &Row, request_id: Uuid) -> PrunePosition {
    PrunePosition {
        repo,
        created_at: row.created_at,
        request_id,
    }
}

/// The named ids.
fn named(state: &State, request: &Prune) -> Vec<PrunePosition> {
    let with_vms = request.states.is_empty();
    let row = |id| match state.jobs.get(id) {
        Some(job) => Some(&job.row),
        None if with_vms => state
            .vms_of(*id)
            .map(|(_, vm)| &vm.row)
            .min_by_key(|row| row.created_at),
        None => None,
    };
    let ids = request.ids.iter();
    ids.filter_map(|id| Some(place(PruneRepo::Any, row(id)?, *id)))
        .collect()
}

/// All jobs that are not among the newest of their repository. No index leads to those of one: this passes all jobs.
fn beyond(state: &State, request: &Prune, keep: u32) -> Vec<PrunePosition> {
    let mut counts: HashMap<Option<&str>, u32> = HashMap::new();
    let newest = state
        .jobs
        .walk(Order::NewestFirst, None, TimeRange::default(), None);
    let beyond = newest.filter_map(|(id, job)| {
        let repo = job.row.attributes.get(Attribute::RepoUrl);
        let count = counts.entry(repo).or_default();
        *count = count.saturating_add(1);
        let of = match repo {
            _ if !request.is_by_repo() => PruneRepo::Any,
            Some(repo) => PruneRepo::Known(repo.to_owned()),
            None => PruneRepo::Unknown,
        };
        (*count > keep).then(|| place(of, &job.row, *id))
    });
    let is_meant = |id: &Uuid| request.ids.is_empty() || request.ids.binary_search(id).is_ok();
    beyond.filter(|place| is_meant(&place.request_id)).collect()
}

fn matches(state: &State, request: &Prune, id: Uuid) -> bool {
    let job = state.jobs.get(&id).map(|job| &job.row);
    let rows = || job.into_iter().chain(state.vms_of(id).map(|(_, vm)| &vm.row));
    let wanted = |row: &Row| match row.state {
        SubjectState::Job(state) => request.states.contains(&state),
        SubjectState::Vm(_) => false,
    };
    (!request.ids.is_empty() || rows().all(|row| row.state.is_ended()))
        && request
            .ended_before
            .is_none_or(|before| rows().all(|row| row.updated_at < before))
        && (request.states.is_empty() || job.is_some_and(wanted))
}
