//! Endings, which exclude each other, and attempts, which come after them.

use persist_core::JobState::{self, Cancelled, Failed, Lost, Queued, Running, Succeeded, TimedOut};
use persist_core::StateTable as _;

use super::cases;
use crate::case::{CaseResult, Ctx, ensure, ensure_eq};
use crate::sample::{CREATED, MOVED, at, filled, id, job, late, refused, unchanged};

cases! { "outcomes":
    any_two_endings_of_one_attempt_exclude_each_other,
    a_refused_update_brings_nothing,
    a_refusal_below_the_row_tells_what_stands_and_the_row,
    the_same_ending_again_is_no_refusal,
    a_lost_job_is_healed_by_any_reported_ending,
    a_job_that_ended_is_not_lost_any_more,
    the_next_attempt_moves_an_ended_job,
    any_state_of_an_older_attempt_is_late,
    an_ending_can_be_corrected_by_the_next_attempt,
    the_second_attempt_may_come_first,
    attempts_may_be_skipped,
    jobs_do_not_meet,
}

async fn any_two_endings_of_one_attempt_exclude_each_other(ctx: &Ctx) -> CaseResult {
    let mut n = 0;
    for first in REPORTED {
        for second in REPORTED.into_iter().filter(|state| *state != first) {
            n += 1;
            ctx.each([job(n, Queued), job(n, first)]).await?;
            let before = (ctx.job(id(n)).await?, ctx.history_of(id(n)).await?);
            let outcome = ctx.one(job(n, second)).await?;
            ensure_eq!(
                outcome,
                refused(first, first, 1),
                "{second} is refused by the {first} that stands"
            );
            let after = (ctx.job(id(n)).await?, ctx.history_of(id(n)).await?);
            ensure_eq!(after, before, "a refusal leaves row and history as they are");
        }
    }
    Ok(())
}

async fn a_refused_update_brings_nothing(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Failed).at(at(100))).await?;
    let before = (ctx.job(id(1)).await?, ctx.history().await?);
    let other = job(1, Succeeded)
        .repo_url("https://example.org/a.git")
        .commit_sha("beef")
        .runs_on("large");
    for seconds in [1, 1_000] {
        let outcome = ctx
            .one(other.clone().actor("me").reason("push").at(at(seconds)))
            .await?;
        ensure_eq!(outcome, refused(Failed, Failed, 1), "two endings of one attempt");
    }
    let after = (ctx.job(id(1)).await?, ctx.history().await?);
    ensure_eq!(after, before, "a refused update brings neither values nor times");
    Ok(())
}

async fn a_refusal_below_the_row_tells_what_stands_and_the_row(ctx: &Ctx) -> CaseResult {
    ctx.each([job(1, TimedOut), job(1, Running).attempt(2)]).await?;
    let outcome = ctx.one(job(1, Succeeded)).await?;
    ensure_eq!(
        outcome,
        refused(TimedOut, Running, 2),
        "standing is the slot's, current is the row's"
    );
    Ok(())
}

async fn the_same_ending_again_is_no_refusal(ctx: &Ctx) -> CaseResult {
    for (n, ending) in (1..).zip(REPORTED) {
        ctx.one(job(n, ending)).await?;
        ensure_eq!(
            ctx.one(job(n, ending)).await?,
            unchanged(ending, 1),
            "the same ending stands already"
        );
        let fill = ctx.one(job(n, ending).reason("told twice")).await?;
        ensure_eq!(fill, filled(ending, 1), "the same ending may still fill");
    }
    Ok(())
}

async fn a_lost_job_is_healed_by_any_reported_ending(ctx: &Ctx) -> CaseResult {
    for (n, ending) in (1..).zip(REPORTED) {
        let outcomes = ctx.each([job(n, Running), job(n, Lost), job(n, ending)]).await?;
        ensure_eq!(
            outcomes,
            [CREATED, MOVED, MOVED],
            "{ending} heals lost, which is only inferred"
        );
        ensure_eq!(
            ctx.job(id(n)).await?.state,
            ending,
            "the reported ending is the row's"
        );
        ensure_eq!(
            ctx.history_of(id(n)).await?.len(),
            3,
            "that it was lost stays in the history"
        );
    }
    Ok(())
}

async fn a_job_that_ended_is_not_lost_any_more(ctx: &Ctx) -> CaseResult {
    for (n, ending) in (1..).zip(REPORTED) {
        ctx.one(job(n, ending)).await?;
        ensure_eq!(
            ctx.one(job(n, Lost)).await?,
            late(ending, 1),
            "lost comes late after {ending}"
        );
        ensure_eq!(
            ctx.job(id(n)).await?.state,
            ending,
            "the reported ending stays the row's"
        );
    }
    Ok(())
}

async fn the_next_attempt_moves_an_ended_job(ctx: &Ctx) -> CaseResult {
    for (n, ending) in (1..).zip([Lost, Succeeded, Failed, Cancelled, TimedOut]) {
        ctx.one(job(n, ending)).await?;
        let outcome = ctx.one(job(n, Queued).attempt(2).at(at(60))).await?;
        ensure_eq!(
            outcome,
            MOVED,
            "a job that ended {ending} runs again in the next attempt"
        );
        let row = ctx.job(id(n)).await?;
        ensure_eq!(
            (row.state, row.attempt.get()),
            (Queued, 2),
            "the row is the new attempt's"
        );
        ensure_eq!(
            (row.created_at, row.updated_at),
            (at(job_seconds(ending)), at(60)),
            "of the whole job"
        );
    }
    Ok(())
}

async fn any_state_of_an_older_attempt_is_late(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Queued).attempt(2)).await?;
    for state in [Succeeded, Lost, Running, Queued] {
        let outcome = ctx.one(job(1, state)).await?;
        ensure_eq!(
            outcome,
            late(Queued, 2),
            "the attempt counts before the phase, for {state} too"
        );
    }
    let row = ctx.job(id(1)).await?;
    ensure_eq!(
        (row.state, row.attempt.get()),
        (Queued, 2),
        "the row stays in the higher attempt"
    );
    Ok(())
}

async fn an_ending_can_be_corrected_by_the_next_attempt(ctx: &Ctx) -> CaseResult {
    ctx.each([job(1, Running), job(1, Succeeded)]).await?;
    let outcome = ctx
        .one(job(1, Failed).attempt(2).reason("tests were skipped"))
        .await?;
    ensure_eq!(
        outcome,
        MOVED,
        "to correct an ending is to open the next attempt with the right one"
    );
    let states: Vec<_> = ctx
        .history()
        .await?
        .iter()
        .map(|event| event.state.name())
        .collect();
    ensure_eq!(
        states,
        ["running", "succeeded", "failed"],
        "the correction is itself history"
    );
    Ok(())
}

async fn the_second_attempt_may_come_first(ctx: &Ctx) -> CaseResult {
    let second = ctx
        .each([job(1, Running).attempt(2).at(at(70)), job(1, Failed).at(at(30))])
        .await?;
    ensure_eq!(
        second,
        [CREATED, late(Running, 2)],
        "the first attempt comes late"
    );
    let row = ctx.job(id(1)).await?;
    ensure_eq!(
        (row.state, row.attempt.get()),
        (Running, 2),
        "the row is in the higher attempt"
    );
    ensure_eq!(
        (row.created_at, row.updated_at),
        (at(30), at(70)),
        "its times are of both"
    );
    Ok(())
}

async fn attempts_may_be_skipped(ctx: &Ctx) -> CaseResult {
    let outcomes = ctx
        .each([
            job(1, Failed),
            job(1, Queued).attempt(9),
            job(1, Failed).attempt(5),
        ])
        .await?;
    ensure_eq!(
        outcomes,
        [CREATED, MOVED, late(Queued, 9)],
        "attempts need not follow each other"
    );
    Ok(())
}

async fn jobs_do_not_meet(ctx: &Ctx) -> CaseResult {
    let outcomes = ctx
        .each([job(1, Succeeded), job(2, Failed), job(3, Queued)])
        .await?;
    ensure_eq!(
        outcomes,
        [CREATED, CREATED, CREATED],
        "each job has slots of its own"
    );
    ensure_eq!(ctx.one(job(3, Running)).await?, MOVED, "and moves by itself");
    ensure!(
        ctx.backend().job(id(4)).await?.is_none(),
        "a job of which no update came is none"
    );
    Ok(())
}

/// When [`job`] says that a state began.
fn job_seconds(state: JobState) -> i64 {
    i64::from(state.phase()) * 10
}

/// The endings that somebody reports; they share a slot.
const REPORTED: [JobState; 4] = [Succeeded, Failed, Cancelled, TimedOut];
