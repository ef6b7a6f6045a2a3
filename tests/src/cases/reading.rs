//! What is read while others write.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use persist_core::JobState::{Failed, Queued, Running, Succeeded};
use persist_core::{JobUpdate, PersistBackend, Rank, Result, StateTable as _, VmState, merge};

use super::cases;
use super::concurrency::{apply, two_handles};
use crate::case::{CaseResult, Ctx, ensure, ensure_eq};
use crate::sample::{CREATED, MOVED, at, claims, id, job, vm};

cases! { "concurrency":
    a_row_is_never_seen_without_its_slot,
    a_row_is_never_seen_half_moved,
    each_writer_reads_its_own_writes,
    a_handle_reads_what_another_wrote,
    each_of_many_readers_gets_its_own_row,
}

/// Readers at once: more than go by one statement.
const READERS: u64 = 300;

async fn a_row_is_never_seen_without_its_slot(ctx: &Ctx) -> CaseResult {
    let writing = climber(ctx.backend(), 60);
    while !writing.is_finished() {
        // A store that never waits would keep the writer from its turn.
        tokio::task::yield_now().await;
        // The row first: by the time the history is read it can only have grown.
        let row = ctx.backend().job(id(1)).await?;
        let history = ctx.history_of(id(1)).await?;
        if let Some(row) = row {
            let slot = history
                .iter()
                .find(|slot| slot.attempt() == row.attempt && slot.state == row.state.into());
            ensure!(
                slot.is_some(),
                "a slot and its effect on the row commit together: {row:?}"
            );
        }
        // And the other way round: a slot that was seen has moved the row.
        let top = merge::fold(&history.iter().map(persist_core::Event::slot).collect::<Vec<_>>());
        if let (Some(top), Some(row)) = (top, ctx.backend().job(id(1)).await?) {
            let rank = Rank::new(row.attempt, row.state.phase());
            ensure!(
                rank >= top.rank,
                "the row is at least as far as the history was: {row:?}"
            );
        }
    }
    writing.await??;
    Ok(())
}

async fn a_row_is_never_seen_half_moved(ctx: &Ctx) -> CaseResult {
    let writing = climber(ctx.backend(), 100);
    while !writing.is_finished() {
        tokio::task::yield_now().await;
        let Some(row) = ctx.backend().job(id(1)).await? else {
            continue;
        };
        let attempt = row.attempt.get();
        ensure_eq!(
            row.runs_on,
            Some(attempt.to_string()),
            "state and attributes move together"
        );
        let seconds = i64::from(attempt) * 10 + i64::from(row.state == Failed);
        ensure_eq!(row.updated_at, at(seconds), "and so do the times");
    }
    writing.await??;
    Ok(())
}

async fn each_writer_reads_its_own_writes(ctx: &Ctx) -> CaseResult {
    let writers = (0..16_u64).map(|writer| {
        let backend = Arc::clone(ctx.backend());
        tokio::spawn(async move {
            let query = persist_core::JobQuery::default()
                .ids(persist_core::IdRange::new(Some(id(writer)), Some(id(writer))));
            for attempt in 1..=8 {
                for state in [Running, Succeeded] {
                    apply(&backend, [job(writer, state).attempt(attempt)]).await?;
                    let (row, page) = (backend.job(id(writer)).await?, backend.jobs(&query).await?);
                    let current =
                        |row: &persist_core::Job| (row.state, row.attempt.get()) == (state, attempt);
                    ensure!(
                        row.as_ref().is_some_and(current),
                        "what was acknowledged is read: {row:?}"
                    );
                    ensure!(
                        page.items.first().is_some_and(current),
                        "and is in the list: {page:?}"
                    );
                }
            }
            CaseResult::Ok(())
        })
    });
    for writer in join_all(writers).await {
        writer??;
    }
    Ok(())
}

async fn a_handle_reads_what_another_wrote(ctx: &Ctx) -> CaseResult {
    let [mine, other] = two_handles(ctx).await?;
    let outcomes = [
        apply(&mine, [job(1, Queued)]).await?,
        apply(&other, [job(1, Running)]).await?,
        apply(&mine, [job(1, Succeeded)]).await?,
    ];
    ensure_eq!(
        outcomes.concat(),
        [CREATED, MOVED, MOVED],
        "two handles write one row"
    );
    let row = other.job(id(1)).await?.map(|row| row.state);
    ensure_eq!(row, Some(Succeeded), "what is acknowledged is there for everyone");
    let tasks = (0..10).map(|n| {
        let (mine, other) = (Arc::clone(&mine), Arc::clone(&other));
        async move {
            apply(&mine, [vm(n, "vm", VmState::Running)]).await?;
            other.vm(&persist_core::VmKey::new(id(n), "vm")).await
        }
    });
    let read: BTreeMap<_, _> = (0..).zip(try_join_all(tasks).await?).collect();
    ensure!(read.values().all(Option::is_some), "at once: {read:?}");
    ensure_eq!(
        apply(&other, [JobUpdate::new(id(1), Queued).at(at(0))])
            .await?
            .len(),
        1,
        "and back"
    );
    other.close().await?;
    Ok(())
}

async fn each_of_many_readers_gets_its_own_row(ctx: &Ctx) -> CaseResult {
    let (states, names) = ([Queued, Running, Failed], ["vm", "VM", "vm2"]);
    let jobs = (0..30).map(|n| job(n, states[n as usize % 3]).runs_on(format!("runner-{n}")));
    ctx.backend().apply(&claims(jobs)?).await?;
    // Not each job has each name, and no VM that of the last.
    let has = |n: u64, name: &str| {
        n < 30
            && names
                .iter()
                .zip(0..)
                .any(|(known, at)| *known == name && n % 3 >= at)
    };
    let vms = (0..30).flat_map(|n| names.map(|name| (n, name)));
    let vms = vms.filter(|(n, name)| has(*n, name));
    let vms = vms.map(|(n, name)| vm(n, name, VmState::Running).backend(format!("{n}-{name}")));
    ctx.backend().apply(&claims(vms)?).await?;
    let reads = (0..READERS).map(|reader| async move {
        // Some jobs are asked for by several, some are not there.
        let n = reader * 7 % 40;
        let row = ctx.backend().job(id(n)).await?;
        let read = row
            .as_ref()
            .map(|row| (row.request_id, row.state, row.runs_on.clone()));
        let wrote = (n < 30).then(|| (id(n), states[n as usize % 3], Some(format!("runner-{n}"))));
        ensure_eq!(read, wrote, "job {n}");
        for name in ["vm", "VM", "vm2", "vm 2", "v\0m", ""] {
            let key = persist_core::VmKey::new(id(n), name);
            let row = ctx.backend().vm(&key).await?;
            let read = row.map(|row| (row.key(), row.backend));
            let wrote = has(n, name).then(|| (key, Some(format!("{n}-{name}"))));
            ensure_eq!(read, wrote, "the VM {name:?} of job {n}");
        }
        CaseResult::Ok(())
    });
    try_join_all(reads).await?;
    Ok(())
}

/// Writes the states of many attempts of one job, with the attempt's number as label.
fn climber(backend: &Arc<dyn PersistBackend>, attempts: u32) -> tokio::task::JoinHandle<Result<()>> {
    let backend = Arc::clone(backend);
    tokio::spawn(async move {
        for attempt in 1..=attempts {
            for state in [Queued, Failed] {
                let seconds = i64::from(attempt) * 10 + i64::from(state == Failed);
                let update = job(1, state)
                    .attempt(attempt)
                    .at(at(seconds))
                    .runs_on(attempt.to_string());
                apply(&backend, [update]).await?;
            }
        }
        Ok(())
    })
}
