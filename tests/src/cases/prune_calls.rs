//! How far one call of retention goes, what it tells, and what it refuses.

use persist_core::JobState::{Failed, Queued, Running};
use persist_core::{ErrorKind, LARGEST_PRUNE, Prune, Pruned, VmState};

use super::cases;
use super::prune::{ended, left, prune};
use crate::case::{CaseResult, Ctx, Stop, ensure, ensure_eq};
use crate::sample::{CREATED, at, id, job, vm};

cases! { "prune":
    the_oldest_go_first,
    more_is_true_exactly_when_more_match,
    more_is_exact_for_a_dry_run,
    more_counts_vms_without_a_job,
    a_dry_run_counts_and_removes_nothing,
    a_second_prune_finds_nothing,
    calls_along_more_remove_all,
    a_pruned_job_starts_anew,
    a_replayed_update_of_a_pruned_job_is_applied,
    an_empty_store_has_nothing_to_prune,
    a_request_without_a_condition_is_refused,
    a_live_state_without_ids_is_refused,
    a_limit_outside_of_its_range_is_refused,
    too_many_ids_are_refused,
    ten_thousand_ids_are_taken,
}

async fn the_oldest_go_first(ctx: &Ctx) -> CaseResult {
    ctx.apply([ended(1, 30), ended(2, 10), ended(3, 20), ended(4, 10)])
        .await?;
    for expected in [vec![1, 3, 4], vec![1, 3], vec![1], vec![]] {
        let pruned = prune(ctx, Prune::default().states([Failed]).limit(1)).await?;
        ensure_eq!(pruned.requests, 1, "one at a time");
        ensure_eq!(left(ctx).await?, expected, "by created_at, then by id");
    }
    Ok(())
}

async fn more_is_true_exactly_when_more_match(ctx: &Ctx) -> CaseResult {
    for (matching, limit, more) in [
        (3, 2, true),
        (3, 3, false),
        (3, 4, false),
        (1, 1, false),
        (2, 1, true),
    ] {
        ctx.apply((1..=matching).map(|n| ended(n, n as i64))).await?;
        ctx.one(job(99, Running)).await?;
        let pruned = prune(ctx, Prune::default().states([Failed]).limit(limit)).await?;
        ensure_eq!(
            pruned.requests,
            matching.min(u64::from(limit)),
            "at most the limit"
        );
        ensure_eq!(pruned.more, more, "{matching} match, {limit} may go");
        prune(ctx, Prune::default().keep_per_repo(0)).await?;
    }
    let named = Prune::default().ids([id(1), id(2)]).limit(2);
    ctx.apply([ended(1, 1), ended(2, 2)]).await?;
    ensure_eq!(
        prune(ctx, named).await?,
        Pruned::new(2, 2, 0, 2, false),
        "by name too"
    );
    Ok(())
}

async fn more_is_exact_for_a_dry_run(ctx: &Ctx) -> CaseResult {
    ctx.apply((1..=3).map(|n| ended(n, n as i64))).await?;
    for (limit, requests, more) in [(1, 1, true), (2, 2, true), (3, 3, false), (4, 3, false)] {
        let dry = prune(ctx, Prune::default().states([Failed]).limit(limit).dry_run(true)).await?;
        ensure_eq!(
            dry,
            Pruned::new(requests, requests, 0, requests, more),
            "three match, {limit} may go"
        );
    }
    Ok(())
}

async fn more_counts_vms_without_a_job(ctx: &Ctx) -> CaseResult {
    ctx.one(ended(1, 10)).await?;
    ctx.one(vm(2, "vm", VmState::Failed).at(at(20))).await?;
    let old = Prune::default().ended_before(at(100)).limit(1);
    ensure_eq!(
        prune(ctx, old.clone()).await?,
        Pruned::new(1, 1, 0, 1, true),
        "the VM is left"
    );
    ensure_eq!(
        prune(ctx, old).await?,
        Pruned::new(1, 0, 1, 1, false),
        "and then nothing is"
    );
    Ok(())
}

async fn a_dry_run_counts_and_removes_nothing(ctx: &Ctx) -> CaseResult {
    ctx.each([job(1, Queued), job(1, Failed)]).await?;
    ctx.each([vm(1, "vm", VmState::Destroyed), vm(2, "vm", VmState::Failed)])
        .await?;
    let before = ctx.history().await?;
    let request = Prune::default().ended_before(at(1_000));
    let dry = prune(ctx, request.clone().dry_run(true)).await?;
    ensure_eq!(dry, Pruned::new(2, 1, 2, 4, false), "what would go");
    ensure_eq!(ctx.history().await?, before, "and nothing went");
    ensure_eq!(prune(ctx, request).await?, dry, "the same in earnest");
    ensure!(ctx.history().await?.is_empty(), "and now it is gone");
    Ok(())
}

async fn a_second_prune_finds_nothing(ctx: &Ctx) -> CaseResult {
    ctx.apply([ended(1, 1), ended(2, 2)]).await?;
    for request in [Prune::default().states([Failed]), Prune::default().ids([id(1)])] {
        prune(ctx, request.clone()).await?;
        ensure_eq!(
            prune(ctx, request).await?,
            Pruned::default(),
            "it is safe to be called again"
        );
    }
    Ok(())
}

async fn calls_along_more_remove_all(ctx: &Ctx) -> CaseResult {
    ctx.apply((1..=25).map(|n| ended(n, n as i64 / 3))).await?;
    let mut removed = 0;
    for calls in 1.. {
        let pruned = prune(ctx, Prune::default().states([Failed]).limit(10)).await?;
        removed += pruned.requests;
        if !pruned.more {
            ensure_eq!((calls, removed), (3, 25), "ten, ten and five");
            break;
        }
        ensure!(calls < 3, "bounded: a loop along `more` ends");
    }
    ensure_eq!(left(ctx).await?, [0; 0], "nothing is left");
    Ok(())
}

async fn a_pruned_job_starts_anew(ctx: &Ctx) -> CaseResult {
    ctx.each([
        job(1, Queued).repo_url("https://example.org/a"),
        job(1, Failed).attempt(3),
    ])
    .await?;
    ctx.one(vm(1, "vm", VmState::Destroyed).attempt(2)).await?;
    prune(ctx, Prune::default().ids([id(1)])).await?;
    ensure_eq!(
        ctx.one(job(1, Running)).await?,
        CREATED,
        "an update that comes later makes a new row"
    );
    let row = ctx.job(id(1)).await?;
    ensure_eq!(
        (row.state, row.attempt.get(), row.repo_url),
        (Running, 1, None),
        "with what it says and no more"
    );
    ensure_eq!(
        ctx.one(vm(1, "vm", VmState::Running)).await?,
        CREATED,
        "its VMs likewise"
    );
    ensure_eq!(
        ctx.history().await?.len(),
        2,
        "nothing of the old history is back"
    );
    Ok(())
}

async fn a_replayed_update_of_a_pruned_job_is_applied(ctx: &Ctx) -> CaseResult {
    let update = job(1, Failed).reason("first life");
    ctx.one(update.clone()).await?;
    prune(ctx, Prune::default().ids([id(1)])).await?;
    ensure_eq!(ctx.one(update).await?, CREATED, "nobody remembers the slot");
    ensure_eq!(
        ctx.history().await?[0].reason.as_deref(),
        Some("first life"),
        "and it holds what it says"
    );
    Ok(())
}

async fn an_empty_store_has_nothing_to_prune(ctx: &Ctx) -> CaseResult {
    for dry_run in [true, false] {
        for request in [
            Prune::default().states([Failed]),
            Prune::default().ids([id(1)]),
            Prune::default().ended_before(at(0)),
            Prune::default().keep_per_repo(1),
        ] {
            let pruned = prune(ctx, request.dry_run(dry_run)).await?;
            ensure_eq!(
                pruned,
                Pruned::default(),
                "no request, no row, no slot, and no more"
            );
        }
    }
    Ok(())
}

async fn a_request_without_a_condition_is_refused(ctx: &Ctx) -> CaseResult {
    ctx.one(ended(1, 1)).await?;
    refused(ctx, Prune::default(), "prune").await?;
    refused(ctx, Prune::default().limit(5).dry_run(true), "prune").await
}

async fn a_live_state_without_ids_is_refused(ctx: &Ctx) -> CaseResult {
    ctx.one(ended(1, 1)).await?;
    for state in [Queued, Running] {
        refused(ctx, Prune::default().states([Failed, state]), "states").await?;
        refused(
            ctx,
            Prune::default().states([state]).ended_before(at(100)),
            "states",
        )
        .await?;
    }
    Ok(())
}

async fn a_limit_outside_of_its_range_is_refused(ctx: &Ctx) -> CaseResult {
    ctx.one(ended(1, 1)).await?;
    for limit in [0, LARGEST_PRUNE + 1, u32::MAX] {
        refused(ctx, Prune::default().states([Failed]).limit(limit), "limit").await?;
    }
    let pruned = prune(ctx, Prune::default().states([Failed]).limit(LARGEST_PRUNE)).await?;
    ensure_eq!(pruned.requests, 1, "the largest limit is taken");
    Ok(())
}

async fn too_many_ids_are_refused(ctx: &Ctx) -> CaseResult {
    ctx.one(ended(1, 1)).await?;
    refused(
        ctx,
        Prune::default().ids((0..=u64::from(LARGEST_PRUNE)).map(id)),
        "ids",
    )
    .await
}

async fn ten_thousand_ids_are_taken(ctx: &Ctx) -> CaseResult {
    ctx.apply((1..=3).map(|n| ended(n * 1_000, 1))).await?;
    let request = Prune::default()
        .ids((0..u64::from(LARGEST_PRUNE)).map(id))
        .limit(LARGEST_PRUNE);
    ensure_eq!(
        prune(ctx, request).await?,
        Pruned::new(3, 3, 0, 3, false),
        "and those that are there go"
    );
    Ok(())
}

/// Fails unless it is refused by this name and nothing went.
async fn refused(ctx: &Ctx, request: Prune, field: &str) -> CaseResult {
    let Err(error) = ctx.backend().prune(&request).await else {
        return Err(Stop::Failed(format!("this request is refused: {request:?}")));
    };
    let told = (error.kind(), error.context("field"));
    ensure_eq!(
        told,
        (ErrorKind::InvalidInput, Some(field)),
        "a bad request is the caller's to fix"
    );
    ensure_eq!(left(ctx).await?, [1], "and removes nothing");
    Ok(())
}
