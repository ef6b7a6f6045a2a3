//! Retention in parts: each call goes on where the one before it ended.

use persist_core::JobState::{Failed, Running, Succeeded};
use persist_core::{Cursor, ErrorKind, JobQuery, JobUpdate, Prune, Pruned, VmState};

use super::cases;
use super::prune::{ended, left};
use crate::case::{CaseResult, Ctx, Stop, ensure, ensure_eq};
use crate::sample::{at, id, job, vm};

cases! { "prune":
    a_walk_removes_all_that_matched_throughout,
    a_walk_goes_on_where_it_ended,
    a_walk_passes_what_stays,
    a_dry_walk_counts_each_once,
    a_walk_along_ids_takes_each_once,
    with_a_number_to_keep_it_goes_repository_by_repository,
    a_walk_by_repository_goes_on_where_it_ended,
    many_small_repositories_are_walked,
    a_place_whose_job_is_gone_is_as_good,
    a_place_of_another_order_is_refused,
    a_damaged_place_is_refused,
}

/// The next part.
async fn part(ctx: &Ctx, request: &mut Prune) -> CaseResult<Pruned> {
    let pruned = ctx.backend().prune(request).await?;
    request.after.clone_from(&pruned.next);
    ensure_eq!(
        pruned.next.is_some(),
        pruned.more,
        "there is a place to go on from exactly where there is more"
    );
    Ok(pruned)
}

/// All parts, and how many there were.
async fn walk(ctx: &Ctx, mut request: Prune) -> CaseResult<(Pruned, u32)> {
    let (mut all, mut parts) = (Pruned::default(), 0);
    loop {
        all += part(ctx, &mut request).await?;
        parts += 1;
        ensure!(parts < 1_000, "bounded: a walk ends");
        if !all.more {
            return Ok((all, parts));
        }
    }
}

/// An ended job of a repository.
fn of(n: u64, repo: &str, seconds: i64) -> JobUpdate {
    ended(n, seconds).repo_url(format!("https://example.org/{repo}"))
}

async fn a_walk_removes_all_that_matched_throughout(ctx: &Ctx) -> CaseResult {
    // Of one time and of several, with VMs that have no job among them.
    ctx.apply((1..=25).map(|n| ended(n, n as i64 / 3))).await?;
    ctx.apply((26..=40).map(|n| vm(n, "vm", VmState::Failed).at(at(n as i64 / 4))))
        .await?;
    ctx.one(job(50, Running)).await?;
    let (pruned, parts) = walk(ctx, Prune::default().ended_before(at(100)).limit(7)).await?;
    ensure_eq!(
        (pruned, parts),
        (Pruned::new(40, 25, 15, 40, false), 6),
        "seven at a time"
    );
    ensure_eq!(left(ctx).await?, [50], "only the live one is left");
    Ok(())
}

async fn a_walk_goes_on_where_it_ended(ctx: &Ctx) -> CaseResult {
    ctx.apply((1..=4).map(|n| ended(n, n as i64 * 10))).await?;
    let mut request = Prune::default().states([Failed]).limit(2);
    part(ctx, &mut request).await?;
    ctx.apply([ended(5, 15), ended(6, 35)]).await?;
    while request.after.is_some() {
        part(ctx, &mut request).await?;
    }
    ensure_eq!(
        left(ctx).await?,
        [5],
        "what came behind the place is for the next walk, what came before it for this one"
    );
    walk(ctx, Prune::default().states([Failed])).await?;
    ensure_eq!(left(ctx).await?, [0; 0], "which takes it");
    Ok(())
}

async fn a_walk_passes_what_stays(ctx: &Ctx) -> CaseResult {
    // Most of what it meets is live, younger, in another state, or has a VM that lives.
    for n in (0..60).step_by(6) {
        let seconds = n as i64;
        ctx.each([
            JobUpdate::new(id(n), Running).at(at(seconds)),
            ended(n + 1, seconds),
            JobUpdate::new(id(n + 2), Succeeded).at(at(seconds)),
            JobUpdate::new(id(n + 3), Failed).attempt(2).at(at(9_000)),
        ])
        .await?;
        ctx.each([
            JobUpdate::new(id(n + 3), Running).at(at(seconds)),
            ended(n + 4, seconds),
        ])
        .await?;
        ctx.each([
            vm(n + 4, "vm", VmState::Running).at(at(seconds)),
            vm(n + 5, "a", VmState::Failed).at(at(seconds)),
            vm(n + 5, "b", VmState::Running).at(at(seconds)),
        ])
        .await?;
    }
    let old = Prune::default().ended_before(at(1_000)).limit(3);
    let (pruned, _) = walk(ctx, old.clone().states([Failed])).await?;
    ensure_eq!(pruned.requests, 10, "the failed ones that are old and alone");
    let (pruned, _) = walk(ctx, old).await?;
    ensure_eq!(pruned.requests, 10, "and the succeeded ones");
    ensure_eq!(left(ctx).await?.len(), 30, "the others stay");
    Ok(())
}

async fn a_dry_walk_counts_each_once(ctx: &Ctx) -> CaseResult {
    ctx.apply((1..=11).map(|n| of(n, ["a", "b", "c"][n as usize % 3], n as i64)))
        .await?;
    ctx.apply((12..=14).map(|n| vm(n, "vm", VmState::Failed))).await?;
    let before = ctx.history().await?;
    for (request, requests) in [
        (Prune::default().ended_before(at(100)), 14),
        (Prune::default().states([Failed]), 11),
        (Prune::default().keep_per_repo(1), 8),
        (Prune::default().ids((1..=5).map(id)), 5),
    ] {
        for limit in [1, 2, 3, 100] {
            let dry = request.clone().limit(limit).dry_run(true);
            ensure_eq!(
                walk(ctx, dry).await?.0.requests,
                requests,
                "each that matches is counted once"
            );
        }
    }
    ensure_eq!(ctx.history().await?, before, "and nothing went");
    Ok(())
}

async fn a_walk_along_ids_takes_each_once(ctx: &Ctx) -> CaseResult {
    ctx.apply((1..=9).map(|n| ended(n, -(n as i64)))).await?;
    let named = Prune::default().ids((3..=20).map(id)).limit(3);
    let (pruned, parts) = walk(ctx, named).await?;
    ensure_eq!((pruned.requests, parts), (7, 3), "those that are there");
    ensure_eq!(left(ctx).await?, [1, 2], "and no others");
    Ok(())
}

async fn with_a_number_to_keep_it_goes_repository_by_repository(ctx: &Ctx) -> CaseResult {
    ctx.apply([
        of(1, "b", 1),
        of(2, "b", 3),
        of(3, "b", 5),
        of(4, "a", 20),
        of(5, "a", 10),
        of(6, "a", 30),
        ended(7, 0),
        ended(8, 2),
    ])
    .await?;
    let mut request = Prune::default().keep_per_repo(1).limit(1);
    for (expected, more) in [
        (vec![1, 2, 3, 4, 6, 7, 8], true),
        (vec![1, 2, 3, 6, 7, 8], true),
        (vec![2, 3, 6, 7, 8], true),
        (vec![3, 6, 7, 8], true),
        (vec![3, 6, 8], false),
    ] {
        let pruned = part(ctx, &mut request).await?;
        ensure_eq!(
            (left(ctx).await?, pruned.more),
            (expected, more),
            "by its name, then by age; those of no known one last"
        );
    }
    Ok(())
}

async fn a_walk_by_repository_goes_on_where_it_ended(ctx: &Ctx) -> CaseResult {
    ctx.apply((1..=4).map(|n| of(n, "b", n as i64 * 10))).await?;
    let mut request = Prune::default().keep_per_repo(1).limit(2);
    part(ctx, &mut request).await?;
    ctx.apply([
        of(5, "a", 10),
        of(6, "a", 20),
        of(7, "b", 15),
        of(8, "c", 1),
        of(9, "c", 2),
    ])
    .await?;
    while request.after.is_some() {
        part(ctx, &mut request).await?;
    }
    ensure_eq!(
        left(ctx).await?,
        [4, 5, 6, 7, 9],
        "a repository behind the place, and an older job of its own, are for the next walk"
    );
    walk(ctx, Prune::default().keep_per_repo(1)).await?;
    ensure_eq!(left(ctx).await?, [4, 6, 9], "which takes them");
    Ok(())
}

async fn many_small_repositories_are_walked(ctx: &Ctx) -> CaseResult {
    // More than are asked for at once, most of which have nothing to spare.
    let jobs = (0..600).flat_map(|n| {
        let repo = format!("{n:04}");
        let spare = (n % 100 == 99).then(|| of(n + 1_000, &repo, 5));
        [Some(of(n, &repo, 10)), spare].into_iter().flatten()
    });
    ctx.apply(jobs).await?;
    let (pruned, _) = walk(ctx, Prune::default().keep_per_repo(1).limit(4)).await?;
    ensure_eq!(pruned.requests, 6, "one of each hundredth");
    ensure_eq!(
        left(ctx).await?,
        (0..600).collect::<Vec<_>>(),
        "the newest of each stay"
    );
    Ok(())
}

async fn a_place_whose_job_is_gone_is_as_good(ctx: &Ctx) -> CaseResult {
    ctx.apply((1..=4).map(|n| of(n, "a", n as i64))).await?;
    let age = Prune::default().states([Failed]).limit(2).dry_run(true);
    let repo = Prune::default().keep_per_repo(0).limit(2).dry_run(true);
    for request in [age, repo] {
        let place = ctx.backend().prune(&request).await?.next;
        ctx.backend().prune(&Prune::default().ids([id(1), id(2)])).await?;
        let rest = ctx.backend().prune(&request.after(place)).await?;
        ensure_eq!((rest.requests, rest.more), (2, false), "it is a place and no row");
        ctx.apply([of(1, "a", 1), of(2, "a", 2)]).await?;
    }
    Ok(())
}

async fn a_place_of_another_order_is_refused(ctx: &Ctx) -> CaseResult {
    ctx.apply((1..=3).map(|n| of(n, "a", n as i64))).await?;
    let age = Prune::default().states([Failed]).limit(1).dry_run(true);
    let repo = Prune::default().keep_per_repo(1).limit(1).dry_run(true);
    let of_age = ctx.backend().prune(&age).await?.next;
    let of_repo = ctx.backend().prune(&repo).await?.next;
    let of_jobs = ctx.backend().jobs(&JobQuery::default().limit(1)).await?.next;
    for (request, place) in [
        (&age, &of_repo),
        (&repo, &of_age),
        (&age, &of_jobs),
        (&repo, &of_jobs),
    ] {
        ensure!(place.is_some(), "there is a place");
        refused(ctx, request.clone().after(place.clone())).await?;
    }
    // By name it goes by age, also where so many are kept.
    let named = repo.ids((1..=3).map(id));
    refused(ctx, named.clone().after(of_repo)).await?;
    ensure_eq!(
        ctx.backend().prune(&named.after(of_age)).await?.requests,
        1,
        "the second; the third is kept"
    );
    Ok(())
}

async fn a_damaged_place_is_refused(ctx: &Ctx) -> CaseResult {
    ctx.apply([ended(1, 1), ended(2, 2)]).await?;
    let request = Prune::default().states([Failed]).limit(1);
    for text in ["", "nonsense"] {
        refused(ctx, request.clone().after(Some(Cursor::from_text(text)))).await?;
    }
    ensure_eq!(left(ctx).await?, [1, 2], "and removes nothing");
    Ok(())
}

async fn refused(ctx: &Ctx, request: Prune) -> CaseResult {
    let Err(error) = ctx.backend().prune(&request).await else {
        return Err(Stop::Failed(format!("this place is refused: {request:?}")));
    };
    ensure_eq!(
        (error.kind(), error.context("field")),
        (ErrorKind::InvalidInput, Some("after")),
        "a bad place is the caller's to fix"
    );
    Ok(())
}
