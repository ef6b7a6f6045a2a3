//! Defects of retention.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use persist_core::{
    Claim, Event, EventQuery, JobQuery, LARGEST_PRUNE, PersistBackend as _, PersistExt as _, Prune,
    PrunePosition, PruneRepo, Pruned, Result, StateTable as _, Timestamp, VmQuery, time,
};
use uuid::Uuid;

use super::{Broken, rewrite};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prunes {
    /// A live job is removed too.
    LiveJobGoes,
    /// A job whose VM is live is removed too.
    LiveVmGoes,
    /// A live job stays, though it is named.
    NamedLiveStays,
    /// The history of what was removed is left behind.
    HistoryStays,
    /// The VMs of a removed job are left behind.
    VmsStay,
    /// VMs whose job never came are left out.
    OrphansStay,
    /// A dry run removes.
    DryRunRemoves,
    /// The limit is not kept.
    LimitIsIgnored,
    /// The newest go first.
    NewestGoFirst,
    /// `more` is never told.
    MoreIsNotTold,
    /// What was updated at the very time goes too.
    BeforeIsInclusive,
    /// The age is that of the creation.
    AgeIsOfCreation,
    /// Named ids go, whatever the other conditions.
    IdsSuffice,
    /// One more job of each repository stays.
    OneMoreIsKept,
    /// The newest jobs are counted over all repositories.
    KeptOverAll,
    /// Without any condition everything that ended goes.
    NoConditionIsAll,
    /// A live state without ids is taken.
    LiveStateIsTaken,
    /// Slots are not counted.
    EventsAreNotCounted,
    /// An update that comes for a pruned job finds its old slots.
    PrunedComesBack,
    /// Each call begins anew.
    PlaceIsIgnored,
    /// Where to go on is not told.
    PlaceIsNotTold,
    /// A place that is none of this order is taken for the beginning.
    AnyPlaceIsTaken,
    /// With a number to keep the oldest of all repositories go first.
    RepositoriesAreMixed,
}

/// All, with the case that notices.
pub(super) const ALL: &[(Prunes, &str)] = &[
    (Prunes::LiveJobGoes, "prune::a_live_job_stays_unless_it_is_named"),
    (Prunes::LiveVmGoes, "prune::a_live_vm_keeps_its_whole_job"),
    (Prunes::NamedLiveStays, "prune::a_live_job_that_is_named_goes"),
    (
        Prunes::HistoryStays,
        "prune::a_job_goes_with_its_vms_and_their_history",
    ),
    (
        Prunes::VmsStay,
        "prune::a_job_goes_with_its_vms_and_their_history",
    ),
    (
        Prunes::OrphansStay,
        "prune::vms_without_a_job_count_by_themselves",
    ),
    (
        Prunes::DryRunRemoves,
        "prune::a_dry_run_counts_and_removes_nothing",
    ),
    (Prunes::LimitIsIgnored, "prune::the_oldest_go_first"),
    (Prunes::NewestGoFirst, "prune::the_oldest_go_first"),
    (
        Prunes::MoreIsNotTold,
        "prune::more_is_true_exactly_when_more_match",
    ),
    (
        Prunes::BeforeIsInclusive,
        "prune::what_was_updated_before_a_time_goes",
    ),
    (
        Prunes::AgeIsOfCreation,
        "prune::what_was_updated_before_a_time_goes",
    ),
    (
        Prunes::IdsSuffice,
        "prune::ids_and_other_conditions_are_joined_by_and",
    ),
    (Prunes::OneMoreIsKept, "prune::the_newest_of_each_repository_stay"),
    (Prunes::KeptOverAll, "prune::the_newest_of_each_repository_stay"),
    (
        Prunes::NoConditionIsAll,
        "prune::a_request_without_a_condition_is_refused",
    ),
    (
        Prunes::LiveStateIsTaken,
        "prune::a_live_state_without_ids_is_refused",
    ),
    (
        Prunes::EventsAreNotCounted,
        "prune::a_job_goes_with_its_vms_and_their_history",
    ),
    (Prunes::PrunedComesBack, "prune::a_pruned_job_starts_anew"),
    (Prunes::PlaceIsIgnored, "prune::a_walk_goes_on_where_it_ended"),
    (
        Prunes::PlaceIsNotTold,
        "prune::more_is_true_exactly_when_more_match",
    ),
    (
        Prunes::AnyPlaceIsTaken,
        "prune::a_place_of_another_order_is_refused",
    ),
    (
        Prunes::RepositoriesAreMixed,
        "prune::with_a_number_to_keep_it_goes_repository_by_repository",
    ),
];

/// A request id as retention sees it.
#[derive(Debug, Clone, Default)]
struct Request {
    created: Timestamp,
    repo: Option<String>,
    job_created: Option<Timestamp>,
    job_live: bool,
    vm_live: bool,
}

impl Request {
    fn place(&self, request_id: Uuid, is_by_repo: bool) -> PrunePosition {
        PrunePosition {
            repo: match &self.repo {
                _ if !is_by_repo => PruneRepo::Any,
                Some(repo) => PruneRepo::Known(repo.clone()),
                None => PruneRepo::Unknown,
            },
            created_at: self.created,
            request_id,
        }
    }
}

pub(super) async fn prune(broken: &Broken, defect: Prunes, request: &Prune) -> Result<Pruned> {
    let inner = &broken.inner;
    let none = *request == Prune::default().limit(request.limit).dry_run(request.dry_run);
    match defect {
        Prunes::NoConditionIsAll if none => {
            let all = request
                .clone()
                .ended_before(time::parse("all", "9999-12-31T00:00:00Z")?);
            return inner.prune(&all).await;
        }
        Prunes::LiveStateIsTaken if request.ids.is_empty() => {
            let mut ended = request.clone();
            ended.states.retain(|state| state.is_ended());
            if ended.states.is_empty() && !request.states.is_empty() {
                return Ok(Pruned::default());
            }
            return inner.prune(&ended).await;
        }
        Prunes::AnyPlaceIsTaken => {
            let own = request.position().ok().and_then(|_| request.after.clone());
            return inner.prune(&request.clone().after(own)).await;
        }
        _ => request.check()?,
    };
    match defect {
        Prunes::DryRunRemoves => inner.prune(&request.clone().dry_run(false)).await,
        Prunes::LimitIsIgnored => inner.prune(&request.clone().limit(LARGEST_PRUNE)).await,
        Prunes::OneMoreIsKept => {
            let mut kinder = request.clone();
            kinder.keep_per_repo = request.keep_per_repo.map(|keep| keep + 1);
            inner.prune(&kinder).await
        }
        Prunes::BeforeIsInclusive => {
            let mut later = request.clone();
            later.ended_before = request
                .ended_before
                .map(|at| at + chrono::TimeDelta::microseconds(1));
            inner.prune(&later).await
        }
        Prunes::IdsSuffice if !request.ids.is_empty() => {
            let named = Prune::default()
                .ids(request.ids.clone())
                .limit(request.limit)
                .dry_run(request.dry_run);
            inner.prune(&named).await
        }
        Prunes::MoreIsNotTold => {
            let mut pruned = inner.prune(request).await?;
            (pruned.more, pruned.next) = (false, None);
            Ok(pruned)
        }
        Prunes::PlaceIsNotTold => {
            let mut pruned = inner.prune(request).await?;
            pruned.next = None;
            Ok(pruned)
        }
        Prunes::PlaceIsIgnored => inner.prune(&request.clone().after(None)).await,
        Prunes::EventsAreNotCounted => {
            let mut pruned = inner.prune(request).await?;
            pruned.events = 0;
            Ok(pruned)
        }
        Prunes::HistoryStays | Prunes::VmsStay | Prunes::PrunedComesBack => {
            leave_behind(broken, defect, request).await
        }
        _ => one_by_one(broken, defect, request).await,
    }
}

/// Prunes, and puts some of what went back.
async fn leave_behind(broken: &Broken, defect: Prunes, request: &Prune) -> Result<Pruned> {
    let inner = &broken.inner;
    let before: Vec<_> = inner.all_events(EventQuery::default()).try_collect().await?;
    let pruned = inner.prune(request).await?;
    let after: Vec<_> = inner.all_events(EventQuery::default()).try_collect().await?;
    let gone = before.into_iter().filter(|event| !after.contains(event));
    match defect {
        Prunes::VmsStay => {
            let vms: Vec<_> = gone
                .filter(|event| event.subject.is_vm())
                .map(|event| rewrite::claim_of(&event.subject, event.slot()))
                .collect();
            inner.apply(&vms).await?;
        }
        _ => broken.shared.ghosts.lock().extend(gone),
    }
    Ok(pruned)
}

/// Asks about each request id alone, and removes those that match the broken rule.
async fn one_by_one(broken: &Broken, defect: Prunes, request: &Prune) -> Result<Pruned> {
    let inner = &broken.inner;
    let mut matching = Vec::new();
    for (id, found) in requests(broken).await? {
        if !request.ids.is_empty() && request.ids.binary_search(&id).is_err() && !request.ids.contains(&id) {
            continue;
        }
        let spared = match defect {
            Prunes::LiveJobGoes => found.vm_live,
            Prunes::LiveVmGoes => found.job_live,
            Prunes::OrphansStay => found.job_created.is_none() || found.job_live || found.vm_live,
            _ => found.job_live || found.vm_live,
        };
        let named = !request.ids.is_empty() && defect != Prunes::NamedLiveStays;
        let mut alone = request.clone().ids([id]).after(None).dry_run(true);
        if defect == Prunes::AgeIsOfCreation {
            alone.ended_before = None;
            let age = found.job_created;
            if request
                .ended_before
                .zip(age)
                .is_some_and(|(before, age)| age >= before)
            {
                continue;
            }
        }
        // What stays of each repository is counted over all ids, so it is asked without naming any.
        alone.keep_per_repo = None;
        if (named || !spared) && inner.prune(&alone).await?.requests == 1 {
            matching.push(id);
        }
    }
    if let Some(keep) = request.keep_per_repo {
        let kept = kept(broken, defect, keep as usize).await?;
        let with_job: Vec<_> = requests(broken)
            .await?
            .into_iter()
            .filter(|(_, found)| found.job_created.is_some())
            .collect();
        matching.retain(|id| !kept.contains(id) && with_job.iter().any(|(job, _)| job == id));
    }
    if defect == Prunes::NewestGoFirst {
        matching.reverse();
    }
    let requests = requests(broken).await?;
    let place = |id: &Uuid| {
        let found = requests.iter().find(|(other, _)| other == id);
        found.map(|(id, found)| found.place(*id, request.is_by_repo()))
    };
    if defect != Prunes::NewestGoFirst && defect != Prunes::RepositoriesAreMixed {
        matching.sort_by_key(place);
    }
    if let Some(after) = request.position()? {
        matching.retain(|id| place(id).as_ref() > Some(&after));
    }
    let limit = request.limit as usize;
    let next = (matching.len() > limit).then(|| place(&matching[limit - 1]));
    matching.truncate(limit);
    let mut total = Pruned::default().ended_at(next.flatten());
    for id in matching {
        let pruned = inner
            .prune(&Prune::default().ids([id]).dry_run(request.dry_run))
            .await?;
        total.requests += pruned.requests;
        total.jobs += pruned.jobs;
        total.vms += pruned.vms;
        total.events += pruned.events;
    }
    Ok(total)
}

/// All request ids, the oldest first.
async fn requests(broken: &Broken) -> Result<Vec<(Uuid, Request)>> {
    let mut requests: BTreeMap<Uuid, (Timestamp, Request)> = BTreeMap::new();
    for vm in broken
        .inner
        .all_vms(VmQuery::default())
        .try_collect::<Vec<_>>()
        .await?
    {
        let (age, request) = requests
            .entry(vm.request_id)
            .or_insert((vm.created_at, Request::default()));
        *age = vm.created_at.min(*age);
        request.vm_live |= !vm.state.is_ended();
    }
    for job in broken
        .inner
        .all_jobs(JobQuery::default())
        .try_collect::<Vec<_>>()
        .await?
    {
        let (age, request) = requests
            .entry(job.request_id)
            .or_insert((job.created_at, Request::default()));
        *age = job.created_at;
        request.job_created = Some(job.created_at);
        request.repo = job.repo_url;
        request.job_live = !job.state.is_ended();
    }
    let mut requests: Vec<_> = requests.into_iter().collect();
    requests.sort_by_key(|(id, (age, _))| (*age, *id));
    Ok(requests
        .into_iter()
        .map(|(id, (created, request))| (id, Request { created, ..request }))
        .collect())
}

/// The newest jobs of each repository, or of all.
async fn kept(broken: &Broken, defect: Prunes, keep: usize) -> Result<Vec<Uuid>> {
    let mut counts: BTreeMap<Option<String>, usize> = BTreeMap::new();
    let mut kept = Vec::new();
    for job in broken
        .inner
        .all_jobs(JobQuery::default())
        .try_collect::<Vec<_>>()
        .await?
    {
        let group = if defect == Prunes::KeptOverAll {
            None
        } else {
            job.repo_url
        };
        let count = counts.entry(group).or_default();
        *count += 1;
        if *count <= keep {
            kept.push(job.request_id);
        }
    }
    Ok(kept)
}

/// The slots that these subjects left behind and that come back with them.
pub(super) fn coming_back(broken: &Broken, claims: &[Claim]) -> Vec<Claim> {
    let mut ghosts = broken.shared.ghosts.lock();
    let returns = |ghost: &Event| claims.iter().any(|claim| *claim.subject() == ghost.subject);
    let (back, rest): (Vec<_>, Vec<_>) = ghosts.drain(..).partition(returns);
    *ghosts = rest;
    back.iter()
        .map(|ghost| rewrite::claim_of(&ghost.subject, ghost.slot()))
        .collect()
}
