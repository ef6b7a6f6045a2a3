//! The changes of a store from which prunes take some: who would miss any is told.

use persist_core::JobState::{Failed, Queued};
use persist_core::{ChangePosition, ChangeQuery, ErrorKind, Prune};

use super::cases;
use super::changes::{MARKER, Walk, all_after, kind_of, of};
use crate::case::{CaseResult, Ctx, ensure_eq};
use crate::sample::{id, job};

cases! { "changes_pruned":
    behind_what_was_pruned_a_walk_lags_and_anew_it_does_not,
    a_prune_of_what_was_seen_is_no_lag,
    a_walk_from_the_start_that_a_prune_overtakes_lags,
    a_walk_from_the_start_does_not_lag_for_a_prune_before_it,
    a_count_of_what_would_be_pruned_is_no_lag,
    a_place_beyond_all_changes_lags,
}

async fn behind_what_was_pruned_a_walk_lags_and_anew_it_does_not(ctx: &Ctx) -> CaseResult {
    let changes = of(ctx.backend())?;
    ctx.one(job(1, Queued)).await?;
    let walk = all_after(ctx, None, MARKER).await?;
    ctx.apply([job(2, Queued), job(2, Failed)]).await?;
    ctx.backend().prune(&Prune::default().ids([id(2)])).await?;
    let asked = changes.since(&walk.query).await;
    ensure_eq!(
        kind_of(asked, "a walk behind it")?,
        ErrorKind::Lagged,
        "what it would have seen is gone"
    );
    ctx.each([job(3, Queued), job(4, Queued), job(MARKER + 1, Queued)])
        .await?;
    let mut anew = Walk::after(None).limit(1);
    anew.until_marked(ctx.backend(), MARKER + 1).await?;
    anew.seen
        .retain(|change| change.event.subject.request_id() != id(MARKER));
    ensure_eq!(
        anew.names(),
        ["1  queued", "3  queued", "4  queued"],
        "what is left, page by page"
    );
    Ok(())
}

async fn a_prune_of_what_was_seen_is_no_lag(ctx: &Ctx) -> CaseResult {
    of(ctx.backend())?;
    ctx.apply([job(1, Queued), job(2, Failed)]).await?;
    let mut walk = all_after(ctx, None, MARKER).await?;
    for old in [2, 1] {
        ctx.backend().prune(&Prune::default().ids([id(old)])).await?;
        ctx.one(job(old + 10, Queued)).await?;
    }
    ctx.one(job(MARKER + 1, Queued)).await?;
    walk.seen.clear();
    walk.until_marked(ctx.backend(), MARKER + 1).await?;
    ensure_eq!(walk.names(), ["12  queued", "11  queued"], "it goes on");
    Ok(())
}

async fn a_walk_from_the_start_that_a_prune_overtakes_lags(ctx: &Ctx) -> CaseResult {
    let changes = of(ctx.backend())?;
    ctx.each([job(1, Queued), job(2, Queued), job(3, Queued)]).await?;
    all_after(ctx, None, MARKER).await?;
    // What went before a walk began is not missed, however far along it was.
    ctx.backend().prune(&Prune::default().ids([id(3)])).await?;
    let mut walk = Walk::after(None).limit(1);
    walk.step(ctx.backend()).await?;
    let page = changes.since(&walk.query).await?.changes;
    ensure_eq!(page[0].event.subject.request_id(), id(2), "the second page");
    ctx.backend().prune(&Prune::default().ids([id(2)])).await?;
    let asked = changes.since(&walk.query).await;
    ensure_eq!(
        kind_of(asked, "a page after a prune")?,
        ErrorKind::Lagged,
        "which took what is on it"
    );
    Ok(())
}

async fn a_walk_from_the_start_does_not_lag_for_a_prune_before_it(ctx: &Ctx) -> CaseResult {
    let changes = of(ctx.backend())?;
    ctx.each((1..=5).map(|n| job(n, Queued))).await?;
    all_after(ctx, None, MARKER).await?;
    // A late one by its name; then retention, which takes the oldest behind a walk.
    ctx.backend().prune(&Prune::default().ids([id(5)])).await?;
    let mut walk = Walk::after(None).limit(1);
    for old in [1, 2] {
        walk.step(ctx.backend()).await?;
        ctx.backend().prune(&Prune::default().ids([id(old)])).await?;
    }
    walk.step(ctx.backend()).await?;
    ensure_eq!(
        walk.names(),
        ["1  queued", "2  queued", "3  queued"],
        "nothing that it would have seen is gone"
    );
    ctx.backend().prune(&Prune::default().ids([id(4)])).await?;
    let asked = changes.since(&walk.query).await;
    ensure_eq!(
        kind_of(asked, "a walk behind it")?,
        ErrorKind::Lagged,
        "now there is"
    );
    Ok(())
}

async fn a_count_of_what_would_be_pruned_is_no_lag(ctx: &Ctx) -> CaseResult {
    let changes = of(ctx.backend())?;
    let before = changes.now().await?;
    ctx.one(job(1, Failed)).await?;
    ctx.backend()
        .prune(&Prune::default().ids([id(1)]).dry_run(true))
        .await?;
    ctx.backend().prune(&Prune::default().ids([id(2)])).await?;
    let walk = all_after(ctx, Some(before), MARKER).await?;
    ensure_eq!(walk.names(), ["1  failed"], "nothing went");
    Ok(())
}

async fn a_place_beyond_all_changes_lags(ctx: &Ctx) -> CaseResult {
    let changes = of(ctx.backend())?;
    ctx.one(job(1, Queued)).await?;
    let now = changes.now().await?;
    let beyond = [
        ChangePosition {
            transaction: u64::MAX,
            ..now
        },
        ChangePosition {
            prunes: now.prunes + 1,
            ..now
        },
    ];
    for place in beyond {
        let asked = changes
            .since(&ChangeQuery::default().after(Some(place.cursor())))
            .await;
        ensure_eq!(
            kind_of(asked, "a later place")?,
            ErrorKind::Lagged,
            "the store is an older one"
        );
    }
    Ok(())
}
