//! Pages: their size, where they end, and walks along them while others write. X4 of the table of failures.

use futures_util::TryStreamExt as _;
use persist_core::JobState::{Failed, Queued, Succeeded};
use persist_core::{EventOrder, EventQuery, JobQuery, Order, PersistExt as _, VmQuery, VmState, limits};

use super::cases;
use crate::case::{CaseResult, Ctx, Stop, ensure, ensure_eq};
use crate::sample::{at, day, id, job, vm};
use crate::walk;

cases! { "pages":
    a_page_of_one_row_is_a_page,
    as_many_rows_as_the_limit_are_the_last_page,
    one_row_more_makes_another_page,
    fifty_rows_are_a_page_unless_said_otherwise,
    a_thousand_rows_are_the_largest_page,
    a_limit_outside_of_its_range_is_refused,
    every_size_of_page_walks_along_the_same_rows,
    pages_are_full_where_a_filter_leaves_gaps,
    the_same_cursor_gives_the_same_page,
    streams_go_beyond_a_page,
}

pub(super) const ORDERS: [Order; 3] = [Order::NewestFirst, Order::OldestFirst, Order::ById];

async fn a_page_of_one_row_is_a_page(ctx: &Ctx) -> CaseResult {
    ctx.apply((1..=3).map(|n| job(n, Queued))).await?;
    for order in ORDERS {
        let mut query = JobQuery::default().order(order).limit(1);
        let mut seen = Vec::new();
        for last in [false, false, true] {
            let page = ctx.backend().jobs(&query).await?;
            ensure_eq!(page.items.len(), 1, "one row a page");
            ensure_eq!(page.next.is_none(), last, "and a next page but for the last");
            seen.push(page.items[0].request_id);
            query = query.after(page.next);
        }
        seen.sort_unstable();
        ensure_eq!(seen, [id(1), id(2), id(3)], "each once");
    }
    Ok(())
}

async fn as_many_rows_as_the_limit_are_the_last_page(ctx: &Ctx) -> CaseResult {
    ctx.apply((1..=5).map(|n| job(n, Queued))).await?;
    ctx.apply((1..=5).map(|n| vm(n, "vm", VmState::Running))).await?;
    let jobs = ctx.backend().jobs(&JobQuery::default().limit(5)).await?;
    ensure!(
        jobs.items.len() == 5 && jobs.next.is_none(),
        "no empty page follows, of jobs"
    );
    let vms = ctx.backend().vms(&VmQuery::default().limit(5)).await?;
    ensure!(
        vms.items.len() == 5 && vms.next.is_none(),
        "no empty page follows, of VMs"
    );
    for order in [EventOrder::ByKey, EventOrder::BySeq] {
        let events = ctx
            .backend()
            .events(&EventQuery::default().order(order).limit(10))
            .await?;
        ensure!(
            events.items.len() == 10 && events.next.is_none(),
            "no empty page follows, {order:?}"
        );
    }
    Ok(())
}

async fn one_row_more_makes_another_page(ctx: &Ctx) -> CaseResult {
    ctx.apply((1..=6).map(|n| vm(n, "vm", VmState::Running))).await?;
    let first = ctx.backend().vms(&VmQuery::default().limit(5)).await?;
    ensure!(
        first.items.len() == 5 && first.next.is_some(),
        "a full page, and a cursor"
    );
    let second = ctx
        .backend()
        .vms(&VmQuery::default().limit(5).after(first.next))
        .await?;
    ensure!(
        second.items.len() == 1 && second.next.is_none(),
        "the one that is left, and no cursor"
    );
    Ok(())
}

async fn fifty_rows_are_a_page_unless_said_otherwise(ctx: &Ctx) -> CaseResult {
    ctx.apply((0..51).map(|n| job(n, Queued))).await?;
    ctx.apply((0..51).map(|n| vm(n, "vm", VmState::Running))).await?;
    let jobs = ctx.backend().jobs(&JobQuery::default()).await?;
    ensure!(jobs.items.len() == 50 && jobs.next.is_some(), "50 jobs");
    let vms = ctx.backend().vms(&VmQuery::default()).await?;
    ensure!(vms.items.len() == 50 && vms.next.is_some(), "50 VMs");
    let events = ctx.backend().events(&EventQuery::default()).await?;
    ensure!(events.items.len() == 50 && events.next.is_some(), "50 slots");
    Ok(())
}

async fn a_thousand_rows_are_the_largest_page(ctx: &Ctx) -> CaseResult {
    ctx.apply((0..1_001).map(|n| job(n, Queued))).await?;
    let first = ctx
        .backend()
        .jobs(&JobQuery::default().limit(limits::LARGEST_PAGE))
        .await?;
    ensure!(
        first.items.len() == 1_000 && first.next.is_some(),
        "1,000 jobs in one page"
    );
    let rest = ctx
        .backend()
        .jobs(&JobQuery::default().limit(limits::LARGEST_PAGE).after(first.next))
        .await?;
    ensure!(
        rest.items.len() == 1 && rest.next.is_none(),
        "and one in the next"
    );
    let events = ctx
        .backend()
        .events(&EventQuery::default().limit(limits::LARGEST_PAGE))
        .await?;
    ensure!(
        events.items.len() == 1_000 && events.next.is_some(),
        "the same for the history"
    );
    Ok(())
}

async fn a_limit_outside_of_its_range_is_refused(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Queued)).await?;
    for limit in [0, 1_001, u32::MAX] {
        let errors = [
            ctx.backend().jobs(&JobQuery::default().limit(limit)).await.err(),
            ctx.backend().vms(&VmQuery::default().limit(limit)).await.err(),
            ctx.backend()
                .events(&EventQuery::default().limit(limit))
                .await
                .err(),
            ctx.backend()
                .events(&EventQuery::default().order(EventOrder::BySeq).limit(limit))
                .await
                .err(),
        ];
        for error in errors {
            let error = error.ok_or_else(|| Stop::Failed(format!("a page of {limit} rows is refused")))?;
            let told = (error.kind(), error.context("field"));
            ensure_eq!(
                told,
                (persist_core::ErrorKind::InvalidInput, Some("limit")),
                "1 to 1,000 rows"
            );
        }
    }
    Ok(())
}

async fn every_size_of_page_walks_along_the_same_rows(ctx: &Ctx) -> CaseResult {
    ctx.apply(day(30, 40)).await?;
    let whole = EventQuery::default().limit(1_000);
    let by_key = walk::events(ctx.backend(), whole.clone()).await?;
    let by_seq = walk::events(ctx.backend(), whole.order(EventOrder::BySeq)).await?;
    ensure_eq!(by_key.len(), by_seq.len(), "both orders hold the whole history");
    for order in ORDERS {
        let jobs = walk::jobs(ctx.backend(), JobQuery::default().order(order).limit(1_000)).await?;
        let vms = walk::vms(ctx.backend(), VmQuery::default().order(order).limit(1_000)).await?;
        for limit in [1, 2, 7, 39, 40, 41] {
            let found = walk::jobs(ctx.backend(), JobQuery::default().order(order).limit(limit)).await?;
            ensure_eq!(found, jobs, "jobs, {order:?}, in pages of {limit}");
            let found = walk::vms(ctx.backend(), VmQuery::default().order(order).limit(limit)).await?;
            ensure_eq!(found, vms, "VMs, {order:?}, in pages of {limit}");
        }
    }
    for limit in [1, 2, 7, 100] {
        let query = EventQuery::default().limit(limit);
        ensure_eq!(
            walk::events(ctx.backend(), query.clone()).await?,
            by_key,
            "by key, in pages of {limit}"
        );
        let found = walk::events(ctx.backend(), query.order(EventOrder::BySeq)).await?;
        ensure_eq!(found, by_seq, "by sequence, in pages of {limit}");
    }
    Ok(())
}

async fn pages_are_full_where_a_filter_leaves_gaps(ctx: &Ctx) -> CaseResult {
    let state = |n: u64| if n.is_multiple_of(10) { Failed } else { Succeeded };
    ctx.apply((0..200).map(|n| job(n, state(n)).at(at(n as i64))))
        .await?;
    for order in ORDERS {
        let query = JobQuery::default().states([Failed]).order(order).limit(8);
        let first = ctx.backend().jobs(&query).await?;
        ensure!(
            first.items.len() == 8 && first.next.is_some(),
            "eight that match, not eight that were read"
        );
        ensure_eq!(
            walk::jobs(ctx.backend(), query).await?.len(),
            20,
            "and twenty in all"
        );
    }
    Ok(())
}

async fn the_same_cursor_gives_the_same_page(ctx: &Ctx) -> CaseResult {
    ctx.apply((0..30).map(|n| job(n, Queued).at(at(n as i64 / 4))))
        .await?;
    for order in ORDERS {
        let first = ctx
            .backend()
            .jobs(&JobQuery::default().order(order).limit(10))
            .await?;
        let query = JobQuery::default().order(order).limit(10).after(first.next);
        let (one, other) = (
            ctx.backend().jobs(&query).await?,
            ctx.backend().jobs(&query).await?,
        );
        ensure_eq!(one, other, "a cursor is a place; asking does not use it up");
    }
    Ok(())
}

async fn streams_go_beyond_a_page(ctx: &Ctx) -> CaseResult {
    ctx.apply((0..1_100).map(|n| job(n, Queued))).await?;
    ctx.apply((0..1_100).map(|n| vm(n, "vm", VmState::Running)))
        .await?;
    let backend = ctx.backend();
    // A query's own limit does not bound a stream.
    let jobs: Vec<_> = backend
        .all_jobs(JobQuery::default().order(Order::ById).limit(3))
        .try_collect()
        .await?;
    ensure!(
        jobs.iter().map(|row| row.request_id).eq((0..1_100).map(id)),
        "all jobs, in order"
    );
    let vms: Vec<_> = backend
        .all_vms(VmQuery::default().order(Order::ById))
        .try_collect()
        .await?;
    ensure!(
        vms.iter().map(|row| row.request_id).eq((0..1_100).map(id)),
        "all VMs, in order"
    );
    let events: Vec<_> = backend
        .all_events(EventQuery::default().order(EventOrder::BySeq))
        .try_collect()
        .await?;
    ensure_eq!(events.len(), 2_200, "the whole history");
    let lines: Vec<_> = backend.export().try_collect().await?;
    ensure_eq!(lines, ctx.export().await?, "the export is the walk by key");
    Ok(())
}
