//! What names a slot: attempts and ids.

use persist_core::JobState::Queued;
use persist_core::{Attempt, ErrorKind, JobQuery, JobUpdate, VmState, VmUpdate};

use super::cases;
use super::limits::refusal;
use crate::case::{CaseResult, Ctx, ensure, ensure_eq};
use crate::sample::{at, id, job, vm};

cases! { "limits":
    i7_an_attempt_is_one_to_two_to_the_31,
    the_default_attempt_is_the_first,
    the_nil_id_is_refused,
    any_other_id_is_taken,
}

async fn i7_an_attempt_is_one_to_two_to_the_31(ctx: &Ctx) -> CaseResult {
    const MAX: u32 = 2_147_483_647;
    for attempt in [1, 2, MAX - 1, MAX] {
        ctx.one(job(1, Queued).attempt(attempt)).await?;
        ensure_eq!(ctx.job(id(1)).await?.attempt.get(), attempt, "stored exactly");
        ctx.one(vm(1, "vm", VmState::Destroyed).attempt(attempt)).await?;
        ensure_eq!(ctx.vm(id(1), "vm").await?.attempt.get(), attempt, "a VM's too");
    }
    let found: Vec<_> = ctx
        .history()
        .await?
        .iter()
        .map(|event| event.attempt().get())
        .collect();
    ensure_eq!(
        found,
        [1, 2, MAX - 1, MAX].repeat(2),
        "and in the history, in order"
    );
    for wrong in [0, MAX + 1, u32::MAX] {
        for error in [
            refusal(job(1, Queued).attempt(wrong))?,
            refusal(vm(1, "vm", VmState::Running).attempt(wrong))?,
        ] {
            let told = (error.kind(), error.context("field"));
            ensure_eq!(
                told,
                (ErrorKind::InvalidInput, Some("attempt")),
                "{wrong} is refused"
            );
        }
    }
    Ok(())
}

async fn the_default_attempt_is_the_first(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Queued)).await?;
    ensure_eq!(
        ctx.job(id(1)).await?.attempt,
        Attempt::FIRST,
        "attempt 1 unless said otherwise"
    );
    let said = ctx.one(job(1, Queued).attempt(1)).await?;
    ensure_eq!(
        said,
        crate::sample::unchanged(Queued, 1),
        "which is the same slot when it is said"
    );
    Ok(())
}

async fn the_nil_id_is_refused(ctx: &Ctx) -> CaseResult {
    let nil = uuid::Uuid::nil();
    for error in [
        refusal(JobUpdate::new(nil, Queued))?,
        refusal(VmUpdate::new(nil, "vm", VmState::Running))?,
    ] {
        let told = (error.kind(), error.context("field"));
        ensure_eq!(
            told,
            (ErrorKind::InvalidInput, Some("request_id")),
            "nil is what a forgotten id looks like"
        );
    }
    ensure!(ctx.backend().job(nil).await?.is_none(), "and no job has it");
    Ok(())
}

async fn any_other_id_is_taken(ctx: &Ctx) -> CaseResult {
    let ids = [
        "00000000-0000-0000-0000-000000000001",
        "7fffffff-ffff-1fff-8fff-ffffffffffff",
        "80000000-0000-4000-8000-000000000000",
        "c232ab00-9414-11ec-b3c8-9f6bdeced846",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
    ];
    let ids = ids.map(|text| text.parse::<uuid::Uuid>().expect("these are ids"));
    ctx.apply(ids.map(|id| JobUpdate::new(id, Queued).at(at(0))))
        .await?;
    let rows = crate::walk::jobs(
        ctx.backend(),
        JobQuery::default().order(persist_core::Order::ById),
    )
    .await?;
    let found: Vec<_> = rows.iter().map(|row| row.request_id).collect();
    ensure_eq!(
        found,
        ids,
        "any version is taken, and ids are ordered by their bytes, unsigned"
    );
    for id in ids {
        ensure_eq!(ctx.job(id).await?.request_id, id, "each is read by its id");
    }
    Ok(())
}
