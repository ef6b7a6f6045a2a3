//! What one update of a job gets: every row of the table of outcomes.

use persist_core::JobState::{self, Cancelled, Failed, Lost, Queued, Running, Succeeded, TimedOut};
use persist_core::{Attempt, Job, StateTable as _};

use super::cases;
use crate::case::{CaseResult, Ctx, ensure_eq};
use crate::sample::{CREATED, MOVED, at, filled, id, job, late, unchanged};

cases! { "outcomes":
    the_first_update_is_applied_and_makes_the_row,
    an_update_of_a_later_phase_is_applied_and_moves_the_row,
    phases_may_be_skipped,
    every_state_may_come_first,
    an_update_of_a_lower_phase_is_late_and_the_state_stays,
    a_late_update_tells_the_row_and_not_its_own_slot,
    the_same_update_again_is_unchanged,
    the_same_update_below_the_row_is_unchanged_and_tells_the_row,
    an_update_that_says_less_is_unchanged,
    an_update_that_says_otherwise_is_unchanged,
    another_time_for_a_held_slot_is_unchanged,
    each_attribute_fills_its_blank,
    an_actor_fills_its_blank,
    a_reason_fills_its_blank,
    a_fill_takes_only_what_is_blank,
    a_fill_below_the_row_tells_the_row,
    a_slot_is_filled_once,
}

async fn the_first_update_is_applied_and_makes_the_row(ctx: &Ctx) -> CaseResult {
    ensure_eq!(
        ctx.one(job(1, Queued)).await?,
        CREATED,
        "applied and created: there was no row yet"
    );
    let row = Job::new(id(1), Queued, Attempt::FIRST, at(0));
    ensure_eq!(ctx.job(id(1)).await?, row, "the row is its one slot");
    Ok(())
}

async fn an_update_of_a_later_phase_is_applied_and_moves_the_row(ctx: &Ctx) -> CaseResult {
    let outcomes = ctx
        .each([job(1, Queued), job(1, Running), job(1, Succeeded)])
        .await?;
    ensure_eq!(
        outcomes,
        [CREATED, MOVED, MOVED],
        "applied: the slot was free and above the row"
    );
    let row = ctx.job(id(1)).await?;
    ensure_eq!(row.state, Succeeded, "the row has the state of the highest rank");
    ensure_eq!(ctx.history().await?.len(), 3, "each applied update is a slot");
    Ok(())
}

async fn phases_may_be_skipped(ctx: &Ctx) -> CaseResult {
    let outcomes = ctx.each([job(1, Queued), job(1, Cancelled)]).await?;
    ensure_eq!(outcomes, [CREATED, MOVED], "a queued job may be cancelled");
    ensure_eq!(
        ctx.history().await?.len(),
        2,
        "the phase that was skipped leaves no slot"
    );
    ensure_eq!(
        ctx.one(job(1, Running)).await?,
        late(Cancelled, 1),
        "the skipped slot is still free"
    );
    Ok(())
}

async fn every_state_may_come_first(ctx: &Ctx) -> CaseResult {
    for (n, line) in (1..).zip(JobState::TABLE) {
        let outcome = ctx.one(job(n, line.state)).await?;
        ensure_eq!(
            outcome,
            CREATED,
            "the first update makes the row, in {} as well",
            line.name
        );
        ensure_eq!(
            ctx.job(id(n)).await?.state,
            line.state,
            "and the row is read as it was told"
        );
    }
    Ok(())
}

async fn an_update_of_a_lower_phase_is_late_and_the_state_stays(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Running)).await?;
    ensure_eq!(
        ctx.one(job(1, Queued)).await?,
        late(Running, 1),
        "late: free, but the row is further"
    );
    ensure_eq!(
        ctx.job(id(1)).await?.state,
        Running,
        "a late update does not move the state back"
    );
    let states: Vec<_> = ctx
        .history()
        .await?
        .iter()
        .map(|event| event.state.name())
        .collect();
    ensure_eq!(
        states,
        ["queued", "running"],
        "a late update becomes history all the same"
    );
    Ok(())
}

async fn a_late_update_tells_the_row_and_not_its_own_slot(ctx: &Ctx) -> CaseResult {
    ctx.each([job(1, Queued), job(1, Failed), job(1, Running).attempt(3)])
        .await?;
    let outcome = ctx.one(job(1, Running)).await?;
    ensure_eq!(
        outcome,
        late(Running, 3),
        "current is state and attempt of the row"
    );
    let outcome = ctx.one(job(1, TimedOut).attempt(2)).await?;
    ensure_eq!(
        outcome,
        late(Running, 3),
        "current is the row's, between two attempts too"
    );
    Ok(())
}

async fn the_same_update_again_is_unchanged(ctx: &Ctx) -> CaseResult {
    let update = job(1, Queued)
        .repo_url("https://example.org/a.git")
        .actor("webhook")
        .reason("push");
    ctx.one(update.clone()).await?;
    let before = (ctx.job(id(1)).await?, ctx.history().await?);
    for _ in 0..3 {
        ensure_eq!(
            ctx.one(update.clone()).await?,
            unchanged(Queued, 1),
            "a repetition is unchanged"
        );
    }
    let after = (ctx.job(id(1)).await?, ctx.history().await?);
    ensure_eq!(
        after,
        before,
        "a repetition touches neither row nor history, its number included"
    );
    Ok(())
}

async fn the_same_update_below_the_row_is_unchanged_and_tells_the_row(ctx: &Ctx) -> CaseResult {
    ctx.each([job(1, Queued), job(1, Running), job(1, Succeeded)])
        .await?;
    ensure_eq!(
        ctx.one(job(1, Queued)).await?,
        unchanged(Succeeded, 1),
        "current is the row, not the slot"
    );
    ensure_eq!(
        ctx.one(job(1, Running)).await?,
        unchanged(Succeeded, 1),
        "current is the row, not the slot"
    );
    Ok(())
}

async fn an_update_that_says_less_is_unchanged(ctx: &Ctx) -> CaseResult {
    ctx.one(
        job(1, Queued)
            .repo_url("https://example.org/a.git")
            .runs_on("large")
            .actor("webhook"),
    )
    .await?;
    let before = ctx.history().await?;
    let outcome = ctx.one(job(1, Queued).runs_on("large")).await?;
    ensure_eq!(outcome, unchanged(Queued, 1), "a blank fills nothing");
    ensure_eq!(
        ctx.one(job(1, Queued)).await?,
        unchanged(Queued, 1),
        "all blank fills nothing"
    );
    ensure_eq!(ctx.history().await?, before, "a blank takes no value away");
    Ok(())
}

async fn an_update_that_says_otherwise_is_unchanged(ctx: &Ctx) -> CaseResult {
    let update = |word: &str| {
        let url = format!("https://example.org/{word}.git");
        job(1, Queued)
            .repo_url(url)
            .commit_sha("beef")
            .runs_on(word)
            .actor(word)
            .reason(word)
    };
    ctx.one(update("first")).await?;
    let before = (ctx.job(id(1)).await?, ctx.history().await?);
    let outcome = ctx.one(update("second").commit_sha("cafe")).await?;
    ensure_eq!(
        outcome,
        unchanged(Queued, 1),
        "nothing was blank that the update has"
    );
    let after = (ctx.job(id(1)).await?, ctx.history().await?);
    ensure_eq!(after, before, "a value stays");
    Ok(())
}

async fn another_time_for_a_held_slot_is_unchanged(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Queued).at(at(100))).await?;
    for seconds in [50, 150] {
        let outcome = ctx.one(job(1, Queued).at(at(seconds))).await?;
        ensure_eq!(outcome, unchanged(Queued, 1), "a slot's time never changes");
    }
    let row = ctx.job(id(1)).await?;
    ensure_eq!(
        (row.created_at, row.updated_at),
        (at(100), at(100)),
        "the first time stands, in the row"
    );
    ensure_eq!(
        ctx.history().await?[0].at,
        at(100),
        "the first time stands, in the history"
    );
    Ok(())
}

async fn each_attribute_fills_its_blank(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Queued)).await?;
    for update in [
        job(1, Queued).repo_url("https://example.org/a.git"),
        job(1, Queued).commit_sha("beef"),
        job(1, Queued).runs_on("large"),
    ] {
        ensure_eq!(
            ctx.one(update.clone()).await?,
            filled(Queued, 1),
            "filled: the slot had this blank"
        );
        ensure_eq!(
            ctx.one(update).await?,
            unchanged(Queued, 1),
            "once filled it is no blank any more"
        );
    }
    let mut row = Job::new(id(1), Queued, Attempt::FIRST, at(0));
    row.repo_url = Some("https://example.org/a.git".into());
    row.commit_sha = Some("beef".into());
    row.runs_on = Some("large".into());
    ensure_eq!(
        ctx.job(id(1)).await?,
        row,
        "the row takes on what its slot was filled with"
    );
    ensure_eq!(ctx.history().await?.len(), 1, "a fill makes no slot");
    Ok(())
}

async fn an_actor_fills_its_blank(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Queued)).await?;
    ensure_eq!(
        ctx.one(job(1, Queued).actor("me")).await?,
        filled(Queued, 1),
        "an actor is set once"
    );
    ensure_eq!(
        ctx.one(job(1, Queued).actor("you")).await?,
        unchanged(Queued, 1),
        "and stays"
    );
    ensure_eq!(
        ctx.history().await?[0].actor.as_deref(),
        Some("me"),
        "the first actor stands"
    );
    Ok(())
}

async fn a_reason_fills_its_blank(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Queued)).await?;
    ensure_eq!(
        ctx.one(job(1, Queued).reason("push")).await?,
        filled(Queued, 1),
        "a reason is set once"
    );
    ensure_eq!(
        ctx.one(job(1, Queued).reason("tag")).await?,
        unchanged(Queued, 1),
        "and stays"
    );
    ensure_eq!(
        ctx.history().await?[0].reason.as_deref(),
        Some("push"),
        "the first reason stands"
    );
    Ok(())
}

async fn a_fill_takes_only_what_is_blank(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Queued).runs_on("small").actor("me")).await?;
    let both = job(1, Queued)
        .runs_on("large")
        .actor("you")
        .commit_sha("beef")
        .reason("push")
        .at(at(99));
    ensure_eq!(ctx.one(both).await?, filled(Queued, 1), "one blank is enough");
    let row = ctx.job(id(1)).await?;
    ensure_eq!(
        row.runs_on.as_deref(),
        Some("small"),
        "a value stays beside a blank that is filled"
    );
    ensure_eq!(row.commit_sha.as_deref(), Some("beef"), "the blank was filled");
    ensure_eq!(row.updated_at, at(0), "a fill brings no time");
    let slot = &ctx.history().await?[0];
    let said = (slot.actor.as_deref(), slot.reason.as_deref(), slot.at);
    ensure_eq!(
        said,
        (Some("me"), Some("push"), at(0)),
        "actor, reason and time of the slot as well"
    );
    Ok(())
}

async fn a_fill_below_the_row_tells_the_row(ctx: &Ctx) -> CaseResult {
    ctx.each([job(1, Queued), job(1, Lost), job(1, Running).attempt(2)])
        .await?;
    let outcome = ctx.one(job(1, Queued).reason("push")).await?;
    ensure_eq!(
        outcome,
        filled(Running, 2),
        "current is the row, not the slot that was filled"
    );
    ensure_eq!(
        ctx.job(id(1)).await?.state,
        Running,
        "a fill does not move the state"
    );
    Ok(())
}

async fn a_slot_is_filled_once(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Queued)).await?;
    let fill = job(1, Queued)
        .repo_url("https://example.org/a.git")
        .commit_sha("beef")
        .runs_on("large");
    let fill = fill.actor("me").reason("push");
    ensure_eq!(
        ctx.one(fill.clone()).await?,
        filled(Queued, 1),
        "all blanks at once"
    );
    let before = ctx.history().await?;
    ensure_eq!(
        ctx.one(fill).await?,
        unchanged(Queued, 1),
        "the same fill again finds no blank"
    );
    ensure_eq!(ctx.history().await?, before, "and changes nothing");
    Ok(())
}
