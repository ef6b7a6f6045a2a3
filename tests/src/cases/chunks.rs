//! Batches that are longer than what one statement takes.

use persist_core::JobState::{Queued, Running, Succeeded};
use persist_core::{CHUNK, JobQuery, VmState, VmUpdate, limits};

use super::cases;
use crate::case::{CaseResult, Ctx, ensure, ensure_eq};
use crate::sample::{CREATED, MOVED, at, filled, id, job, late, unchanged};
use crate::walk;

cases! { "batches":
    a_slot_may_be_repeated_more_often_than_a_chunk_is_long,
    every_size_around_a_chunk_is_taken,
    a_slot_that_comes_again_in_a_later_chunk_is_known,
    the_largest_updates_fit_into_a_batch,
    i9_a_hundred_thousand_updates_are_one_batch,
}

async fn a_slot_may_be_repeated_more_often_than_a_chunk_is_long(ctx: &Ctx) -> CaseResult {
    let outcomes = ctx.apply(vec![job(1, Queued); CHUNK + 100]).await?;
    ensure_eq!(outcomes[0], CREATED, "the first claims");
    let rest = outcomes[1..]
        .iter()
        .all(|outcome| *outcome == unchanged(Queued, 1));
    ensure!(rest, "all others find it held");
    ensure_eq!(ctx.history().await?.len(), 1, "one slot");
    Ok(())
}

async fn every_size_around_a_chunk_is_taken(ctx: &Ctx) -> CaseResult {
    let mut first = 0;
    for size in [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1] {
        let batch: Vec<_> = (0..size as u64).map(|n| job(first + n, Queued)).collect();
        first += size as u64;
        let outcomes = ctx.apply(batch).await?;
        ensure!(
            outcomes.iter().all(|outcome| *outcome == CREATED),
            "{size} jobs in one batch are all made"
        );
    }
    let query = JobQuery::default().limit(limits::LARGEST_PAGE);
    ensure_eq!(
        walk::jobs(ctx.backend(), query).await?.len() as u64,
        first,
        "and all are there"
    );
    Ok(())
}

async fn a_slot_that_comes_again_in_a_later_chunk_is_known(ctx: &Ctx) -> CaseResult {
    let mut batch: Vec<_> = (0..2 * CHUNK as u64).map(|n| job(n, Running)).collect();
    batch.extend([
        job(0, Running),
        job(1, Queued),
        job(2, Running).reason("again"),
        job(3, Succeeded),
    ]);
    let outcomes = ctx.apply(batch).await?;
    let expected = [unchanged(Running, 1), late(Running, 1), filled(Running, 1), MOVED];
    ensure_eq!(
        outcomes[2 * CHUNK..],
        expected,
        "chunks are no boundary for what an outcome tells"
    );
    Ok(())
}

async fn the_largest_updates_fit_into_a_batch(ctx: &Ctx) -> CaseResult {
    let path = "p".repeat(limits::PATH_BYTES);
    let large = |n: u64| {
        let name = format!("{n:0>width$}", width = limits::DOMAIN_NAME_BYTES);
        let update = VmUpdate::new(id(n), name, VmState::Prepared)
            .at(at(0))
            .backend("b".repeat(limits::BACKEND_BYTES));
        let update = update.overlay_path(path.clone()).seed_path(path.clone());
        update
            .actor("a".repeat(limits::ACTOR_BYTES))
            .reason("r".repeat(limits::REASON_BYTES))
    };
    let outcomes = ctx.apply((0..CHUNK as u64 + 1).map(large)).await?;
    ensure!(
        outcomes.iter().all(|outcome| *outcome == CREATED),
        "a chunk of the largest updates is stored"
    );
    let found = walk::vms(ctx.backend(), persist_core::VmQuery::default().limit(1_000)).await?;
    let whole = found
        .iter()
        .all(|vm| vm.seed_path.as_deref() == Some(path.as_str()));
    ensure!(
        found.len() == CHUNK + 1 && whole,
        "and comes back whole in one page"
    );
    Ok(())
}

async fn i9_a_hundred_thousand_updates_are_one_batch(ctx: &Ctx) -> CaseResult {
    // The walk over all of them would double the time of the longest case.
    ctx.leave_fold_unchecked();
    const JOBS: u64 = 50_000;
    let batch = (0..JOBS).flat_map(|n| [job(n, Queued).reason("push"), job(n, Running)]);
    let outcomes = ctx.apply(batch).await?;
    let told = outcomes.chunks(2).all(|pair| *pair == [CREATED, MOVED]);
    ensure!(told, "any size is accepted, and every outcome is at its place");
    let last = ctx.job(id(JOBS - 1)).await?;
    ensure_eq!(
        (last.state, last.updated_at),
        (Running, at(10)),
        "the last of them is there"
    );
    let slots = ctx.history_of(id(JOBS / 2)).await?.len();
    ensure_eq!(slots, 2, "and the history of one in the middle");
    Ok(())
}
