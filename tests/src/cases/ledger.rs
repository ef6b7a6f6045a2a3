//! What was refused: what was tried, what stood, and how often.

use std::sync::Arc;

use futures_util::future::join_all;
use persist_core::JobState::{Cancelled, Failed, Succeeded};
use persist_core::VmState::{Failed as VmFailed, Stopped};
use persist_core::{
    Claim, ErrorKind, Event, Ledger, PersistBackend, PersistExt as _, Prune, Refusal, RefusalQuery, Seq,
    Slot, State, Tried, Update, time,
};

use super::cases;
use super::owners::Patience;
use crate::case::{CaseResult, Ctx, Stop, ensure, ensure_eq};
use crate::sample::{claims, id, job, vm};

cases! { "ledger":
    a_refusal_is_told_as_it_was_tried,
    the_same_try_again_is_counted,
    each_state_that_was_tried_is_one_refusal,
    a_batch_may_name_one_many_times,
    tries_of_many_at_once_all_count,
    a_batch_of_any_size_is_kept,
    a_slot_that_is_not_there_refuses_nothing,
    what_is_pruned_takes_its_refusals_along,
    a_story_tells_what_was_refused,
    refusals_are_no_part_of_the_history,
    the_longest_update_is_kept,
    every_call_after_close_is_closed,
}

/// The power of the store, or a skip.
pub(super) fn of(backend: &Arc<dyn PersistBackend>) -> CaseResult<&dyn Ledger> {
    let none = || Stop::Skipped("this backend keeps no refusals".into());
    backend.ledger().ok_or_else(none)
}

pub(super) fn claim(update: impl Into<Update>) -> CaseResult<Claim> {
    Ok(claims([update.into()])?.remove(0))
}

/// Lets the slots of these tries hold what stands.
pub(super) async fn hold(ctx: &Ctx, tried: &[Tried]) -> CaseResult {
    let standing = tried.iter().map(|one| {
        let mut slot = Slot::claimed_by(&one.claim);
        slot.state = one.standing;
        (slot.actor, slot.reason, slot.attributes) = Default::default();
        let subject = one.claim.subject().clone();
        Update::from(&Event::new(Seq::new(0), slot.at, subject, slot))
    });
    let standing: Vec<_> = standing.collect();
    ctx.apply(standing).await.map(drop)
}

/// Keeps tries that no store was asked about: one whose facade keeps what it refuses would count them once more.
pub(super) async fn keep(ctx: &Ctx, tried: &[Tried]) -> CaseResult {
    hold(ctx, tried).await?;
    Ok(of(ctx.backend())?.keep(tried).await?)
}

async fn keep_one(ctx: &Ctx, standing: State, update: impl Into<Update>) -> CaseResult {
    keep(ctx, &[Tried::new(claim(update)?, standing)]).await
}

/// Applies, and keeps what is refused as the facade does.
async fn try_all(ctx: &Ctx, updates: impl IntoIterator<Item = Update>) -> CaseResult<usize> {
    let claims = claims(updates)?;
    let outcomes = ctx.backend().apply(&claims).await?;
    let tried = Tried::of(&claims, &outcomes);
    of(ctx.backend())?.keep(&tried).await?;
    Ok(tried.len())
}

pub(super) async fn all(ledger: &dyn Ledger) -> CaseResult<Vec<Refusal>> {
    let page = ledger.refusals(&RefusalQuery::default().limit(1_000)).await?;
    ensure_eq!(page.next, None, "or it is not all");
    Ok(page.items)
}

/// What of them does not depend on a clock.
fn facts(refusals: &[Refusal]) -> Vec<(Claim, State, u64)> {
    let fact = |one: &Refusal| (one.claim.clone(), one.standing, one.tries);
    refusals.iter().map(fact).collect()
}

async fn a_refusal_is_told_as_it_was_tried(ctx: &Ctx) -> CaseResult {
    let ledger = of(ctx.backend())?;
    ensure_eq!(all(ledger).await?, [], "nothing was refused");
    let of_job = job(1, Failed).actor("late").reason("no answer").runs_on("big");
    let of_vm = vm(1, "vm-7", VmFailed).attempt(2).overlay_path("/d/7");
    keep_one(ctx, State::Job(Succeeded), of_job.clone()).await?;
    keep_one(ctx, State::Vm(Stopped), of_vm.clone()).await?;
    let mut told = all(ledger).await?;
    told.sort_by(|a, b| a.key().cmp(&b.key()));
    let expected = [
        (claim(of_job)?, State::Job(Succeeded), 1),
        (claim(of_vm)?, State::Vm(Stopped), 1),
    ];
    ensure_eq!(facts(&told), expected, "what was tried, and what stands");
    for one in &told {
        ensure_eq!(one.first_at, one.last_at, "the first try is the last");
    }
    Ok(())
}

async fn the_same_try_again_is_counted(ctx: &Ctx) -> CaseResult {
    let ledger = of(ctx.backend())?;
    let first = job(1, Failed).actor("first");
    keep_one(ctx, State::Job(Succeeded), first.clone()).await?;
    let before = all(ledger).await?.remove(0);
    let patience = Patience::new();
    let (mut tries, mut now) = (1, before.clone());
    while now.last_at == before.last_at {
        patience.pause("the store's clock goes on").await?;
        keep_one(
            ctx,
            State::Job(Succeeded),
            job(1, Failed).actor("second").reason("why"),
        )
        .await?;
        tries += 1;
        now = all(ledger).await?.remove(0);
    }
    let expected = [(claim(first)?, State::Job(Succeeded), tries)];
    ensure_eq!(
        facts(&[now.clone()]),
        expected,
        "one, with the first update, counted"
    );
    ensure_eq!(now.first_at, before.first_at, "since the first");
    ensure!(now.last_at > before.last_at, "until the last");
    let standing = Tried::new(claim(job(1, Failed))?, State::Job(Cancelled)).tries(7);
    ledger.keep(&[standing]).await?;
    let last = all(ledger).await?.remove(0);
    ensure_eq!(
        (last.standing, last.tries),
        (State::Job(Cancelled), tries + 7),
        "what stands is what stood last"
    );
    Ok(())
}

async fn each_state_that_was_tried_is_one_refusal(ctx: &Ctx) -> CaseResult {
    let ledger = of(ctx.backend())?;
    let [of_job, second, of_vm] = [State::Job(Succeeded), State::Job(Failed), State::Vm(Stopped)];
    let tries: Vec<(State, Update)> = vec![
        (of_job, job(1, Failed).into()),
        (of_job, job(1, Cancelled).into()),
        (second, job(1, Cancelled).attempt(2).into()),
        (of_vm, vm(1, "x", VmFailed).into()),
        (of_vm, vm(2, "x", VmFailed).into()),
    ];
    for (standing, update) in tries.iter().cloned().chain(tries.clone()) {
        keep_one(ctx, standing, update).await?;
    }
    let mut told = facts(&all(ledger).await?);
    told.sort_by(|a, b| {
        let key = |claim: &Claim| (claim.subject().clone(), claim.rank(), claim.state().name());
        key(&a.0).cmp(&key(&b.0))
    });
    let claims = [1, 0, 2, 3, 4].map(|n| (tries[n].0, claim(tries[n].1.clone())));
    let expected = claims
        .into_iter()
        .map(|(standing, claim)| Ok((claim?, standing, 2)));
    let expected = expected.collect::<CaseResult<Vec<_>>>()?;
    ensure_eq!(told, expected, "one for each slot and state");
    Ok(())
}

async fn a_batch_may_name_one_many_times(ctx: &Ctx) -> CaseResult {
    let ledger = of(ctx.backend())?;
    let [a, b] = [job(2, Failed).actor("a"), job(1, Failed).actor("b")].map(claim);
    let (a, b, stands) = (a?, b?, State::Job(Succeeded));
    let again = Tried::new(claim(job(2, Failed).actor("c"))?, stands).tries(4);
    ledger.keep(&[]).await?;
    keep(
        ctx,
        &[
            Tried::new(a.clone(), stands),
            Tried::new(b.clone(), stands),
            again,
        ],
    )
    .await?;
    let mut told = facts(&all(ledger).await?);
    told.sort_by_key(|one| one.2);
    ensure_eq!(
        told,
        [(b, stands, 1), (a, stands, 5)],
        "each once, the first update of each"
    );
    Ok(())
}

pub(super) async fn walk(
    ledger: &dyn Ledger,
    mut query: RefusalQuery,
    most: usize,
) -> CaseResult<Vec<Refusal>> {
    let mut seen = Vec::new();
    loop {
        let page = ledger.refusals(&query).await?;
        ensure!(
            page.items.len() <= query.limit as usize,
            "a page has at most its limit"
        );
        ensure!(!page.items.is_empty(), "what is promised comes");
        seen.extend(page.items);
        ensure!(seen.len() <= most, "a walk comes to an end");
        match page.next {
            Some(next) => query = query.after(Some(next)),
            None => return Ok(seen),
        }
    }
}

async fn tries_of_many_at_once_all_count(ctx: &Ctx) -> CaseResult {
    let ledger = of(ctx.backend())?;
    let mut batches = Vec::new();
    for caller in 0..16_u32 {
        // In an order of each caller's own: they must not wait for one another in a circle.
        let mut batch = Vec::new();
        for n in 0..20 {
            let n = (n * (caller + 1) + caller) % 7;
            batch.push(Tried::new(
                claim(job(u64::from(n), Failed))?,
                State::Job(Succeeded),
            ));
        }
        batches.push(batch);
    }
    hold(ctx, &batches.concat()).await?;
    let kept = join_all(batches.iter().map(|batch| ledger.keep(batch))).await;
    kept.into_iter().collect::<persist_core::Result<()>>()?;
    let tries: u64 = all(ledger).await?.iter().map(|one| one.tries).sum();
    ensure_eq!(tries, 16 * 20, "every try counts");
    Ok(())
}

async fn a_batch_of_any_size_is_kept(ctx: &Ctx) -> CaseResult {
    let ledger = of(ctx.backend())?;
    let tried = (1..=1_300).map(|n| Ok(Tried::new(claim(job(n, Failed))?, State::Job(Succeeded))));
    let tried = tried.collect::<CaseResult<Vec<_>>>()?;
    keep(ctx, &tried).await?;
    let query = RefusalQuery::default().limit(1_000);
    ensure_eq!(walk(ledger, query, 1_300).await?.len(), 1_300, "each of them");
    Ok(())
}

/// As after a prune that came between the answer and the account of it.
async fn a_slot_that_is_not_there_refuses_nothing(ctx: &Ctx) -> CaseResult {
    let ledger = of(ctx.backend())?;
    let stands = State::Job(Succeeded);
    let there = Tried::new(claim(job(1, Failed))?, stands);
    hold(ctx, std::slice::from_ref(&there)).await?;
    let gone = [
        Tried::new(claim(job(1, Failed).attempt(2))?, stands),
        Tried::new(claim(vm(1, "x", VmFailed))?, State::Vm(Stopped)),
        Tried::new(claim(job(2, Failed))?, stands),
    ];
    ledger
        .keep(&[&gone[..], std::slice::from_ref(&there)].concat())
        .await?;
    ensure_eq!(
        facts(&all(ledger).await?),
        [(there.claim.clone(), stands, 1)],
        "of the slot that is there"
    );
    ctx.backend().prune(&Prune::default().ids([id(1)])).await?;
    ledger.keep(&[there]).await?;
    ensure_eq!(all(ledger).await?, [], "what was pruned");
    Ok(())
}

async fn what_is_pruned_takes_its_refusals_along(ctx: &Ctx) -> CaseResult {
    let ledger = of(ctx.backend())?;
    for n in 1..=3 {
        ctx.one(job(n, Succeeded)).await?;
        ctx.one(vm(n, "x", Stopped)).await?;
        let tries: [Update; 2] = [job(n, Failed).into(), vm(n, "x", VmFailed).into()];
        ensure_eq!(try_all(ctx, tries).await?, 2, "both are refused");
    }
    let dry = Prune::default().ids([id(1)]).dry_run(true);
    ctx.backend().prune(&dry).await?;
    ensure_eq!(all(ledger).await?.len(), 6, "a dry run takes nothing");
    ctx.backend().prune(&Prune::default().ids([id(1)])).await?;
    let left = all(ledger).await?;
    ensure!(
        left.iter().all(|one| one.claim.subject().request_id() != id(1)),
        "they go with their job"
    );
    ensure_eq!(left.len(), 4, "and with no other");
    ctx.one(job(1, Failed)).await?;
    let story = ctx.backend().explain(id(1), None).await?;
    let refusals = story.and_then(|story| story.refusals);
    ensure_eq!(refusals, Some(Vec::new()), "what begins anew was refused nothing");
    Ok(())
}

async fn a_story_tells_what_was_refused(ctx: &Ctx) -> CaseResult {
    use persist_core::AsOf::{At, RecordedAt};
    of(ctx.backend())?;
    let at =
        |seconds: i64| time::from_micros(1_793_520_000_000_000 + seconds * 1_000_000).unwrap_or_default();
    ctx.one(job(1, Succeeded).at(at(0))).await?;
    ctx.one(job(2, Succeeded).at(at(0))).await?;
    ctx.one(vm(1, "x", Stopped).at(at(0))).await?;
    try_all(
        ctx,
        [
            vm(1, "x", VmFailed).at(at(5)).into(),
            job(1, Failed).at(at(9)).into(),
            job(2, Failed).at(at(1)).into(),
        ],
    )
    .await?;
    let told = |as_of| async move {
        let story = ctx.backend().explain(id(1), as_of).await?;
        let refusals = story.and_then(|story| story.refusals);
        let refusals = refusals.ok_or_else(|| Stop::Failed("the story tells of refusals".into()))?;
        let told = refusals.iter().map(|one| one.claim.at());
        CaseResult::Ok(told.collect::<Vec<_>>())
    };
    ensure_eq!(
        told(None).await?,
        [at(9), at(5)],
        "of the job and its VMs, by key"
    );
    ensure_eq!(told(Some(At(at(5)))).await?, [at(5)], "what was tried by then");
    ensure_eq!(
        told(Some(RecordedAt(time::latest()))).await?.len(),
        2,
        "and at last"
    );
    Ok(())
}

async fn refusals_are_no_part_of_the_history(ctx: &Ctx) -> CaseResult {
    of(ctx.backend())?;
    ctx.one(job(1, Succeeded)).await?;
    let (export, row) = (ctx.export().await?, ctx.job(id(1)).await?);
    try_all(ctx, [job(1, Failed).runs_on("big").into()]).await?;
    ensure_eq!(ctx.export().await?, export, "the history is what it was");
    ensure_eq!(ctx.job(id(1)).await?, row, "and so is the row");
    Ok(())
}

async fn the_longest_update_is_kept(ctx: &Ctx) -> CaseResult {
    let ledger = of(ctx.backend())?;
    // Each of these takes six bytes as JSON.
    let worst = |bytes| "\u{1f}".repeat(bytes);
    let update = vm(1, &worst(255), VmFailed)
        .attempt(2_147_483_647)
        .backend(worst(64))
        .overlay_path(worst(4_096))
        .seed_path(worst(4_096))
        .actor(worst(128))
        .reason(worst(1_024));
    let tried = claim(update)?;
    keep(
        ctx,
        &[Tried::new(tried.clone(), State::Vm(Stopped)).tries(u32::MAX)],
    )
    .await?;
    let told = all(ledger).await?;
    let expected = [(tried, State::Vm(Stopped), u64::from(u32::MAX))];
    ensure_eq!(facts(&told), expected, "as it is");
    let next = ledger.refusals(&RefusalQuery::default().limit(1)).await?.next;
    ensure_eq!(next, None, "there is no other");
    Ok(())
}

async fn every_call_after_close_is_closed(ctx: &Ctx) -> CaseResult {
    let ledger = of(ctx.backend())?;
    let tried = Tried::new(claim(job(1, Failed))?, State::Job(Succeeded));
    ctx.backend().close().await?;
    for (call, answer) in [
        (
            "keep",
            ledger.keep(&[tried]).await.err().map(|error| error.kind()),
        ),
        (
            "keep of nothing",
            ledger.keep(&[]).await.err().map(|error| error.kind()),
        ),
        (
            "refusals",
            ledger
                .refusals(&RefusalQuery::default().limit(0))
                .await
                .err()
                .map(|error| error.kind()),
        ),
    ] {
        ensure_eq!(answer, Some(ErrorKind::Closed), "{call}");
    }
    Ok(())
}
