//! Walks along pages while others write. X4 of the table of failures.

use std::collections::BTreeMap;

use persist_core::JobState::{Failed, Queued, Running};
use persist_core::{EventOrder, EventQuery, JobQuery, Prune, VmQuery, VmState};
use uuid::Uuid;

use super::cases;
use super::pages::ORDERS;
use crate::case::{CaseResult, Ctx, ensure, ensure_eq};
use crate::sample::{at, id, job, vm};
use crate::walk;

cases! { "pages":
    x4_jobs_are_seen_once_while_others_come,
    x4_vms_are_seen_once_while_others_come,
    x4_the_history_is_seen_once_while_it_grows,
    x4_jobs_are_seen_once_while_they_move,
    x4_walks_are_whole_beside_a_writer,
    x4_a_row_that_went_does_not_stop_the_walk,
}

async fn x4_jobs_are_seen_once_while_others_come(ctx: &Ctx) -> CaseResult {
    // Even ones stand; odd ones come between, before and after them while the walk is on.
    ctx.apply((0..60).map(|n| job(2 * n, Queued).at(at(n as i64 / 3))))
        .await?;
    for (round, order) in ORDERS.into_iter().enumerate() {
        let mut query = JobQuery::default().order(order).limit(7);
        let (mut seen, mut step) = (Vec::new(), 0);
        loop {
            let page = ctx.backend().jobs(&query).await?;
            seen.extend(page.items.iter().map(|row| row.request_id));
            let new = (0..3).map(|k| 1 + 2 * ((step * 37 + k * 19 + round as u64 * 11) % 60));
            ctx.apply(new.map(|n| job(n, Queued).at(at(n as i64 % 20))))
                .await?;
            step += 1;
            match page.next {
                Some(next) => query = query.after(Some(next)),
                None => break,
            }
        }
        each_once(&counted(seen), (0..60).map(|n| 2 * n))?;
    }
    Ok(())
}

async fn x4_vms_are_seen_once_while_others_come(ctx: &Ctx) -> CaseResult {
    ctx.apply((0..60).map(|n| vm(2 * n, "vm", VmState::Running).at(at(n as i64 / 3))))
        .await?;
    for order in ORDERS {
        let mut query = VmQuery::default().order(order).limit(7);
        let (mut seen, mut step) = (Vec::new(), 0);
        loop {
            let page = ctx.backend().vms(&query).await?;
            let standing = page.items.iter().filter(|row| row.domain_name == "vm");
            seen.extend(standing.map(|row| row.request_id));
            let new = (0..3).map(|k| (step * 37 + k * 19) % 120);
            let name = format!("{order:?}-{step}");
            ctx.apply(new.map(|n| vm(n, &name, VmState::Running).at(at(n as i64 % 20))))
                .await?;
            step += 1;
            match page.next {
                Some(next) if step < 500 => query = query.after(Some(next)),
                _ => break,
            }
        }
        each_once(&counted(seen), (0..60).map(|n| 2 * n))?;
    }
    Ok(())
}

async fn x4_the_history_is_seen_once_while_it_grows(ctx: &Ctx) -> CaseResult {
    ctx.apply((0..60).map(|n| job(2 * n, Running))).await?;
    for (order, state) in [(EventOrder::ByKey, Queued), (EventOrder::BySeq, Failed)] {
        let mut query = EventQuery::default().order(order).limit(7);
        let (mut seen, mut step) = (Vec::new(), 0_u64);
        loop {
            let page = ctx.backend().events(&query).await?;
            let standing = page.items.iter().filter(|event| event.state == Running.into());
            seen.extend(standing.map(|event| event.subject.request_id()));
            let new = (0..3).map(|k| (step * 37 + k * 19) % 120);
            ctx.apply(new.map(|n| job(n, state))).await?;
            step += 1;
            match page.next {
                Some(next) if step < 500 => query = query.after(Some(next)),
                _ => break,
            }
        }
        each_once(&counted(seen), (0..60).map(|n| 2 * n))?;
    }
    Ok(())
}

async fn x4_jobs_are_seen_once_while_they_move(ctx: &Ctx) -> CaseResult {
    ctx.apply((0..60).map(|n| job(n, Queued).at(at(n as i64 / 3))))
        .await?;
    for (attempt, order) in (1..).zip(ORDERS) {
        let mut query = JobQuery::default().order(order).limit(7);
        let mut seen = Vec::new();
        loop {
            let page = ctx.backend().jobs(&query).await?;
            seen.extend(page.items.iter().map(|row| row.request_id));
            // They move forward; their beginning does not.
            for state in [Running, Failed] {
                ctx.apply((0..60).map(|n| job(n, state).attempt(attempt).at(at(100))))
                    .await?;
            }
            match page.next {
                Some(next) => query = query.after(Some(next)),
                None => break,
            }
        }
        ensure_eq!(seen.len(), 60, "no more than there are");
        each_once(&counted(seen), 0..60)?;
    }
    Ok(())
}

async fn x4_walks_are_whole_beside_a_writer(ctx: &Ctx) -> CaseResult {
    ctx.apply((0..200).map(|n| job(n, Queued).at(at(n as i64 / 3))))
        .await?;
    let backend = std::sync::Arc::clone(ctx.backend());
    let writer = tokio::spawn(async move {
        for n in 200..400 {
            let claims = crate::sample::claims([
                job(n, Queued).at(at(n as i64 % 70)),
                job(n - 200, Running).at(at(100)),
            ])?;
            backend.apply(&claims).await?;
        }
        Ok::<_, persist_core::Error>(())
    });
    for order in ORDERS.into_iter().cycle().take(9) {
        let rows = walk::jobs(ctx.backend(), JobQuery::default().order(order).limit(13)).await?;
        let seen = counted(rows.iter().map(|row| row.request_id));
        each_once(&seen, 0..200)?;
        ensure!(
            seen.values().all(|times| *times == 1),
            "and nothing else is seen twice"
        );
    }
    writer.await??;
    Ok(())
}

async fn x4_a_row_that_went_does_not_stop_the_walk(ctx: &Ctx) -> CaseResult {
    for order in ORDERS {
        ctx.apply((1..=9).map(|n| job(n, Failed).at(at(n as i64))))
            .await?;
        let query = JobQuery::default().order(order).limit(3);
        let first = ctx.backend().jobs(&query).await?;
        let last = first.items[2].request_id;
        ctx.backend().prune(&Prune::default().ids([last])).await?;
        let rest = walk::jobs(ctx.backend(), query.after(first.next)).await?;
        ensure_eq!(
            rest.len(),
            6,
            "a cursor is a place in the order, not a row: {order:?}"
        );
        let again = rest.iter().any(|row| first.items.contains(row));
        ensure!(!again, "and none comes twice");
    }
    Ok(())
}

/// How often each was seen.
fn counted(ids: impl IntoIterator<Item = Uuid>) -> BTreeMap<Uuid, usize> {
    let mut counts = BTreeMap::new();
    for id in ids {
        *counts.entry(id).or_default() += 1;
    }
    counts
}

fn each_once(seen: &BTreeMap<Uuid, usize>, throughout: impl IntoIterator<Item = u64>) -> CaseResult {
    for n in throughout {
        ensure_eq!(
            seen.get(&id(n)),
            Some(&1),
            "what stood throughout is seen exactly once: {n}"
        );
    }
    Ok(())
}
