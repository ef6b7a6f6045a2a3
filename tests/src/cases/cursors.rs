//! Cursors: good for one listing and order on any backend, and refused where they don't belong.

use std::sync::Arc;

use persist_core::JobState::{Queued, Running};
use persist_core::{
    Cursor, ErrorKind, EventOrder, EventQuery, JobQuery, Order, PersistBackend, Position, Result, VmQuery,
    VmState,
};
use uuid::Uuid;

use super::cases;
use crate::case::{CaseResult, Ctx, Stop, ensure, ensure_eq};
use crate::oracle::memory;
use crate::sample::{at, claims, day, id, job, vm};
use crate::walk;

cases! { "cursors":
    a_damaged_cursor_is_refused,
    what_never_was_a_cursor_is_refused,
    a_cursor_of_another_order_is_refused,
    a_cursor_of_another_listing_is_refused,
    a_cursor_survives_as_text,
    a_cursor_may_go_on_with_another_filter_and_limit,
    a_cursor_may_stand_where_no_row_is,
    a_cursor_of_memory_works_here,
    a_cursor_of_here_works_in_memory,
    a_cursor_by_sequence_is_bound_to_its_store,
    a_cursor_works_on_another_handle,
}

const ORDERS: [Order; 3] = [Order::NewestFirst, Order::OldestFirst, Order::ById];

/// Fails unless it is refused, as `after`.
fn refused<T>(answer: Result<T>, what: &str) -> CaseResult {
    let Err(error) = answer else {
        return Err(Stop::Failed(format!("{what} is refused")));
    };
    let told = (error.kind(), error.context("field"));
    ensure_eq!(
        told,
        (ErrorKind::InvalidInput, Some("after")),
        "{what} is the caller's to fix"
    );
    Ok(())
}

async fn refused_everywhere(ctx: &Ctx, cursor: &Cursor, what: &str) -> CaseResult {
    let backend = ctx.backend();
    let after = || Some(cursor.clone());
    for order in ORDERS {
        refused(
            backend
                .jobs(&JobQuery::default().order(order).after(after()))
                .await,
            what,
        )?;
        refused(
            backend.vms(&VmQuery::default().order(order).after(after())).await,
            what,
        )?;
    }
    for order in [EventOrder::ByKey, EventOrder::BySeq] {
        refused(
            backend
                .events(&EventQuery::default().order(order).after(after()))
                .await,
            what,
        )?;
    }
    Ok(())
}

fn cursor_of(next: Option<Cursor>) -> CaseResult<Cursor> {
    next.ok_or_else(|| Stop::Failed("a page that is followed by another has a cursor".into()))
}

async fn a_damaged_cursor_is_refused(ctx: &Ctx) -> CaseResult {
    ctx.apply((1..=3).map(|n| job(n, Queued))).await?;
    let page = ctx.backend().jobs(&JobQuery::default().limit(1)).await?;
    let whole = cursor_of(page.next)?.as_str().to_owned();
    for place in (0..whole.len()).step_by(7) {
        let mut text = whole.clone();
        let other = if &text[place..=place] == "A" { "B" } else { "A" };
        text.replace_range(place..=place, other);
        let query = JobQuery::default().after(Some(Cursor::from_text(text)));
        refused(
            ctx.backend().jobs(&query).await,
            &format!("a cursor with another byte at {place}"),
        )?;
        let query = JobQuery::default().after(Some(Cursor::from_text(&whole[..place])));
        refused(
            ctx.backend().jobs(&query).await,
            &format!("a cursor cut at {place}"),
        )?;
    }
    let longer = JobQuery::default().after(Some(Cursor::from_text(whole + "AAAA")));
    refused(
        ctx.backend().jobs(&longer).await,
        "a cursor with something behind it",
    )
}

async fn what_never_was_a_cursor_is_refused(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Queued)).await?;
    for text in [
        "",
        "1",
        "AQ",
        "AAAAAAAA",
        "ü",
        "' OR 1=1 --",
        "a b",
        &"A".repeat(100_000),
    ] {
        refused_everywhere(ctx, &Cursor::from_text(text), "what is no cursor").await?;
    }
    Ok(())
}

async fn a_cursor_of_another_order_is_refused(ctx: &Ctx) -> CaseResult {
    ctx.apply((1..=3).map(|n| job(n, Queued))).await?;
    ctx.apply((1..=3).map(|n| vm(n, "vm", VmState::Running))).await?;
    for order in ORDERS {
        let jobs = cursor_of(
            ctx.backend()
                .jobs(&JobQuery::default().order(order).limit(1))
                .await?
                .next,
        )?;
        let vms = cursor_of(
            ctx.backend()
                .vms(&VmQuery::default().order(order).limit(1))
                .await?
                .next,
        )?;
        for other in ORDERS.into_iter().filter(|other| *other != order) {
            let query = JobQuery::default().order(other).after(Some(jobs.clone()));
            refused(ctx.backend().jobs(&query).await, "a cursor of another order")?;
            let query = VmQuery::default().order(other).after(Some(vms.clone()));
            refused(ctx.backend().vms(&query).await, "a cursor of another order")?;
        }
    }
    for [order, other] in [
        [EventOrder::ByKey, EventOrder::BySeq],
        [EventOrder::BySeq, EventOrder::ByKey],
    ] {
        let page = ctx
            .backend()
            .events(&EventQuery::default().order(order).limit(1))
            .await?;
        let query = EventQuery::default()
            .order(other)
            .after(Some(cursor_of(page.next)?));
        refused(ctx.backend().events(&query).await, "a cursor of another order")?;
    }
    Ok(())
}

async fn a_cursor_of_another_listing_is_refused(ctx: &Ctx) -> CaseResult {
    ctx.apply((1..=3).map(|n| job(n, Queued))).await?;
    ctx.apply((1..=3).map(|n| vm(n, "vm", VmState::Running))).await?;
    let backend = ctx.backend();
    let of_jobs = cursor_of(backend.jobs(&JobQuery::default().limit(1)).await?.next)?;
    let of_vms = cursor_of(backend.vms(&VmQuery::default().limit(1)).await?.next)?;
    let of_events = cursor_of(backend.events(&EventQuery::default().limit(1)).await?.next)?;
    for cursor in [&of_vms, &of_events] {
        refused(
            backend
                .jobs(&JobQuery::default().after(Some(cursor.clone())))
                .await,
            "not a cursor of jobs",
        )?;
    }
    for cursor in [&of_jobs, &of_events] {
        refused(
            backend.vms(&VmQuery::default().after(Some(cursor.clone()))).await,
            "not a cursor of VMs",
        )?;
    }
    for cursor in [&of_jobs, &of_vms] {
        let query = EventQuery::default().after(Some(cursor.clone()));
        refused(backend.events(&query).await, "not a cursor of the history")?;
    }
    Ok(())
}

async fn a_cursor_survives_as_text(ctx: &Ctx) -> CaseResult {
    let name = "\"quoted\" ü/?&=%20\n";
    ctx.apply((1..=3).map(|n| vm(n, name, VmState::Running))).await?;
    let first = ctx.backend().vms(&VmQuery::default().limit(1)).await?;
    let text = cursor_of(first.next)?.as_str().to_owned();
    let safe = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    ensure!(safe, "a cursor is safe in a URL, whatever the names are: {text}");
    let rest = ctx
        .backend()
        .vms(&VmQuery::default().after(Some(Cursor::from_text(text))))
        .await?;
    ensure_eq!(rest.items.len(), 2, "and goes on from its text");
    Ok(())
}

async fn a_cursor_may_go_on_with_another_filter_and_limit(ctx: &Ctx) -> CaseResult {
    ctx.apply((1..=20).map(|n| job(n, if n % 2 == 0 { Queued } else { Running }).at(at(n as i64))))
        .await?;
    let query = JobQuery::default().order(Order::OldestFirst);
    let first = ctx.backend().jobs(&query.clone().limit(4)).await?;
    let query = query.after(first.next).states([Running]).limit(3);
    let rest = walk::jobs(ctx.backend(), query).await?;
    let found: Vec<_> = rest.iter().map(|row| row.request_id).collect();
    ensure_eq!(
        found,
        (5..=20).step_by(2).map(id).collect::<Vec<_>>(),
        "it is a place in the order alone"
    );
    Ok(())
}

async fn a_cursor_may_stand_where_no_row_is(ctx: &Ctx) -> CaseResult {
    ctx.apply([2, 4, 6].map(|n| job(n, Queued).at(at(n as i64))))
        .await?;
    for (order, expected) in [
        (Order::OldestFirst, vec![4, 6]),
        (Order::NewestFirst, vec![2]),
        (Order::ById, vec![4, 6]),
    ] {
        let between = Cursor::encode(&Position::Job(order, at(3), id(3)));
        let page = ctx
            .backend()
            .jobs(&JobQuery::default().order(order).after(Some(between)))
            .await?;
        let found: Vec<_> = page.items.iter().map(|row| row.request_id).collect();
        ensure_eq!(
            found,
            expected.into_iter().map(id).collect::<Vec<_>>(),
            "what is beyond, {order:?}"
        );
    }
    let end = Cursor::encode(&Position::EventKey(Uuid::from_u128(u128::MAX), "z".into(), 7));
    let page = ctx
        .backend()
        .events(&EventQuery::default().after(Some(end)))
        .await?;
    ensure!(
        page.items.is_empty() && page.next.is_none(),
        "beyond the end is nothing"
    );
    Ok(())
}

/// Begins each walk on one store and ends it on the other, which hold the same.
async fn change_over(from: &Arc<dyn PersistBackend>, to: &Arc<dyn PersistBackend>) -> CaseResult {
    for order in ORDERS {
        let query = JobQuery::default().order(order).limit(11);
        let first = from.jobs(&query).await?;
        ensure_eq!(
            to.jobs(&query).await?,
            first,
            "equal pages with equal cursors, of jobs, {order:?}"
        );
        let query = query.after(first.next);
        ensure_eq!(
            walk::jobs(to, query.clone()).await?,
            walk::jobs(from, query).await?,
            "jobs go on, {order:?}"
        );
        let query = VmQuery::default().order(order).limit(11);
        let first = from.vms(&query).await?;
        ensure_eq!(
            to.vms(&query).await?,
            first,
            "equal pages with equal cursors, of VMs, {order:?}"
        );
        let query = query.after(first.next);
        ensure_eq!(
            walk::vms(to, query.clone()).await?,
            walk::vms(from, query).await?,
            "VMs go on, {order:?}"
        );
    }
    let query = EventQuery::default().limit(11);
    let first = from.events(&query).await?;
    ensure_eq!(
        to.events(&query).await?.next,
        first.next,
        "equal cursors of the history by key"
    );
    let query = query.after(first.next);
    let slots = |events: Vec<persist_core::Event>| -> Vec<_> {
        events
            .into_iter()
            .map(|event| (event.subject.clone(), event.slot()))
            .collect()
    };
    let (here, there) = (
        walk::events(to, query.clone()).await?,
        walk::events(from, query).await?,
    );
    ensure_eq!(slots(here), slots(there), "the history goes on");
    Ok(())
}

async fn a_cursor_of_memory_works_here(ctx: &Ctx) -> CaseResult {
    let (day, memory) = (day(40, 30), memory());
    memory.apply(&claims(day.clone())?).await?;
    ctx.apply(day).await?;
    change_over(&memory, ctx.backend()).await
}

async fn a_cursor_of_here_works_in_memory(ctx: &Ctx) -> CaseResult {
    let (day, memory) = (day(41, 30), memory());
    memory.apply(&claims(day.clone())?).await?;
    ctx.apply(day).await?;
    change_over(ctx.backend(), &memory).await
}

async fn a_cursor_by_sequence_is_bound_to_its_store(ctx: &Ctx) -> CaseResult {
    let memory = memory();
    let updates = || (1..=3).map(|n| job(n, Queued));
    ctx.apply(updates()).await?;
    memory.apply(&claims(updates())?).await?;
    let query = EventQuery::default().order(EventOrder::BySeq).limit(1);
    let theirs = cursor_of(memory.events(&query).await?.next)?;
    refused(
        ctx.backend().events(&query.clone().after(Some(theirs))).await,
        "a number of another store",
    )?;
    let mine = cursor_of(ctx.backend().events(&query).await?.next)?;
    let rest = ctx
        .backend()
        .events(&query.clone().limit(9).after(Some(mine.clone())))
        .await?;
    ensure_eq!(rest.items.len(), 2, "its own goes on");
    refused(
        memory.events(&query.after(Some(mine))).await,
        "and is nothing elsewhere",
    )
}

async fn a_cursor_works_on_another_handle(ctx: &Ctx) -> CaseResult {
    let other = ctx.another().await?;
    ctx.apply(day(42, 20)).await?;
    change_over(ctx.backend(), &other).await?;
    let query = EventQuery::default().order(EventOrder::BySeq).limit(11);
    let first = ctx.backend().events(&query).await?;
    let query = query.after(first.next);
    let (here, there) = (
        walk::events(ctx.backend(), query.clone()).await?,
        walk::events(&other, query).await?,
    );
    ensure_eq!(there, here, "by sequence as well: it is one store");
    other.close().await?;
    Ok(())
}
