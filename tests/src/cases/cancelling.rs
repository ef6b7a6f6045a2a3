//! Futures that are dropped while they wait. T1 of the table of failures.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use persist_core::JobState::{Failed, Queued, Running};
use persist_core::{EventQuery, JobQuery, Outcome, PersistBackend, Prune, VmKey, VmQuery, VmState};

use super::cases;
use crate::case::{CaseResult, Ctx, ensure, ensure_eq};
use crate::polls::ended_within;
use crate::sample::{claims, id, job, vm};

cases! { "cancelling":
    t1_an_apply_dropped_at_every_await_is_whole_or_absent,
    t1_any_call_dropped_at_every_await_leaves_a_usable_backend,
    t1_many_dropped_calls_use_nothing_up,
    t1_a_dropped_call_does_not_take_others_along,
}

/// More awaits than any call has.
const MOST_POLLS: u32 = 1_000;

async fn t1_an_apply_dropped_at_every_await_is_whole_or_absent(ctx: &Ctx) -> CaseResult {
    for polls in 1..MOST_POLLS {
        let n = u64::from(polls);
        let update = || [job(n, Running).runs_on("large")];
        let claim = claims(update())?;
        let ended = ended_within(polls, ctx.backend().apply(&claim)).await.is_some();
        // What was dropped may still be on its way: the outcome tells, and is one of two.
        let outcome = ctx.apply(update()).await?[0];
        let whole = matches!(
            outcome,
            Outcome::Applied { created: true } | Outcome::Unchanged { .. }
        );
        ensure!(
            whole,
            "after {polls} polls the update has happened whole or not at all: {outcome:?}"
        );
        ensure_eq!(
            ctx.job(id(n)).await?.runs_on.as_deref(),
            Some("large"),
            "row and slot together"
        );
        ensure_eq!(ctx.history_of(id(n)).await?.len(), 1, "and once");
        if ended {
            return Ok(());
        }
    }
    Err("bounded: an apply ends after some polls".into())
}

type Call = fn(Arc<dyn PersistBackend>) -> BoxFuture<'static, ()>;

/// Every call that waits for the store, each on job 1.
const CALLS: [(&str, Call); 7] = [
    ("job", |backend| {
        Box::pin(async move { drop(backend.job(id(1)).await) })
    }),
    ("vm", |backend| {
        Box::pin(async move { drop(backend.vm(&VmKey::new(id(1), "vm")).await) })
    }),
    ("jobs", |backend| {
        Box::pin(async move { drop(backend.jobs(&JobQuery::default()).await) })
    }),
    ("vms", |backend| {
        Box::pin(async move { drop(backend.vms(&VmQuery::default()).await) })
    }),
    ("events", |backend| {
        Box::pin(async move { drop(backend.events(&EventQuery::default()).await) })
    }),
    ("prune", |backend| {
        Box::pin(async move { drop(backend.prune(&Prune::default().ids([id(2)])).await) })
    }),
    ("health", |backend| {
        Box::pin(async move { drop(backend.health().await) })
    }),
];

async fn t1_any_call_dropped_at_every_await_leaves_a_usable_backend(ctx: &Ctx) -> CaseResult {
    ctx.one(vm(1, "vm", VmState::Running)).await?;
    let mut attempt = 1;
    for (name, call) in CALLS {
        ctx.one(job(2, Queued)).await?;
        let mut polls = 1;
        while ended_within(polls, call(Arc::clone(ctx.backend())))
            .await
            .is_none()
        {
            polls += 1;
            ensure!(polls < MOST_POLLS, "bounded: {name} ends after some polls");
            // Above those of the calls before, which may have taken more polls.
            attempt += 1;
            ctx.one(job(1, Queued).attempt(attempt)).await?;
            ensure_eq!(
                ctx.job(id(1)).await?.attempt.get(),
                attempt,
                "usable after {name} was dropped"
            );
        }
        call(Arc::clone(ctx.backend())).await;
        ctx.vm(id(1), "vm").await?;
    }
    Ok(())
}

async fn t1_many_dropped_calls_use_nothing_up(ctx: &Ctx) -> CaseResult {
    // Far more than any pool has connections.
    for n in 0..200 {
        let claim = claims([job(n, Queued)])?;
        ended_within(1 + n as u32 % 3, ctx.backend().apply(&claim)).await;
        ended_within(1 + n as u32 % 3, ctx.backend().jobs(&JobQuery::default())).await;
    }
    let outcomes = ctx.apply((0..200).map(|n| job(n, Queued))).await?;
    let told = outcomes
        .iter()
        .all(|it| matches!(it, Outcome::Applied { created: true } | Outcome::Unchanged { .. }));
    ensure!(told, "the backend is as it was, and each update is there once");
    ensure_eq!(ctx.history().await?.len(), 200, "one slot each");
    Ok(())
}

async fn t1_a_dropped_call_does_not_take_others_along(ctx: &Ctx) -> CaseResult {
    for round in 0..20 {
        let backend = Arc::clone(ctx.backend());
        let staying = tokio::spawn(async move {
            let claims = claims([job(round, Queued), job(round, Failed)])?;
            backend.apply(&claims).await
        });
        let claim = claims([job(1_000 + round, Queued)])?;
        ended_within(1 + round as u32 % 4, ctx.backend().apply(&claim)).await;
        ensure_eq!(
            staying.await??.len(),
            2,
            "who waits beside a call that was dropped gets an answer"
        );
    }
    Ok(())
}
