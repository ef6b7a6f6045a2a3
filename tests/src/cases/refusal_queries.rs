//! Lists of refusals: their order, pages and cursors.

use persist_core::JobState::{Cancelled, Failed, Running, Succeeded};
use persist_core::VmState::{Failed as VmFailed, Stopped};
use persist_core::{Cursor, EventQuery, Position, Refusal, RefusalQuery, State, Tried, time};
use uuid::Uuid;

use super::cases;
use super::ledger::{all, claim, keep, of, walk};
use super::owners::{Patience, refused};
use crate::case::{CaseResult, Ctx, ensure, ensure_eq};
use crate::oracle::memory;
use crate::sample::{id, job, vm};

cases! { "refusal_queries":
    the_last_tried_comes_first,
    pages_of_any_size_see_all_once,
    a_walk_of_one_job_sees_its_own,
    cursors_of_other_listings_are_refused,
    a_query_beyond_its_limits_is_refused_by_name,
}

/// Refusals of several times; as they are listed.
async fn some(ctx: &Ctx) -> CaseResult<Vec<Refusal>> {
    let ledger = of(ctx.backend())?;
    let names = ["ä", "b", "Z", "a b", "🦀"];
    for n in [9, 2, 5] {
        let mut tried = vec![
            Tried::new(claim(job(n, Failed))?, State::Job(Succeeded)),
            Tried::new(claim(job(n, Cancelled))?, State::Job(Succeeded)),
            Tried::new(claim(job(n, Failed).attempt(2))?, State::Job(Succeeded)),
        ];
        for name in names {
            tried.push(Tried::new(claim(vm(n, name, VmFailed))?, State::Vm(Stopped)));
        }
        keep(ctx, &tried).await?;
        let (begun, patience) = (all(ledger).await?[0].last_at, Patience::new());
        let clock = Tried::new(claim(job(99, Failed))?, State::Job(Succeeded));
        while all(ledger).await?[0].last_at <= begun {
            patience.pause("the store's clock goes on").await?;
            keep(ctx, std::slice::from_ref(&clock)).await?;
        }
    }
    all(ledger).await
}

async fn the_last_tried_comes_first(ctx: &Ctx) -> CaseResult {
    let whole = some(ctx).await?;
    ensure_eq!(whole.len(), 25, "all are told");
    let key = |one: &Refusal| {
        let (subject, rank, state) = one.key();
        let (id, name) = subject.key();
        (one.last_at, id, name.to_owned(), rank, state)
    };
    ensure!(
        whole.is_sorted_by(|a, b| key(a) > key(b)),
        "the last first, of one time by their keys backwards"
    );
    let ids: Vec<_> = whole.iter().map(|one| one.claim.subject().request_id()).collect();
    let mut order = ids.clone();
    order.dedup();
    ensure_eq!(order, [id(99), id(5), id(2), id(9)], "as they were tried");
    Ok(())
}

async fn pages_of_any_size_see_all_once(ctx: &Ctx) -> CaseResult {
    let whole = some(ctx).await?;
    let ledger = of(ctx.backend())?;
    for limit in [1, 2, 3, 24, 25, 26] {
        let query = RefusalQuery::default().limit(limit);
        ensure_eq!(walk(ledger, query, 25).await?, whole, "pages of {limit}");
    }
    Ok(())
}

async fn a_walk_of_one_job_sees_its_own(ctx: &Ctx) -> CaseResult {
    let whole = some(ctx).await?;
    let ledger = of(ctx.backend())?;
    for n in [2, 5, 9] {
        let mut expected = whole.clone();
        expected.retain(|one| one.claim.subject().request_id() == id(n));
        ensure_eq!(expected.len(), 8, "of job {n}");
        for limit in [1, 3, 8] {
            let query = RefusalQuery::default().request_id(id(n)).limit(limit);
            ensure_eq!(walk(ledger, query, 8).await?, expected, "pages of {limit}");
        }
    }
    let none = RefusalQuery::default().request_id(id(3));
    ensure_eq!(ledger.refusals(&none).await?.items, [], "of no job");
    Ok(())
}

async fn cursors_of_other_listings_are_refused(ctx: &Ctx) -> CaseResult {
    let (backend, ledger) = (ctx.backend(), of(ctx.backend())?);
    some(ctx).await?;
    ctx.each((1..=2).map(|n| job(n, Running))).await?;
    let events = backend.events(&EventQuery::default().limit(1)).await?.next;
    ensure!(events.is_some(), "or nothing is tried");
    refused(
        ledger.refusals(&RefusalQuery::default().after(events)).await,
        "after",
        "a cursor of another listing",
    )?;
    let ours = ledger.refusals(&RefusalQuery::default().limit(1)).await?.next;
    ensure!(ours.is_some(), "or nothing is tried");
    refused(
        backend.events(&EventQuery::default().after(ours.clone())).await,
        "after",
        "ours, of events",
    )?;
    let (other, stands) = (memory(), State::Job(Succeeded));
    of(&other)?
        .keep(&[Tried::new(claim(job(1, Failed))?, stands)])
        .await?;
    of(&other)?.refusals(&RefusalQuery::default().after(ours)).await?;
    Ok(())
}

async fn a_query_beyond_its_limits_is_refused_by_name(ctx: &Ctx) -> CaseResult {
    let ledger = of(ctx.backend())?;
    let position = |rank, state: &str| {
        let position = Position::Refusal(time::latest(), id(1), String::new(), rank, state.into());
        RefusalQuery::default().after(Some(Cursor::encode(&position)))
    };
    for (query, field) in [
        (RefusalQuery::default().limit(0), "limit"),
        (RefusalQuery::default().limit(1_001), "limit"),
        (
            RefusalQuery::default().after(Some(Cursor::from_text("none"))),
            "after",
        ),
        (position(-1, "failed"), "after"),
        (position(7, "prepared"), "after"),
    ] {
        refused(ledger.refusals(&query).await, field, "a query beyond its limits")?;
    }
    let widest = position(7, "failed").limit(1_000).request_id(Uuid::max());
    ensure_eq!(
        ledger.refusals(&widest).await?.items,
        [],
        "at its limits it is asked"
    );
    Ok(())
}
