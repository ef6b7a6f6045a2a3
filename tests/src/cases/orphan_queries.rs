//! Lists of orphans: filters, pages and cursors.

use std::time::Duration;

use persist_core::JobState::{Queued, Running};
use persist_core::OrphanKind::{self, JobWithoutVm, OwnerGone, VmWithoutJob};
use persist_core::VmState::{Destroyed, Failed, Running as VmRunning, Stopped};
use persist_core::{Cursor, EventQuery, JobQuery, Orphan, OrphanQuery, Owners, Position, VmQuery};
use uuid::Uuid;

use super::cases;
use super::orphans::{all, one, taken_over, told};
use super::owners::{Patience, beyond, lasting, of, refused};
use crate::case::{CaseResult, Ctx, ensure, ensure_eq};
use crate::oracle::memory;
use crate::sample::{claims, day, id, job, vm};

cases! { "orphan_queries":
    filters_leave_what_has_any_of_the_kinds,
    filters_leave_what_the_actor_reported_last,
    what_is_younger_than_the_grace_is_not_told,
    pages_of_any_size_see_all_once_in_the_order_of_keys,
    a_cursor_may_stand_where_nothing_is_left,
    a_cursor_of_memory_works_here,
    cursors_of_other_listings_are_refused,
    a_query_beyond_its_limits_is_refused_by_name,
    the_same_day_leaves_what_it_leaves_in_memory,
}

/// A job and a VM for each reason and for several, of two actors that are gone.
async fn some(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Queued).actor("a")).await?;
    ctx.one(job(2, Running).actor("b")).await?;
    ctx.one(vm(2, "x", Stopped).actor("a")).await?;
    ctx.one(vm(3, "x", VmRunning).actor("a")).await?;
    ctx.one(vm(4, "x", VmRunning)).await?;
    ctx.one(job(5, Running)).await?;
    ctx.one(vm(5, "x", Failed).actor("a")).await?;
    taken_over(ctx, "a", 1).await?;
    taken_over(ctx, "b", 1).await
}

async fn filters_leave_what_has_any_of_the_kinds(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    some(ctx).await?;
    let expected = [
        one(1, "", &[OwnerGone]),
        one(2, "", &[OwnerGone, JobWithoutVm]),
        one(3, "x", &[OwnerGone, VmWithoutJob]),
        one(4, "x", &[VmWithoutJob]),
        one(5, "", &[JobWithoutVm]),
    ];
    for asked in 0..8_u8 {
        let kinds = OrphanKind::of([asked & 1 > 0, asked & 2 > 0, asked & 4 > 0]);
        let query = OrphanQuery::default().kinds(kinds.clone());
        let left = told(&owners.orphans(&query).await?.items);
        let mut expected = expected.to_vec();
        expected.retain(|(_, _, of)| kinds.is_empty() || of.iter().any(|kind| kinds.contains(kind)));
        ensure_eq!(left, expected, "any of {kinds:?}, each told with all its reasons");
    }
    Ok(())
}

async fn keys(owners: &dyn Owners, query: OrphanQuery) -> CaseResult<Vec<(Uuid, String)>> {
    let left = owners.orphans(&query).await?.items;
    let keys = left.iter().map(|orphan| orphan.subject.key());
    Ok(keys.map(|(id, name)| (id, name.to_owned())).collect())
}

async fn filters_leave_what_the_actor_reported_last(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    some(ctx).await?;
    let by = |actor: &str| OrphanQuery::default().actor(actor);
    let none = String::new;
    ensure_eq!(
        keys(owners, by("a")).await?,
        [(id(1), none()), (id(3), "x".into())],
        "of one actor"
    );
    ensure_eq!(keys(owners, by("b")).await?, [(id(2), none())], "of another");
    ensure_eq!(keys(owners, by("")).await?.len(), 5, "no name is no filter");
    for nobody in ["A", "c", "a ", "%"] {
        ensure_eq!(keys(owners, by(nobody)).await?, [], "of nobody");
    }
    let both = by("a").kinds([VmWithoutJob]);
    ensure_eq!(
        keys(owners, both).await?,
        [(id(3), "x".into())],
        "all filters hold"
    );
    Ok(())
}

async fn what_is_younger_than_the_grace_is_not_told(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    some(ctx).await?;
    let young = OrphanQuery::default().grace(Duration::from_secs(24 * 3_600));
    ensure_eq!(
        owners.orphans(&young).await?.items,
        [],
        "all was reported just now, by the store's clock"
    );
    let oldest = ctx.history_of(id(1)).await?[0].recorded_at;
    let grace = Duration::from_millis(20);
    let query = OrphanQuery::default().grace(grace);
    let patience = Patience::new();
    loop {
        let left = owners.orphans(&query).await?.items;
        let now = owners.heartbeat(&lasting("a", 1)).await?.beat_at;
        if left
            .first()
            .is_some_and(|orphan| orphan.subject.key() == (id(1), ""))
        {
            ensure!(oldest + grace <= now, "not before its grace is over");
            return Ok(());
        }
        patience.pause("the oldest is old enough").await?;
    }
}

async fn pages_of_any_size_see_all_once_in_the_order_of_keys(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    let names = ["ä", "b", "Z", "a b", "a", "🦀"];
    for n in [9, 2, 5, 7] {
        ctx.each(names.map(|name| vm(n, name, VmRunning).actor("me")))
            .await?;
    }
    ctx.each([3, 9, 4, 5].map(|n| job(n, Running).actor("me")))
        .await?;
    taken_over(ctx, "me", 1).await?;
    let whole = all(owners).await?;
    ensure_eq!(whole.len(), 28, "all are left alone");
    ensure!(
        whole.is_sorted_by(|a, b| a.subject < b.subject),
        "in the order of their keys, by bytes"
    );
    for limit in [1, 2, 3, 27, 28, 29] {
        let (mut query, mut seen) = (OrphanQuery::default().limit(limit), Vec::new());
        loop {
            let page = owners.orphans(&query).await?;
            ensure!(page.items.len() <= limit as usize, "a page has at most its limit");
            ensure!(!page.items.is_empty(), "what is promised comes");
            seen.extend(page.items);
            ensure!(seen.len() <= whole.len(), "a walk comes to an end");
            match page.next {
                Some(next) => query = query.after(Some(next)),
                None => break,
            }
        }
        ensure_eq!(seen, whole, "pages of {limit}");
    }
    Ok(())
}

async fn a_cursor_may_stand_where_nothing_is_left(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    ctx.each((1..=4).map(|n| vm(n, "vm", VmRunning))).await?;
    let first = owners.orphans(&OrphanQuery::default().limit(2)).await?;
    ctx.each((1..=3).map(|n| vm(n, "vm", Destroyed))).await?;
    let rest = owners.orphans(&OrphanQuery::default().after(first.next)).await?;
    let expected = [one(4, "vm", &[VmWithoutJob])];
    ensure_eq!(
        told(&rest.items),
        expected,
        "the walk goes on behind what has ended"
    );
    ensure_eq!(rest.next, None, "to its end");
    Ok(())
}

async fn a_cursor_of_memory_works_here(ctx: &Ctx) -> CaseResult {
    let (owners, other) = (of(ctx.backend())?, memory());
    ctx.each((1..=3).map(|n| vm(n, "vm", VmRunning))).await?;
    other
        .apply(&claims((1..=3).map(|n| vm(n, "vm", VmRunning)))?)
        .await?;
    let query = OrphanQuery::default().limit(1);
    let first = of(&other)?.orphans(&query).await?;
    let second = owners.orphans(&query.after(first.next)).await?;
    ensure_eq!(
        told(&second.items),
        [one(2, "vm", &[VmWithoutJob])],
        "a cursor is bound to no store"
    );
    Ok(())
}

async fn cursors_of_other_listings_are_refused(ctx: &Ctx) -> CaseResult {
    let (backend, owners) = (ctx.backend(), of(ctx.backend())?);
    ctx.each((1..=2).map(|n| vm(n, "vm", VmRunning))).await?;
    ctx.each((3..=4).map(|n| job(n, Queued))).await?;
    let after = |cursor| OrphanQuery::default().after(cursor);
    let jobs = backend.jobs(&JobQuery::default().limit(1)).await?.next;
    let vms = backend.vms(&VmQuery::default().limit(1)).await?.next;
    let events = backend.events(&EventQuery::default().limit(1)).await?.next;
    for cursor in [jobs, vms, events] {
        ensure!(cursor.is_some(), "or nothing is tried");
        refused(
            owners.orphans(&after(cursor)).await,
            "after",
            "a cursor of another listing",
        )?;
    }
    let ours = owners.orphans(&OrphanQuery::default().limit(1)).await?.next;
    refused(
        backend.jobs(&JobQuery::default().after(ours.clone())).await,
        "after",
        "ours, of jobs",
    )?;
    refused(
        backend.events(&EventQuery::default().after(ours)).await,
        "after",
        "ours, of events",
    )
}

async fn a_query_beyond_its_limits_is_refused_by_name(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    let wrong = [
        (OrphanQuery::default().limit(0), "limit"),
        (OrphanQuery::default().limit(1_001), "limit"),
        (OrphanQuery::default().actor("é".repeat(65)), "actor"),
        (OrphanQuery::default().actor("nul\0"), "actor"),
        (
            OrphanQuery::default().grace(Duration::from_micros(86_400_000_001)),
            "grace",
        ),
        (
            OrphanQuery::default().after(Some(Cursor::from_text("none"))),
            "after",
        ),
    ];
    for (query, field) in wrong {
        refused(owners.orphans(&query).await, field, "a query beyond its limits")?;
    }
    let widest = OrphanQuery::default()
        .limit(1_000)
        .actor("é".repeat(64))
        .grace(Duration::from_secs(86_400))
        .after(Some(Cursor::encode(&Position::Orphan(
            Uuid::max(),
            "é".repeat(127),
        ))));
    ensure_eq!(
        owners.orphans(&widest).await?.items,
        [],
        "at its limits it is asked"
    );
    Ok(())
}

async fn the_same_day_leaves_what_it_leaves_in_memory(ctx: &Ctx) -> CaseResult {
    let (owners, other) = (of(ctx.backend())?, memory());
    let mut left = 0;
    for seed in 1..=3 {
        // Two of three updates come, so that some of all kinds stay live.
        let updates = (seed..).zip(day(seed, 40)).filter(|(n, _)| n % 3 > 0);
        let updates: Vec<_> = updates.map(|(_, update)| update).collect();
        ctx.apply(updates.clone()).await?;
        other.apply(&claims(updates)?).await?;
        let latest = other.events(&EventQuery::default().limit(1_000)).await?.items;
        let latest = latest.into_iter().map(|slot| slot.recorded_at).max();
        beyond(of(&other)?, latest.unwrap_or_default()).await?;
        of(&other)?.heartbeat(&lasting("scheduler", seed)).await?;
        taken_over(ctx, "scheduler", seed).await?;
        let (here, there) = (all(owners).await?, all(of(&other)?).await?);
        ensure_eq!(told(&here), told(&there), "the same answers as memory");
        let facts = |orphan: &Orphan| (orphan.state, orphan.attempt, orphan.actor.clone());
        let (here, there): (Vec<_>, Vec<_>) = (
            here.iter().map(facts).collect(),
            there.iter().map(facts).collect(),
        );
        ensure_eq!(here, there, "and the same facts");
        left += here.len();
    }
    ensure!(left > 20, "or nothing is compared: {left}");
    Ok(())
}
