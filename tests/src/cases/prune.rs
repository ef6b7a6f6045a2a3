//! Retention: which whole jobs go, and which never do.

use persist_core::JobState::{self, Cancelled, Failed, Lost, Queued, Running, Succeeded, TimedOut};
use persist_core::{JobUpdate, Prune, Pruned, VmState};

use super::cases;
use crate::case::{CaseResult, Ctx, ensure, ensure_eq};
use crate::sample::{at, id, job, vm};
use crate::walk;

cases! { "prune":
    a_job_goes_with_its_vms_and_their_history,
    neighbours_stay_untouched,
    a_live_job_stays_unless_it_is_named,
    a_live_vm_keeps_its_whole_job,
    a_live_job_that_is_named_goes,
    named_ids_that_are_not_there_count_nothing,
    what_was_updated_before_a_time_goes,
    a_late_vm_counts_for_the_age_of_its_job,
    jobs_of_some_states_go,
    vms_without_a_job_count_by_themselves,
    vms_without_a_job_have_no_state_and_no_repository,
    the_newest_of_each_repository_stay,
    jobs_of_no_known_repository_are_one_group,
    the_live_count_among_the_newest,
    conditions_are_joined_by_and,
    ids_and_other_conditions_are_joined_by_and,
}

/// An ended job with this time, one slot.
pub(super) fn ended(n: u64, seconds: i64) -> JobUpdate {
    JobUpdate::new(id(n), Failed).at(at(seconds))
}

/// What a call removed, without the place where it ended: that there is one exactly where there is more is asked of each.
pub(super) async fn prune(ctx: &Ctx, request: Prune) -> CaseResult<Pruned> {
    let mut pruned = ctx.backend().prune(&request).await?;
    ensure_eq!(
        pruned.next.take().is_some(),
        pruned.more,
        "there is a place to go on from exactly where there is more"
    );
    Ok(pruned)
}

/// The numbers of the jobs that are left.
pub(super) async fn left(ctx: &Ctx) -> CaseResult<Vec<u64>> {
    let query = persist_core::JobQuery::default()
        .order(persist_core::Order::ById)
        .limit(1_000);
    let rows = walk::jobs(ctx.backend(), query).await?;
    Ok(rows
        .iter()
        .filter_map(|row| (0..10_000).find(|n| id(*n) == row.request_id))
        .collect())
}

async fn a_job_goes_with_its_vms_and_their_history(ctx: &Ctx) -> CaseResult {
    ctx.each([job(1, Queued), job(1, Running), job(1, Failed)])
        .await?;
    ctx.each([
        vm(1, "a", VmState::Prepared),
        vm(1, "a", VmState::Destroyed),
        vm(1, "b", VmState::Failed),
    ])
    .await?;
    let pruned = prune(ctx, Prune::default().states([Failed])).await?;
    ensure_eq!(
        pruned,
        Pruned::new(1, 1, 2, 6, false),
        "one request id: a job, two VMs, six slots"
    );
    ensure!(ctx.backend().job(id(1)).await?.is_none(), "the job is gone");
    ensure!(
        walk::vms(ctx.backend(), Default::default()).await?.is_empty(),
        "its VMs are gone"
    );
    ensure!(ctx.history().await?.is_empty(), "and so is the history of all");
    Ok(())
}

async fn neighbours_stay_untouched(ctx: &Ctx) -> CaseResult {
    for n in 1..=3 {
        ctx.each([job(n, Queued).runs_on("large"), job(n, Succeeded)])
            .await?;
        ctx.each([vm(n, "vm", VmState::Destroyed).backend("libvirt")])
            .await?;
    }
    let before = (
        ctx.job(id(1)).await?,
        ctx.vm(id(3), "vm").await?,
        ctx.history_of(id(3)).await?,
    );
    let pruned = prune(ctx, Prune::default().ids([id(2)])).await?;
    ensure_eq!(pruned, Pruned::new(1, 1, 1, 3, false), "the one that was named");
    let after = (
        ctx.job(id(1)).await?,
        ctx.vm(id(3), "vm").await?,
        ctx.history_of(id(3)).await?,
    );
    ensure_eq!(
        after,
        before,
        "those around it are as they were, their numbers included"
    );
    ensure_eq!(left(ctx).await?, [1, 3], "and still listed");
    Ok(())
}

async fn a_live_job_stays_unless_it_is_named(ctx: &Ctx) -> CaseResult {
    ctx.each([
        job(1, Queued),
        job(2, Running),
        job(3, Failed),
        job(3, Queued).attempt(2),
    ])
    .await?;
    for request in [
        Prune::default().ended_before(at(10_000)),
        Prune::default().keep_per_repo(0),
    ] {
        let pruned = prune(ctx, request).await?;
        ensure_eq!(pruned, Pruned::default(), "live rows are never touched");
    }
    ensure_eq!(left(ctx).await?, [1, 2, 3], "also one that ended and runs again");
    Ok(())
}

async fn a_live_vm_keeps_its_whole_job(ctx: &Ctx) -> CaseResult {
    ctx.each([job(1, Failed), job(2, Failed)]).await?;
    ctx.each([
        vm(1, "a", VmState::Destroyed),
        vm(1, "b", VmState::Running),
        vm(2, "a", VmState::Stopped),
    ])
    .await?;
    let pruned = prune(ctx, Prune::default().ended_before(at(10_000))).await?;
    ensure_eq!(
        pruned,
        Pruned::new(1, 1, 1, 2, false),
        "only the job without a live VM"
    );
    ensure_eq!(left(ctx).await?, [1], "whole request ids only");
    ensure_eq!(
        ctx.history_of(id(1)).await?.len(),
        3,
        "nothing of it is gone, its ended VM neither"
    );
    Ok(())
}

async fn a_live_job_that_is_named_goes(ctx: &Ctx) -> CaseResult {
    ctx.each([job(1, Running), job(2, Running)]).await?;
    ctx.each([vm(1, "vm", VmState::Running), vm(2, "vm", VmState::Running)])
        .await?;
    let pruned = prune(ctx, Prune::default().ids([id(1), id(1)])).await?;
    ensure_eq!(
        pruned,
        Pruned::new(1, 1, 1, 2, false),
        "named ids go also when they are live, and once"
    );
    ensure_eq!(left(ctx).await?, [2], "no one else");
    Ok(())
}

async fn named_ids_that_are_not_there_count_nothing(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Failed)).await?;
    let pruned = prune(ctx, Prune::default().ids([id(5), id(1), id(6)])).await?;
    ensure_eq!(
        pruned,
        Pruned::new(1, 1, 0, 1, false),
        "only what is there is counted"
    );
    Ok(())
}

async fn what_was_updated_before_a_time_goes(ctx: &Ctx) -> CaseResult {
    ctx.apply([ended(1, 10), ended(2, 20), ended(3, 30)]).await?;
    let pruned = prune(ctx, Prune::default().ended_before(at(20))).await?;
    ensure_eq!(
        pruned,
        Pruned::new(1, 1, 0, 1, false),
        "before, and not at, this time"
    );
    ensure_eq!(left(ctx).await?, [2, 3], "the later ones stay");
    // A job that began long ago and ended lately is young.
    ctx.each([job(4, Queued).at(at(-500)), job(4, Failed).at(at(100))])
        .await?;
    prune(ctx, Prune::default().ended_before(at(100))).await?;
    ensure_eq!(left(ctx).await?, [4], "the last update counts, not the first");
    Ok(())
}

async fn a_late_vm_counts_for_the_age_of_its_job(ctx: &Ctx) -> CaseResult {
    ctx.each([ended(1, 10), ended(2, 10)]).await?;
    ctx.one(vm(1, "vm", VmState::Destroyed).at(at(50))).await?;
    let pruned = prune(ctx, Prune::default().ended_before(at(20))).await?;
    ensure_eq!(
        pruned,
        Pruned::new(1, 1, 0, 1, false),
        "job and VMs must both be older"
    );
    ensure_eq!(left(ctx).await?, [1], "the one with a younger VM stays");
    Ok(())
}

async fn jobs_of_some_states_go(ctx: &Ctx) -> CaseResult {
    let states = [Lost, Succeeded, Failed, Cancelled, TimedOut, Running];
    ctx.apply((1..).zip(states).map(|(n, state)| job(n, state)))
        .await?;
    let pruned = prune(ctx, Prune::default().states([Cancelled, Lost])).await?;
    ensure_eq!(pruned, Pruned::new(2, 2, 0, 2, false), "those in these states");
    ensure_eq!(left(ctx).await?, [2, 3, 5, 6], "and no others");
    Ok(())
}

async fn vms_without_a_job_count_by_themselves(ctx: &Ctx) -> CaseResult {
    ctx.each([
        vm(1, "a", VmState::Failed),
        vm(1, "b", VmState::Destroyed),
        vm(2, "a", VmState::Stopped),
    ])
    .await?;
    ctx.each([
        vm(2, "b", VmState::Running),
        vm(3, "a", VmState::Failed).at(at(9_000)),
        vm(4, "a", VmState::Failed).at(at(9_000)),
    ])
    .await?;
    let pruned = prune(ctx, Prune::default().ended_before(at(1_000))).await?;
    ensure_eq!(
        pruned,
        Pruned::new(1, 0, 2, 2, false),
        "a request id of VMs alone, ended and old"
    );
    ensure!(ctx.history_of(id(1)).await?.is_empty(), "with its history");
    ensure_eq!(
        ctx.history_of(id(2)).await?.len(),
        2,
        "a live VM keeps the others of its id"
    );
    let pruned = prune(ctx, Prune::default().ids([id(2), id(3)])).await?;
    ensure_eq!(
        pruned,
        Pruned::new(2, 0, 3, 3, false),
        "and by name all of them go"
    );
    ensure_eq!(
        ctx.history_of(id(4)).await?.len(),
        1,
        "but none that is not named"
    );
    Ok(())
}

async fn vms_without_a_job_have_no_state_and_no_repository(ctx: &Ctx) -> CaseResult {
    ctx.one(vm(1, "a", VmState::Failed)).await?;
    for request in [
        Prune::default().states([Failed]),
        Prune::default().keep_per_repo(0),
    ] {
        ensure_eq!(
            prune(ctx, request).await?,
            Pruned::default(),
            "such conditions are about jobs"
        );
    }
    let named = Prune::default().ids([id(1)]).states([Failed]);
    ensure_eq!(prune(ctx, named).await?, Pruned::default(), "by name too");
    ensure_eq!(ctx.history().await?.len(), 1, "it is still there");
    Ok(())
}

async fn the_newest_of_each_repository_stay(ctx: &Ctx) -> CaseResult {
    let of = |n: u64, repo: &str, seconds| ended(n, seconds).repo_url(format!("https://example.org/{repo}"));
    ctx.apply([
        of(1, "a", 10),
        of(2, "a", 20),
        of(3, "a", 20),
        of(4, "a", 5),
        of(5, "b", 1),
        of(6, "b", 2),
    ])
    .await?;
    let pruned = prune(ctx, Prune::default().keep_per_repo(2)).await?;
    ensure_eq!(
        pruned,
        Pruned::new(2, 2, 0, 2, false),
        "what is beyond the newest two of each"
    );
    ensure_eq!(left(ctx).await?, [2, 3, 5, 6], "by time, then by id");
    prune(ctx, Prune::default().keep_per_repo(1)).await?;
    ensure_eq!(left(ctx).await?, [3, 6], "of one time the higher id is the newer");
    prune(ctx, Prune::default().keep_per_repo(0)).await?;
    ensure_eq!(left(ctx).await?, [0; 0], "none is kept where none is to be");
    Ok(())
}

async fn jobs_of_no_known_repository_are_one_group(ctx: &Ctx) -> CaseResult {
    ctx.apply([
        ended(1, 10),
        ended(2, 20),
        ended(3, 30).repo_url("https://example.org/a"),
        ended(4, 5),
    ])
    .await?;
    let pruned = prune(ctx, Prune::default().keep_per_repo(1)).await?;
    ensure_eq!(pruned.requests, 2, "all but the newest without a repository");
    ensure_eq!(left(ctx).await?, [2, 3], "and the one that has its own");
    Ok(())
}

async fn the_live_count_among_the_newest(ctx: &Ctx) -> CaseResult {
    ctx.apply([ended(1, 10), ended(2, 20)]).await?;
    ctx.one(job(3, Running).at(at(30))).await?;
    let pruned = prune(ctx, Prune::default().keep_per_repo(2)).await?;
    ensure_eq!(
        pruned.requests,
        1,
        "the newest two are the live one and the second"
    );
    ensure_eq!(left(ctx).await?, [2, 3], "so the first goes");
    Ok(())
}

async fn conditions_are_joined_by_and(ctx: &Ctx) -> CaseResult {
    let of = |n: u64, state: JobState, seconds| JobUpdate::new(id(n), state).at(at(seconds));
    ctx.apply([
        of(1, Failed, 10),
        of(2, Succeeded, 10),
        of(3, Failed, 90),
        of(4, Failed, 5),
    ])
    .await?;
    let request = Prune::default().states([Failed]).ended_before(at(50));
    ensure_eq!(
        prune(ctx, request.clone().dry_run(true)).await?.requests,
        2,
        "failed, and old"
    );
    let pruned = prune(ctx, request.keep_per_repo(3)).await?;
    ensure_eq!(pruned.requests, 1, "failed, old, and not among the newest three");
    ensure_eq!(left(ctx).await?, [1, 2, 3], "all three conditions hold for one");
    Ok(())
}

async fn ids_and_other_conditions_are_joined_by_and(ctx: &Ctx) -> CaseResult {
    ctx.apply([ended(1, 10), ended(2, 90), ended(3, 10)]).await?;
    ctx.one(job(4, Running).at(at(10))).await?;
    let pruned = prune(
        ctx,
        Prune::default().ids([id(1), id(2), id(4)]).ended_before(at(50)),
    )
    .await?;
    ensure_eq!(pruned.requests, 2, "named, and last updated before, live or not");
    ensure_eq!(left(ctx).await?, [2, 3], "the young one and the unnamed one stay");
    ctx.one(job(5, Running)).await?;
    let pruned = prune(ctx, Prune::default().ids([id(2), id(5)]).states([Running])).await?;
    ensure_eq!(pruned.requests, 1, "named, and in a state, which may be live");
    ensure_eq!(left(ctx).await?, [2, 3], "the other state stays");
    Ok(())
}
