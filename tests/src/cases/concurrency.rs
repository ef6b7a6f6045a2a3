//! Many writers at once. The numbers are those of the table of failures.

use std::sync::Arc;

use futures_util::future::join_all;
use persist_core::JobState::{self, Cancelled, Failed, Lost, Queued, Running, Succeeded, TimedOut};
use persist_core::{Outcome, PersistBackend, Result, Update};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::Barrier;

use super::cases;
use crate::case::{CaseResult, Ctx, ensure, ensure_eq, fold_holds};
use crate::contention;
use crate::oracle::{memory, same_content};
use crate::sample::{CREATED, at, claims, day, id, job, shuffled};

cases! { "concurrency":
    x1_two_writers_of_two_endings_leave_one_and_tell_the_other,
    x1_two_handles_of_two_endings_leave_one_and_tell_the_other,
    x2_the_same_update_from_many_tasks_is_applied_once,
    x2_the_same_update_from_two_handles_is_applied_once,
    x3_forward_late_and_filling_updates_leave_the_fold,
    x3_two_handles_leave_the_fold,
    a_day_from_many_writers_is_the_same_day,
    a_row_is_made_once,
    a_blank_is_filled_once,
    different_blanks_of_one_slot_are_all_filled,
    batches_in_opposed_orders_all_end,
}

const TASKS: u64 = 32;
/// Of X1 and X2 on one handle; two handles contend for locks, and have fewer.
const ROUNDS: u64 = 1_000;
const REPORTED: [JobState; 4] = [Succeeded, Failed, Cancelled, TimedOut];

/// The first handle, and where there can be another, both.
pub(super) async fn two_handles(ctx: &Ctx) -> CaseResult<[Arc<dyn PersistBackend>; 2]> {
    Ok([Arc::clone(ctx.backend()), ctx.another().await?])
}

/// Runs tasks that meet at a barrier before each round; their answers, by task and round.
async fn rounds<F>(
    backends: &[Arc<dyn PersistBackend>],
    count: u64,
    say: impl Fn(u64, u64) -> F + Copy + Send + Sync + 'static,
) -> CaseResult<Vec<Vec<Outcome>>>
where
    F: Into<Update> + Send,
{
    let barrier = Arc::new(Barrier::new(TASKS as usize));
    let tasks = (0..TASKS).map(|task| {
        let (barrier, backend) = (
            Arc::clone(&barrier),
            Arc::clone(&backends[task as usize % backends.len()]),
        );
        tokio::spawn(async move {
            let mut outcomes = Vec::new();
            let mut failed = None;
            for round in 0..count {
                // Also after an error, or the others would wait for ever.
                barrier.wait().await;
                match apply(&backend, [say(task, round)]).await {
                    Ok(outcome) => outcomes.extend(outcome),
                    Err(error) => failed = Some(error),
                }
            }
            failed.map_or(Ok(outcomes), Err)
        })
    });
    let mut answers = Vec::new();
    for task in join_all(tasks).await {
        answers.push(task??);
    }
    Ok(answers)
}

pub(super) async fn apply<U: Into<Update>>(
    backend: &Arc<dyn PersistBackend>,
    updates: impl IntoIterator<Item = U>,
) -> Result<Vec<Outcome>> {
    backend.apply(&claims(updates)?).await
}

/// Every task reports an ending of its own, each round of another job.
async fn endings_exclude_each_other(
    ctx: &Ctx,
    backends: &[Arc<dyn PersistBackend>],
    count: u64,
) -> CaseResult {
    let ending = |task: u64, round: u64| REPORTED[((task + round) % 4) as usize];
    ctx.apply((0..count).map(|round| job(round, Running))).await?;
    let answers = rounds(backends, count, move |task, round| {
        job(round, ending(task, round))
    })
    .await?;
    for round in 0..count {
        let stands = ctx.job(id(round)).await?.state;
        let mut applied = 0;
        for task in 0..TASKS {
            let outcome = answers[task as usize][round as usize];
            let expected = match outcome {
                Outcome::Applied { created: false } => {
                    applied += 1;
                    ending(task, round) == stands
                }
                Outcome::Unchanged { .. } => ending(task, round) == stands,
                Outcome::Refused { standing, current } => {
                    ending(task, round) != stands
                        && standing == stands.into()
                        && current.state == stands.into()
                }
                _ => false,
            };
            ensure!(
                expected,
                "{stands} stands; {} got {outcome:?}",
                ending(task, round)
            );
        }
        // After a retry inside of a backend the winner may read unchanged; nobody else may read applied.
        ensure!(
            applied <= 1,
            "one of two endings stands, and once: {applied} were applied"
        );
        ensure_eq!(
            ctx.history_of(id(round)).await?.len(),
            2,
            "no second ending in the history"
        );
    }
    Ok(())
}

async fn x1_two_writers_of_two_endings_leave_one_and_tell_the_other(ctx: &Ctx) -> CaseResult {
    endings_exclude_each_other(ctx, &[Arc::clone(ctx.backend())], ROUNDS).await
}

async fn x1_two_handles_of_two_endings_leave_one_and_tell_the_other(ctx: &Ctx) -> CaseResult {
    endings_exclude_each_other(ctx, &two_handles(ctx).await?, 20).await
}

async fn applied_once(ctx: &Ctx, backends: &[Arc<dyn PersistBackend>], count: u64) -> CaseResult {
    let answers = rounds(backends, count, |_, round| {
        job(round, Queued).runs_on("large").actor("me")
    })
    .await?;
    for round in 0..count as usize {
        let of_round: Vec<_> = answers.iter().map(|of_task| of_task[round]).collect();
        let applied = of_round.iter().filter(|outcome| **outcome == CREATED).count();
        ensure_eq!(applied, 1, "one is applied");
        let rest = of_round
            .iter()
            .filter(|outcome| matches!(outcome, Outcome::Unchanged { .. }))
            .count();
        ensure_eq!(rest, TASKS as usize - 1, "the others are unchanged: {of_round:?}");
    }
    ensure_eq!(ctx.history().await?.len(), count as usize, "one slot each");
    Ok(())
}

async fn x2_the_same_update_from_many_tasks_is_applied_once(ctx: &Ctx) -> CaseResult {
    applied_once(ctx, &[Arc::clone(ctx.backend())], ROUNDS).await
}

async fn x2_the_same_update_from_two_handles_is_applied_once(ctx: &Ctx) -> CaseResult {
    applied_once(ctx, &two_handles(ctx).await?, 20).await
}

/// Overlapping random batches from every task.
async fn contend(backends: &[Arc<dyn PersistBackend>], tasks: u64, count: u64) -> CaseResult {
    let writers = (0..tasks).map(|task| {
        let backend = Arc::clone(&backends[task as usize % backends.len()]);
        tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(task);
            for round in 0..count {
                apply(&backend, contention::updates(round, &mut random)).await?;
            }
            Ok::<_, persist_core::Error>(())
        })
    });
    for writer in join_all(writers).await {
        writer??;
    }
    for backend in backends {
        fold_holds(backend).await?;
    }
    Ok(())
}

async fn x3_forward_late_and_filling_updates_leave_the_fold(ctx: &Ctx) -> CaseResult {
    contend(&[Arc::clone(ctx.backend())], 8, 60).await
}

async fn x3_two_handles_leave_the_fold(ctx: &Ctx) -> CaseResult {
    contend(&two_handles(ctx).await?, 8, 60).await
}

async fn a_day_from_many_writers_is_the_same_day(ctx: &Ctx) -> CaseResult {
    let (day, memory) = (day(60, 80), memory());
    memory.apply(&claims(day.clone())?).await?;
    let writers = (0..6).map(|writer| {
        let (backend, mine) = (Arc::clone(ctx.backend()), shuffled(writer, day.clone()));
        tokio::spawn(async move {
            for batch in mine.chunks(17) {
                apply(&backend, batch.to_vec()).await?;
            }
            Ok::<_, persist_core::Error>(())
        })
    });
    for writer in join_all(writers).await {
        writer??;
    }
    same_content(
        ctx.backend(),
        &memory,
        "six writers of all of it, each in an order of its own",
    )
    .await
}

async fn a_row_is_made_once(ctx: &Ctx) -> CaseResult {
    const STATES: [JobState; 3] = [Queued, Running, Lost];
    let say = |task: u64, round| job(round, STATES[(task % 3) as usize]);
    let answers = rounds(&[Arc::clone(ctx.backend())], 15, say).await?;
    for round in 0..15 {
        let made = answers.iter().filter(|of_task| of_task[round] == CREATED).count();
        ensure_eq!(made, 1, "whoever comes first makes the row, and nobody else");
        let row = ctx.job(id(round as u64)).await?;
        ensure_eq!(
            (row.state, row.created_at, row.updated_at),
            (Lost, at(0), at(20)),
            "all three are in it"
        );
    }
    Ok(())
}

async fn a_blank_is_filled_once(ctx: &Ctx) -> CaseResult {
    ctx.apply((0..15).map(|round| job(round, Queued))).await?;
    let say = |task: u64, round| job(round, Queued).runs_on(format!("label-{task}"));
    let answers = rounds(&[Arc::clone(ctx.backend())], 15, say).await?;
    for round in 0..15 {
        let mut fillers = answers.iter().enumerate();
        let filled = fillers.find(|(_, of_task)| matches!(of_task[round], Outcome::Filled { .. }));
        let winner = filled.map(|(task, _)| format!("label-{task}"));
        ensure_eq!(
            ctx.job(id(round as u64)).await?.runs_on,
            winner,
            "the one that filled it is what stands"
        );
        ensure!(
            !fillers.any(|(_, of_task)| matches!(of_task[round], Outcome::Filled { .. })),
            "filled once"
        );
    }
    Ok(())
}

async fn different_blanks_of_one_slot_are_all_filled(ctx: &Ctx) -> CaseResult {
    ctx.apply((0..15).map(|round| job(round, Queued))).await?;
    let say = |task: u64, round| {
        let update = job(round, Queued);
        match task % 5 {
            0 => update.repo_url("https://example.org/a.git"),
            1 => update.commit_sha("beef"),
            2 => update.runs_on("large"),
            3 => update.actor("me"),
            _ => update.reason("push"),
        }
    };
    let answers = rounds(&[Arc::clone(ctx.backend())], 15, say).await?;
    for round in 0..15 {
        let fills = answers
            .iter()
            .filter(|of_task| matches!(of_task[round], Outcome::Filled { .. }))
            .count();
        ensure_eq!(fills, 5, "each of the five blanks is filled by one");
        let row = ctx.job(id(round as u64)).await?;
        let found = [
            row.repo_url.as_deref(),
            row.commit_sha.as_deref(),
            row.runs_on.as_deref(),
        ];
        ensure_eq!(
            found,
            [Some("https://example.org/a.git"), Some("beef"), Some("large")],
            "none is lost"
        );
    }
    Ok(())
}

async fn batches_in_opposed_orders_all_end(ctx: &Ctx) -> CaseResult {
    let writers = (0..8_u64).map(|writer| {
        let backend = Arc::clone(ctx.backend());
        tokio::spawn(async move {
            for round in 0..10 {
                let state = [Queued, Running, Lost, Failed][(writer % 4) as usize];
                let mut batch: Vec<_> = (0..40).map(|n| job(n, state).attempt(1 + round)).collect();
                if writer % 2 == 1 {
                    batch.reverse();
                }
                apply(&backend, batch).await?;
            }
            Ok::<_, persist_core::Error>(())
        })
    });
    for writer in join_all(writers).await {
        writer??;
    }
    ensure_eq!(
        ctx.history().await?.len(),
        40 * 10 * 4,
        "a deadlock is retried inside, and nothing is lost"
    );
    Ok(())
}
