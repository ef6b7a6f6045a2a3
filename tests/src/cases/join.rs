//! The law: what a store holds depends on the set of updates, not on their order, number or packing.

use persist_core::JobState::{Lost, Queued, Running, Succeeded};
use persist_core::{Event, JobUpdate, Outcome, Update, VmState, VmUpdate, jsonl};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::cases;
use crate::case::{CaseResult, Ctx, ensure, ensure_eq, export};
use crate::oracle::{memory, one_by_one, same_content};
use crate::sample::{at, claims, day, id, job, late, shuffled, vm};
use crate::{contention, walk};

cases! { "join":
    every_order_of_a_jobs_updates_gives_one_row,
    every_order_of_a_vms_updates_gives_one_row,
    a_day_in_any_order_is_the_same_day,
    a_day_in_any_batches_is_the_same_day,
    a_day_that_is_told_twice_is_told_once,
    a_retry_after_a_lost_reply_is_unchanged,
    updates_that_disagree_leave_what_came_first,
    x5_an_old_entry_that_is_replayed_moves_nothing,
    two_stores_that_read_each_others_export_are_equal,
    importing_its_own_export_changes_nothing,
}

/// Lists every order of the numbers below `count`.
pub(super) fn orders(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else {
        return vec![Vec::new()];
    };
    let shorter = orders(last);
    let with_last = |order: &Vec<usize>| {
        let order = order.clone();
        (0..count).map(move |place| {
            let mut order = order.clone();
            order.insert(place, last);
            order
        })
    };
    shorter.iter().flat_map(with_last).collect()
}

/// Five compatible updates of one job: two of them share a slot.
fn of_job(n: u64) -> [JobUpdate; 5] {
    [
        job(n, Queued)
            .at(at(5))
            .repo_url("https://example.org/a.git")
            .actor("webhook"),
        job(n, Queued).at(at(5)).commit_sha("beef").reason("push"),
        job(n, Running).at(at(3)).runs_on("small"),
        job(n, Lost).at(at(40)),
        job(n, Succeeded).at(at(30)).runs_on("large").attempt(2),
    ]
}

fn of_vm(n: u64) -> [VmUpdate; 4] {
    [
        vm(n, "vm", VmState::Prepared)
            .at(at(9))
            .backend("libvirt")
            .overlay_path("/a"),
        vm(n, "vm", VmState::Running).at(at(1)).overlay_path("/b"),
        vm(n, "vm", VmState::Running)
            .at(at(1))
            .seed_path("/c")
            .actor("scheduler"),
        vm(n, "vm", VmState::Destroyed).at(at(4)).backend("bhyve"),
    ]
}

/// The slots of a history without what the store gives, nor whose they are.
fn slots(history: &[Event]) -> Vec<persist_core::Slot> {
    history.iter().map(Event::slot).collect()
}

async fn every_order_of_a_jobs_updates_gives_one_row(ctx: &Ctx) -> CaseResult {
    let orders = orders(5);
    for step in 0..5 {
        let next = (1..)
            .zip(&orders)
            .map(|(n, order)| of_job(n)[order[step]].clone());
        ctx.apply(next).await?;
    }
    let (mut first, history) = (ctx.job(id(1)).await?, slots(&ctx.history_of(id(1)).await?));
    ensure_eq!(history.len(), 4, "two of the five share a slot");
    for (n, order) in (1..).zip(&orders) {
        first.request_id = id(n);
        ensure_eq!(
            ctx.job(id(n)).await?,
            first,
            "any order gives the same row: {order:?}"
        );
        let found = slots(&ctx.history_of(id(n)).await?);
        ensure_eq!(found, history, "any order gives the same history: {order:?}");
    }
    Ok(())
}

async fn every_order_of_a_vms_updates_gives_one_row(ctx: &Ctx) -> CaseResult {
    let orders = orders(4);
    for step in 0..4 {
        let next = (1..).zip(&orders).map(|(n, order)| of_vm(n)[order[step]].clone());
        ctx.apply(next).await?;
    }
    let (mut first, history) = (ctx.vm(id(1), "vm").await?, slots(&ctx.history_of(id(1)).await?));
    ensure_eq!(history.len(), 3, "two of the four share a slot");
    for (n, order) in (1..).zip(&orders) {
        first.request_id = id(n);
        ensure_eq!(
            ctx.vm(id(n), "vm").await?,
            first,
            "any order gives the same row: {order:?}"
        );
        let found = slots(&ctx.history_of(id(n)).await?);
        ensure_eq!(found, history, "any order gives the same history: {order:?}");
    }
    Ok(())
}

async fn a_day_in_any_order_is_the_same_day(ctx: &Ctx) -> CaseResult {
    let (day, memory) = (day(1, 120), memory());
    memory.apply(&claims(day.clone())?).await?;
    ctx.apply(shuffled(2, day)).await?;
    same_content(ctx.backend(), &memory, "order does not matter").await
}

async fn a_day_in_any_batches_is_the_same_day(ctx: &Ctx) -> CaseResult {
    let (day, memory) = (day(3, 60), memory());
    one_by_one(&memory, &day).await?;
    let mut rest = day.as_slice();
    for size in [1, 2, 3, 5, 8, 13, 21, 34, 55].into_iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (batch, later) = rest.split_at(size.min(rest.len()));
        ctx.apply(batch.to_vec()).await?;
        rest = later;
    }
    same_content(ctx.backend(), &memory, "packing does not matter").await
}

async fn a_day_that_is_told_twice_is_told_once(ctx: &Ctx) -> CaseResult {
    let (day, memory) = (day(4, 60), memory());
    memory.apply(&claims(day.clone())?).await?;
    let doubled = [day.clone(), day].concat();
    ctx.apply(shuffled(5, doubled)).await?;
    same_content(ctx.backend(), &memory, "number does not matter").await
}

async fn a_retry_after_a_lost_reply_is_unchanged(ctx: &Ctx) -> CaseResult {
    let day = day(6, 40);
    ctx.apply(day.clone()).await?;
    let (history, rows) = (
        ctx.history().await?,
        walk::jobs(ctx.backend(), Default::default()).await?,
    );
    let again = ctx.apply(day).await?;
    let moved = again
        .iter()
        .find(|outcome| !matches!(outcome, Outcome::Unchanged { .. }));
    ensure_eq!(
        moved,
        None,
        "sending a batch again is safe: every update of it is unchanged"
    );
    ensure_eq!(
        ctx.history().await?,
        history,
        "and the history stays, its numbers included"
    );
    ensure_eq!(
        walk::jobs(ctx.backend(), Default::default()).await?,
        rows,
        "and so do the rows"
    );
    Ok(())
}

async fn updates_that_disagree_leave_what_came_first(ctx: &Ctx) -> CaseResult {
    let (mut random, memory) = (StdRng::seed_from_u64(7), memory());
    for round in 0..40 {
        let updates = contention::updates(round, &mut random);
        let expected = one_by_one(&memory, &updates).await?;
        ensure_eq!(
            ctx.each(updates).await?,
            expected,
            "the first stands and the other is told"
        );
    }
    same_content(
        ctx.backend(),
        &memory,
        "where two updates of a slot disagree, the first stands",
    )
    .await
}

async fn x5_an_old_entry_that_is_replayed_moves_nothing(ctx: &Ctx) -> CaseResult {
    let day = day(8, 40);
    ctx.apply(day.clone()).await?;
    let rows = walk::jobs(ctx.backend(), Default::default()).await?;
    let machines = walk::vms(ctx.backend(), Default::default()).await?;
    for entry in shuffled(9, day).into_iter().take(60) {
        let outcome = ctx.one(entry).await?;
        ensure!(
            matches!(outcome, Outcome::Unchanged { .. }),
            "what stands is unchanged, not {outcome}"
        );
    }
    // Entries that the store never saw are old as well where the row is further.
    for job in &rows {
        let entry = JobUpdate::new(job.request_id, Lost)
            .attempt(job.attempt.get())
            .at(job.updated_at);
        let outcome = ctx.one(entry).await?;
        ensure_eq!(
            outcome,
            late(job.state, job.attempt.get()),
            "what is below the row is late"
        );
    }
    ensure_eq!(
        walk::jobs(ctx.backend(), Default::default()).await?,
        rows,
        "no row moved"
    );
    ensure_eq!(
        walk::vms(ctx.backend(), Default::default()).await?,
        machines,
        "no VM's either"
    );
    Ok(())
}

/// Reads lines of the exchange format.
pub(super) fn updates_of(lines: &[String]) -> CaseResult<Vec<Update>> {
    Ok(lines
        .iter()
        .map(|line| jsonl::parse(line))
        .collect::<persist_core::Result<_>>()?)
}

async fn two_stores_that_read_each_others_export_are_equal(ctx: &Ctx) -> CaseResult {
    let (day, other) = (day(10, 60), memory());
    let (early, late) = (&day[..day.len() * 2 / 3], &day[day.len() / 3..]);
    ctx.apply(early.to_vec()).await?;
    other.apply(&claims(late.to_vec())?).await?;
    let (mine, theirs) = (ctx.export().await?, export(&other).await?);
    ensure!(mine != theirs, "the two know different parts of the day");
    ctx.apply(updates_of(&theirs)?).await?;
    other.apply(&claims(updates_of(&mine)?)?).await?;
    same_content(
        ctx.backend(),
        &other,
        "the merge of two stores is the same from both sides",
    )
    .await
}

async fn importing_its_own_export_changes_nothing(ctx: &Ctx) -> CaseResult {
    ctx.apply(day(11, 40)).await?;
    let (lines, history) = (ctx.export().await?, ctx.history().await?);
    ensure_eq!(lines.len(), history.len(), "every slot is a line");
    let outcomes = ctx.apply(updates_of(&lines)?).await?;
    let moved = outcomes
        .iter()
        .find(|outcome| !matches!(outcome, Outcome::Unchanged { .. }));
    ensure_eq!(
        moved,
        None,
        "a backup that is read into the database it is of changes nothing"
    );
    ensure_eq!(ctx.history().await?, history, "and the history stays");
    Ok(())
}
