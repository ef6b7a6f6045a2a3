//! Retention while others write. X6 of the table of failures.

use std::sync::Arc;

use futures_util::future::join_all;
use persist_core::JobState::{Failed, Queued, Running};
use persist_core::{Outcome, Prune, VmState};

use super::cases;
use crate::case::{CaseResult, Ctx, ensure, ensure_eq};
use crate::sample::{at, claims, id, job, vm};
use crate::soak;

cases! { "prune_beside_writers":
    x6_live_jobs_are_never_touched,
    x6_a_job_that_runs_again_is_whole_or_gone,
    x6_two_prunes_remove_each_job_once,
    x6_an_update_of_a_vanishing_job_is_answered,
}

async fn x6_live_jobs_are_never_touched(ctx: &Ctx) -> CaseResult {
    let backend = Arc::clone(ctx.backend());
    let writing = tokio::spawn(async move {
        for n in 0..120 {
            // Even ones live, odd ones end.
            let last = if n % 2 == 0 { Running } else { Failed };
            backend.apply(&claims([job(n, Queued), job(n, last)])?).await?;
            backend.apply(&claims([vm(n, "vm", VmState::Destroyed)])?).await?;
        }
        Ok::<_, persist_core::Error>(())
    });
    while !writing.is_finished() {
        // A store that never waits would keep the writer from its turn.
        tokio::task::yield_now().await;
        ctx.backend()
            .prune(&Prune::default().ended_before(at(10_000)).limit(7))
            .await?;
    }
    writing.await??;
    for n in (0..120).step_by(2) {
        ensure_eq!(
            ctx.job(id(n)).await?.state,
            Running,
            "live rows are never touched"
        );
        ensure_eq!(
            ctx.history_of(id(n)).await?.len(),
            3,
            "nor is their history, nor their VMs"
        );
    }
    ctx.fold_holds().await
}

async fn x6_a_job_that_runs_again_is_whole_or_gone(ctx: &Ctx) -> CaseResult {
    for round in 0..40 {
        ctx.apply([job(round, Queued), job(round, Failed)]).await?;
        let backend = Arc::clone(ctx.backend());
        let again =
            tokio::spawn(async move { backend.apply(&claims([job(round, Queued).attempt(2)])?).await });
        let pruned = ctx.backend().prune(&Prune::default().states([Failed])).await?;
        let outcome = again.await??[0];
        let expected = match outcome {
            // It came first and lives: nothing may be gone.
            Outcome::Applied { created: false } => (0, 3),
            // The old life went first: only the new one is there.
            _ => (1, 1),
        };
        let found = (pruned.requests, ctx.history_of(id(round)).await?.len());
        ensure_eq!(
            found,
            expected,
            "a job that runs again is whole, or begins anew: {outcome:?}"
        );
        ensure_eq!(
            ctx.job(id(round)).await?.attempt.get(),
            2,
            "and its new run is never lost"
        );
    }
    Ok(())
}

async fn x6_two_prunes_remove_each_job_once(ctx: &Ctx) -> CaseResult {
    ctx.apply((0..200).flat_map(|n| [job(n, Queued), job(n, Failed)]))
        .await?;
    let prunes = (0..4).map(|_| {
        let backend = Arc::clone(ctx.backend());
        tokio::spawn(async move {
            let (mut requests, mut events) = (0, 0);
            loop {
                let pruned = backend
                    .prune(&Prune::default().states([Failed]).limit(13))
                    .await?;
                (requests, events) = (requests + pruned.requests, events + pruned.events);
                if !pruned.more {
                    return Ok::<_, persist_core::Error>((requests, events));
                }
            }
        })
    });
    let (mut requests, mut events) = (0, 0);
    for one in join_all(prunes).await {
        let (of_one, slots) = one??;
        (requests, events) = (requests + of_one, events + slots);
    }
    ensure_eq!((requests, events), (200, 400), "what one removed no other counts");
    ensure!(ctx.history().await?.is_empty(), "and all went");
    Ok(())
}

async fn x6_an_update_of_a_vanishing_job_is_answered(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Failed)).await?;
    let backend = Arc::clone(ctx.backend());
    let writing = tokio::spawn(async move {
        for round in 0..soak::or(10, 40) {
            // Repeated, filling and refused ones: each looks at a slot that may go under it.
            let reason = format!("round {round}");
            let updates = [
                job(1, Failed),
                job(1, Failed).reason(reason),
                job(1, persist_core::JobState::Succeeded),
            ];
            let outcomes = backend.apply(&claims(updates)?).await?;
            if outcomes.len() != 3 {
                return Ok(false);
            }
        }
        Ok::<_, persist_core::Error>(true)
    });
    while !writing.is_finished() {
        // A store that never waits would keep the writer from its turn.
        tokio::task::yield_now().await;
        ctx.backend().prune(&Prune::default().ids([id(1)])).await?;
    }
    ensure!(
        writing.await??,
        "a writer whose slot vanished starts its claim again, and gets an answer"
    );
    Ok(())
}
