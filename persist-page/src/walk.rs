//! Rows by filters that no index serves, within a bound.

use persist::{Cursor, Job, JobQuery, Order, Page, PersistBackend, Result, StateTable, TimeRange};
use persist::{Vm, VmQuery, limits};

/// Rows that one request looks at: some 60 ms of a local store. One that found too little goes on from there.
pub(crate) const MOST_LOOKED_AT: u32 = 20_000;

/// A page of jobs. With filters that no index serves together the rows are walked and compared here: the store would walk all of
/// its history for a commit that it does not have. Such a page may hold few rows, or none, and have a next one.
pub(crate) async fn jobs(backend: &dyn PersistBackend, query: &JobQuery) -> Result<Page<Job>> {
    let wide = wide_jobs(query);
    if wide == *query {
        return backend.jobs(query).await;
    }
    let wide = wide.limit(limits::LARGEST_PAGE);
    let fetch = |after| {
        let wide = wide.clone().after(after);
        async move { backend.jobs(&wide).await }
    };
    let of = |job: &Job| query.matches(job).then(|| query.cursor(job));
    walk(query.limit, query.after.clone(), fetch, of).await
}

/// A page of VMs, in the same way.
pub(crate) async fn vms(backend: &dyn PersistBackend, query: &VmQuery) -> Result<Page<Vm>> {
    let wide = wide_vms(query);
    if wide == *query {
        return backend.vms(query).await;
    }
    let wide = wide.limit(limits::LARGEST_PAGE);
    let fetch = |after| {
        let wide = wide.clone().after(after);
        async move { backend.vms(&wide).await }
    };
    let of = |vm: &Vm| query.matches(vm).then(|| query.cursor(vm));
    walk(query.limit, query.after.clone(), fetch, of).await
}

/// `of` gives the place of a row that is wanted.
async fn walk<T, Fut>(
    limit: u32,
    mut after: Option<Cursor>,
    fetch: impl Fn(Option<Cursor>) -> Fut,
    of: impl Fn(&T) -> Option<Cursor>,
) -> Result<Page<T>>
where
    Fut: Future<Output = Result<Page<T>>>,
{
    let mut items = Vec::new();
    let mut last = None;
    for _ in 0..MOST_LOOKED_AT / limits::LARGEST_PAGE {
        let page = fetch(after).await?;
        for row in page.items {
            let Some(place) = of(&row) else { continue };
            if items.len() == limit as usize {
                return Ok(Page::new(items, last));
            }
            items.push(row);
            last = Some(place);
        }
        if page.next.is_none() {
            return Ok(Page::new(items, None));
        }
        after = page.next;
    }
    Ok(Page::new(items, after))
}

/// Whether one index has all rows of these states, in the order of their time, and no more than a few others.
fn are_served<S: StateTable>(states: &[S]) -> bool {
    states.len() <= 1 || states.iter().all(|state| !state.is_ended())
}

/// Without the filters that are compared here; the same where one index serves all of them.
fn wide_jobs(query: &JobQuery) -> JobQuery {
    let mut wide = query.clone();
    wide.commit_sha = None;
    wide.runs_on = None;
    if query.order == Order::ById {
        // Only the key has this order.
        (wide.repo_url, wide.created) = (None, TimeRange::default());
        wide.states.clear();
    } else if query.repo_url.is_some() || !are_served(&query.states) {
        wide.states.clear();
    }
    wide
}

fn wide_vms(query: &VmQuery) -> VmQuery {
    let mut wide = query.clone();
    if query.request_id.is_some() {
        // The VMs of one job are few, and the key has them.
        return wide;
    }
    wide.domain_name = None;
    if query.order == Order::ById {
        (wide.backend, wide.created) = (None, TimeRange::default());
        wide.states.clear();
    } else if query.backend.is_some() || !are_served(&query.states) {
        wide.states.clear();
    }
    wide
}

#[cfg(test)]
mod tests {
    use persist::{JobState, VmState};

    use super::*;

    #[test]
    fn what_one_index_serves_is_asked_of_the_store_alone() {
        let jobs = JobQuery::default;
        let recent = TimeRange::new(persist::time::parse("at", "2026-11-01T08:00:00Z").ok(), None);
        for served in [
            jobs(),
            jobs().created(recent).order(Order::OldestFirst),
            jobs().order(Order::ById),
            jobs().states([JobState::Failed]).created(recent),
            jobs().states([JobState::Queued, JobState::Running]),
            jobs().repo_url("https://git.example.org/a.git"),
        ] {
            assert_eq!(wide_jobs(&served), served);
        }
        let repo = jobs().repo_url("https://git.example.org/a.git");
        for (walked, wide) in [
            (jobs().states([JobState::Failed, JobState::Lost]), jobs()),
            (jobs().states([JobState::Running, JobState::Lost]), jobs()),
            (repo.clone().states([JobState::Queued]), repo),
            (
                jobs().states([JobState::Lost]).order(Order::ById),
                jobs().order(Order::ById),
            ),
        ] {
            assert_eq!(wide_jobs(&walked), wide);
        }
        let vms = VmQuery::default;
        for served in [
            vms().states([VmState::Prepared, VmState::Running]),
            vms().backend("libvirt").created(recent),
            vms()
                .request_id(uuid::Uuid::nil())
                .domain_name("vm-7")
                .order(Order::ById),
        ] {
            assert_eq!(wide_vms(&served), served);
        }
        let libvirt = vms().backend("libvirt");
        for (walked, wide) in [
            (vms().domain_name("vm-7"), vms()),
            (libvirt.clone().states([VmState::Failed]), libvirt),
            (vms().states([VmState::Failed, VmState::Stopped]), vms()),
        ] {
            assert_eq!(wide_vms(&walked), wide);
        }
    }
}
