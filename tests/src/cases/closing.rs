//! After `close`, and while it is closing.

use std::sync::Arc;

use futures_util::future::join_all;
use persist_core::JobState::{Failed, Queued, Running};
use persist_core::{
    ChangeQuery, ErrorKind, EventOrder, EventQuery, JobQuery, PersistBackend, Prune, Result, VmKey, VmQuery,
    VmState,
};

use super::cases;
use crate::case::{CaseResult, Ctx, Stop, ensure, ensure_eq, export, fold_holds};
use crate::sample::{claims, day, id, job, vm};
use crate::walk;

cases! { "closing":
    every_call_after_close_is_closed,
    a_wrong_call_after_close_is_closed,
    closing_twice_is_fine,
    many_may_close_at_once,
    what_was_accepted_is_finished,
    a_read_beside_close_is_whole_or_closed,
    another_handle_lives_on,
    the_content_survives_its_handles,
    the_identity_survives_its_handles,
    what_is_acknowledged_is_there_after_reopening,
}

/// Fails unless it is the error of a closed handle.
fn closed<T>(answer: Result<T>, what: &str) -> CaseResult {
    match answer {
        Ok(_) => Err(Stop::Failed(format!("{what} after close is an error"))),
        Err(error) => {
            ensure_eq!(error.kind(), ErrorKind::Closed, "{what} after close is closed");
            Ok(())
        }
    }
}

async fn every_call_after_close_is_closed(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Queued)).await?;
    ctx.one(vm(1, "vm", VmState::Running)).await?;
    let backend = ctx.backend();
    backend.close().await?;
    closed(backend.apply(&claims([job(1, Running)])?).await, "apply")?;
    closed(backend.apply(&[]).await, "apply of nothing")?;
    closed(backend.job(id(1)).await, "job")?;
    closed(backend.vm(&VmKey::new(id(1), "vm")).await, "vm")?;
    closed(backend.jobs(&JobQuery::default()).await, "jobs")?;
    closed(backend.vms(&VmQuery::default()).await, "vms")?;
    for order in [EventOrder::ByKey, EventOrder::BySeq] {
        closed(
            backend.events(&EventQuery::default().order(order)).await,
            "events",
        )?;
    }
    closed(backend.prune(&Prune::default().ids([id(1)])).await, "prune")?;
    closed(backend.health().await, "health")?;
    if let Some(changes) = backend.changes() {
        closed(changes.now().await, "now")?;
        closed(changes.since(&ChangeQuery::default()).await, "changes")?;
    }
    if let Some(schema) = backend.schema() {
        closed(schema.status().await, "status of the schema")?;
        closed(schema.check().await, "check of the schema")?;
        closed(schema.up().await, "up of the schema")?;
    }
    ensure!(!backend.name().is_empty(), "only the name is told");
    Ok(())
}

async fn a_wrong_call_after_close_is_closed(ctx: &Ctx) -> CaseResult {
    let backend = ctx.backend();
    backend.close().await?;
    closed(
        backend.jobs(&JobQuery::default().limit(0)).await,
        "a bad list of jobs",
    )?;
    closed(
        backend.vms(&VmQuery::default().limit(0)).await,
        "a bad list of VMs",
    )?;
    closed(
        backend.events(&EventQuery::default().limit(0)).await,
        "a bad page of the history",
    )?;
    if let Some(changes) = backend.changes() {
        closed(
            changes.since(&ChangeQuery::default().limit(0)).await,
            "bad changes",
        )?;
    }
    closed(backend.prune(&Prune::default()).await, "a bad prune")?;
    closed(backend.vm(&VmKey::new(id(1), "\0")).await, "a bad key")
}

async fn closing_twice_is_fine(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Queued)).await?;
    for _ in 0..3 {
        ctx.backend().close().await?;
    }
    closed(ctx.backend().job(id(1)).await, "job")
}

async fn many_may_close_at_once(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Queued)).await?;
    let closing = (0..16).map(|_| {
        let backend = Arc::clone(ctx.backend());
        tokio::spawn(async move { backend.close().await })
    });
    for one in join_all(closing).await {
        one??;
    }
    closed(ctx.backend().health().await, "health")
}

/// Starts so many writers and closes while they write; the jobs that were acknowledged.
async fn close_beside_writers(backend: &Arc<dyn PersistBackend>, writers: u64) -> CaseResult<Vec<u64>> {
    let (begun, mut first) = tokio::sync::mpsc::channel(1);
    let writing = (0..writers).map(|n| {
        let (backend, begun) = (Arc::clone(backend), begun.clone());
        tokio::spawn(async move {
            let claims = claims([job(n, Queued), job(n, Running), job(n, Failed)])?;
            let call = backend.apply(&claims);
            // Whether it is heard does not matter.
            let _ = begun.try_send(());
            call.await.map(|_| n)
        })
    });
    let writing: Vec<_> = writing.collect();
    first.recv().await;
    backend.close().await?;
    let mut acknowledged = Vec::new();
    for one in join_all(writing).await {
        match one? {
            Ok(n) => acknowledged.push(n),
            Err(error) => ensure_eq!(
                error.kind(),
                ErrorKind::Closed,
                "accepted and finished, or closed: {error}"
            ),
        }
    }
    Ok(acknowledged)
}

async fn what_was_accepted_is_finished(ctx: &Ctx) -> CaseResult {
    let other = ctx.another().await?;
    let acknowledged = close_beside_writers(ctx.backend(), 64).await?;
    for n in acknowledged {
        let state = other.job(id(n)).await?.map(|row| row.state);
        ensure_eq!(state, Some(Failed), "what was acknowledged beside close is there");
    }
    fold_holds(&other).await?;
    other.close().await?;
    Ok(())
}

async fn a_read_beside_close_is_whole_or_closed(ctx: &Ctx) -> CaseResult {
    ctx.apply((0..100).map(|n| job(n, Queued))).await?;
    let reading = (0..32).map(|_| {
        let backend = Arc::clone(ctx.backend());
        tokio::spawn(async move { backend.jobs(&JobQuery::default().limit(100)).await })
    });
    let reading: Vec<_> = reading.collect();
    tokio::task::yield_now().await;
    ctx.backend().close().await?;
    for one in join_all(reading).await {
        match one? {
            Ok(page) => ensure_eq!(page.items.len(), 100, "never an empty answer for could not read"),
            Err(error) => ensure_eq!(error.kind(), ErrorKind::Closed, "whole, or closed: {error}"),
        }
    }
    Ok(())
}

async fn another_handle_lives_on(ctx: &Ctx) -> CaseResult {
    let other = ctx.another().await?;
    ctx.one(job(1, Queued)).await?;
    ctx.backend().close().await?;
    ensure_eq!(
        other.apply(&claims([job(1, Running)])?).await?.len(),
        1,
        "it writes"
    );
    let state = other.job(id(1)).await?.map(|row| row.state);
    ensure_eq!(state, Some(Running), "and reads what both wrote");
    fold_holds(&other).await?;
    closed(ctx.backend().job(id(1)).await, "job on the closed one")?;
    other.close().await?;
    Ok(())
}

async fn the_content_survives_its_handles(ctx: &Ctx) -> CaseResult {
    ctx.needs_lasting()?;
    ctx.apply(day(70, 60)).await?;
    ctx.one(vm(7, "ü \u{1b}[31m'\"", VmState::Failed)).await?;
    let rows = walk::jobs(ctx.backend(), JobQuery::default()).await?;
    let (lines, history) = (ctx.export().await?, ctx.history().await?);
    ctx.backend().close().await?;
    let reopened = ctx.another().await?;
    ensure_eq!(export(&reopened).await?, lines, "every slot is there");
    let found = walk::events(&reopened, EventQuery::default().limit(1_000)).await?;
    ensure_eq!(found, history, "with the numbers and times that the store gave");
    ensure_eq!(
        walk::jobs(&reopened, JobQuery::default()).await?,
        rows,
        "and every row"
    );
    fold_holds(&reopened).await?;
    reopened.close().await?;
    Ok(())
}

async fn the_identity_survives_its_handles(ctx: &Ctx) -> CaseResult {
    ctx.needs_lasting()?;
    ctx.each([job(1, Queued), job(2, Queued)]).await?;
    let query = EventQuery::default().order(EventOrder::BySeq).limit(1);
    let first = ctx.backend().events(&query).await?;
    let before = ctx.backend().health().await?.instance_id;
    ctx.backend().close().await?;
    let reopened = ctx.another().await?;
    ensure_eq!(
        reopened.health().await?.instance_id,
        before,
        "it is the same store"
    );
    let rest = reopened.events(&query.after(first.next)).await?;
    ensure_eq!(rest.items.len(), 1, "so cursors by sequence go on");
    reopened.close().await?;
    Ok(())
}

async fn what_is_acknowledged_is_there_after_reopening(ctx: &Ctx) -> CaseResult {
    ctx.needs_lasting()?;
    let acknowledged = close_beside_writers(ctx.backend(), 64).await?;
    let reopened = ctx.another().await?;
    for n in acknowledged {
        let state = reopened.job(id(n)).await?.map(|row| row.state);
        ensure_eq!(
            state,
            Some(Failed),
            "an acknowledged update outlives every handle"
        );
    }
    fold_holds(&reopened).await?;
    reopened.close().await?;
    Ok(())
}
