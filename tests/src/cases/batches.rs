//! Batches: outcomes by position, as if the updates had been applied one by one.

use persist_core::JobState::{Cancelled, Failed, Queued, Running, Succeeded};
use persist_core::{Attribute, JobState, JobUpdate, Outcome, StateTable as _, Update, VmState, VmUpdate};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::cases;
use super::join::orders;
use crate::case::{CaseResult, Ctx, ensure_eq};
use crate::oracle::{memory, one_by_one, same_content};
use crate::sample::{CREATED, MOVED, at, day, filled, id, job, late, refused, unchanged, vm};

cases! { "batches":
    an_empty_batch_is_fine,
    outcomes_come_by_position,
    a_batch_may_name_a_subject_many_times,
    a_batch_may_tell_a_subject_backwards,
    every_order_of_a_batch_is_as_one_by_one,
    a_repeated_slot_is_applied_and_then_unchanged,
    a_repeated_slot_may_fill_what_the_batch_just_claimed,
    a_second_ending_in_a_batch_is_refused,
    a_repetition_tells_the_row_as_of_its_position,
    jobs_and_vms_may_be_mixed,
    any_batch_is_as_one_by_one,
    a_batch_onto_rows_that_are_there_is_as_one_by_one,
    a_batch_that_is_sent_again_changes_nothing,
}

async fn an_empty_batch_is_fine(ctx: &Ctx) -> CaseResult {
    ensure_eq!(ctx.apply([] as [Update; 0]).await?, [], "no update, no outcome");
    ctx.one(job(1, Queued)).await?;
    ensure_eq!(
        ctx.apply([] as [Update; 0]).await?,
        [],
        "nor onto a store that holds something"
    );
    ensure_eq!(ctx.history().await?.len(), 1, "and nothing is stored");
    Ok(())
}

async fn outcomes_come_by_position(ctx: &Ctx) -> CaseResult {
    ctx.each([job(9, Running), job(5, Failed), job(7, Queued)])
        .await?;
    // Not in the order of ids: a store that sorts must sort back.
    let batch = [
        job(9, Queued),
        job(1, Queued),
        job(5, Succeeded),
        job(7, Queued).reason("push"),
        job(7, Queued),
    ];
    let expected = [
        late(Running, 1),
        CREATED,
        refused(Failed, Failed, 1),
        filled(Queued, 1),
        unchanged(Queued, 1),
    ];
    ensure_eq!(
        ctx.apply(batch).await?,
        expected,
        "each update's outcome is at its place"
    );
    Ok(())
}

async fn a_batch_may_name_a_subject_many_times(ctx: &Ctx) -> CaseResult {
    let outcomes = ctx
        .apply([job(1, Queued), job(1, Running), job(1, Succeeded)])
        .await?;
    ensure_eq!(outcomes, [CREATED, MOVED, MOVED], "only the first makes the row");
    ensure_eq!(ctx.job(id(1)).await?.state, Succeeded, "the last is the highest");
    Ok(())
}

async fn a_batch_may_tell_a_subject_backwards(ctx: &Ctx) -> CaseResult {
    let outcomes = ctx
        .apply([job(1, Succeeded), job(1, Running), job(1, Queued)])
        .await?;
    let expected = [CREATED, late(Succeeded, 1), late(Succeeded, 1)];
    ensure_eq!(outcomes, expected, "as if applied one by one, in order");
    Ok(())
}

async fn every_order_of_a_batch_is_as_one_by_one(ctx: &Ctx) -> CaseResult {
    let memory = memory();
    for (n, order) in (1..).zip(orders(5)) {
        let updates = [
            job(n, Queued).runs_on("small"),
            job(n, Queued).at(at(7)).commit_sha("beef"),
            job(n, Failed).runs_on("large"),
            job(n, Cancelled).reason("superseded"),
            job(n, Running).attempt(2),
        ];
        let batch: Vec<Update> = order.iter().map(|place| updates[*place].clone().into()).collect();
        let expected = one_by_one(&memory, &batch).await?;
        ensure_eq!(
            ctx.apply(batch).await?,
            expected,
            "as if applied one by one, in the order {order:?}"
        );
    }
    same_content(
        ctx.backend(),
        &memory,
        "a batch leaves what its updates leave one by one",
    )
    .await
}

async fn a_repeated_slot_is_applied_and_then_unchanged(ctx: &Ctx) -> CaseResult {
    let outcomes = ctx
        .apply([job(1, Queued), job(1, Queued), job(2, Queued), job(1, Queued)])
        .await?;
    let again = unchanged(Queued, 1);
    ensure_eq!(
        outcomes,
        [CREATED, again, CREATED, again],
        "the second finds the slot held by the first"
    );
    ensure_eq!(ctx.history().await?.len(), 2, "a slot is claimed once");
    Ok(())
}

async fn a_repeated_slot_may_fill_what_the_batch_just_claimed(ctx: &Ctx) -> CaseResult {
    let batch = [
        job(1, Queued).runs_on("small"),
        job(1, Queued).commit_sha("beef"),
        job(1, Queued).runs_on("large").actor("me"),
        job(1, Queued).commit_sha("cafe").runs_on("huge"),
        job(1, Queued).reason("push"),
    ];
    let fill = filled(Queued, 1);
    let expected = [CREATED, fill, fill, unchanged(Queued, 1), fill];
    ensure_eq!(
        ctx.apply(batch).await?,
        expected,
        "each fills what was blank when its turn came"
    );
    let slot = &ctx.history().await?[0];
    let found = (
        slot.attributes.get(Attribute::RunsOn),
        slot.attributes.get(Attribute::CommitSha),
    );
    ensure_eq!(
        found,
        (Some("small"), Some("beef")),
        "the first value of each stands"
    );
    let said = (slot.actor.as_deref(), slot.reason.as_deref());
    ensure_eq!(said, (Some("me"), Some("push")), "actor and reason too");
    Ok(())
}

async fn a_second_ending_in_a_batch_is_refused(ctx: &Ctx) -> CaseResult {
    let batch = [
        job(1, Succeeded),
        job(1, Failed),
        job(1, Succeeded),
        job(1, Queued).attempt(2),
        job(1, Failed),
    ];
    let expected = [
        CREATED,
        refused(Succeeded, Succeeded, 1),
        unchanged(Succeeded, 1),
        MOVED,
        refused(Succeeded, Queued, 2),
    ];
    ensure_eq!(
        ctx.apply(batch).await?,
        expected,
        "the first ending of the batch stands"
    );
    Ok(())
}

async fn a_repetition_tells_the_row_as_of_its_position(ctx: &Ctx) -> CaseResult {
    let queued = || job(1, Queued);
    let batch = [
        queued(),
        queued(),
        job(1, Running),
        queued(),
        job(1, Failed),
        queued().reason("push"),
    ];
    let expected = [
        CREATED,
        unchanged(Queued, 1),
        MOVED,
        unchanged(Running, 1),
        MOVED,
        filled(Failed, 1),
    ];
    ensure_eq!(
        ctx.apply(batch).await?,
        expected,
        "current is the row as it stood after this very update"
    );
    Ok(())
}

async fn jobs_and_vms_may_be_mixed(ctx: &Ctx) -> CaseResult {
    let batch: [Update; 6] = [
        vm(1, "b", VmState::Running).into(),
        job(1, Running).into(),
        vm(1, "a", VmState::Prepared).into(),
        job(1, Queued).into(),
        vm(1, "b", VmState::Prepared).into(),
        vm(2, "b", VmState::Failed).into(),
    ];
    let expected = [
        CREATED,
        CREATED,
        CREATED,
        late(Running, 1),
        late(VmState::Running, 1),
        CREATED,
    ];
    ensure_eq!(
        ctx.apply(batch).await?,
        expected,
        "a batch may hold both, of one job too"
    );
    Ok(())
}

/// Updates that meet: few subjects, few values, every kind of outcome.
fn meeting(random: &mut StdRng, most: usize) -> Vec<Update> {
    let count = random.random_range(1..=most);
    let some = |random: &mut StdRng| -> Update {
        let (n, attempt) = (random.random_range(1..=3), random.random_range(1..=2));
        let time = at(random.random_range(0..50));
        let word = *["one", "two"].choose(random).expect("is not empty");
        if random.random_bool(0.4) {
            let state = VmState::TABLE.choose(random).expect("is not empty").state;
            let name = *["a", "b"].choose(random).expect("is not empty");
            let update = VmUpdate::new(id(n), name, state).attempt(attempt).at(time);
            return match random.random_range(0..4) {
                0 => update.backend(word),
                1 => update.seed_path(word).overlay_path(word),
                2 => update.actor(word),
                _ => update,
            }
            .into();
        }
        let state = JobState::TABLE.choose(random).expect("is not empty").state;
        let update = JobUpdate::new(id(n), state).attempt(attempt).at(time);
        match random.random_range(0..5) {
            0 => update.runs_on(word),
            1 => update.repo_url(word).commit_sha("beef"),
            2 => update.actor(word),
            3 => update.reason(word),
            _ => update,
        }
        .into()
    };
    (0..count).map(|_| some(random)).collect()
}

async fn any_batch_is_as_one_by_one(ctx: &Ctx) -> CaseResult {
    // Each batch meets rows of its own, so that the merge inside of a batch is what is asked.
    for seed in 0..25 {
        let memory = memory();
        let batch = meeting(&mut StdRng::seed_from_u64(seed), 60);
        let expected = one_by_one(&memory, &batch).await?;
        ensure_eq!(
            ctx.apply(batch).await?,
            expected,
            "outcomes are as if applied one by one (seed {seed})"
        );
        same_content(ctx.backend(), &memory, "and so is what they leave").await?;
        ctx.backend()
            .prune(&persist_core::Prune::default().ids((1..=3).map(id)))
            .await?;
    }
    Ok(())
}

async fn a_batch_onto_rows_that_are_there_is_as_one_by_one(ctx: &Ctx) -> CaseResult {
    let (mut random, memory) = (StdRng::seed_from_u64(99), memory());
    for round in 0..40 {
        let batch = meeting(&mut random, 12);
        let expected = one_by_one(&memory, &batch).await?;
        ensure_eq!(
            ctx.apply(batch).await?,
            expected,
            "outcomes are as if applied one by one (round {round})"
        );
    }
    same_content(ctx.backend(), &memory, "and so is what they leave").await
}

async fn a_batch_that_is_sent_again_changes_nothing(ctx: &Ctx) -> CaseResult {
    let batch = [day(12, 30), vec![job(1, Failed).into(), job(1, Cancelled).into()]].concat();
    ctx.apply(batch.clone()).await?;
    let history = ctx.history().await?;
    let outcomes = ctx.apply(batch).await?;
    let told = |outcome: &&Outcome| !matches!(outcome, Outcome::Unchanged { .. } | Outcome::Refused { .. });
    ensure_eq!(
        outcomes.iter().find(told),
        None,
        "after an error, sending a batch again is safe"
    );
    ensure_eq!(ctx.history().await?, history, "what stood already is not touched");
    Ok(())
}
