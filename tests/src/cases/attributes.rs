//! Where a row's attributes come from: each from the highest slot that has one.

use persist_core::JobState::{Failed, Lost, Queued, Running, Succeeded};
use persist_core::{Attribute, VmState};

use super::cases;
use crate::case::{CaseResult, Ctx, ensure_eq};
use crate::sample::{MOVED, filled, id, job, late, unchanged, vm};

cases! { "attributes":
    the_highest_slot_that_has_one_gives_the_value,
    a_blank_in_a_higher_slot_takes_no_value_away,
    each_attribute_comes_from_its_own_slot,
    a_late_update_may_bring_what_no_higher_slot_has,
    a_late_update_does_not_override_a_higher_slot,
    a_late_update_overrides_a_lower_slot,
    a_fill_of_a_low_slot_does_not_override_a_high_one,
    a_fill_of_a_high_slot_overrides_a_low_one,
    a_fill_at_the_rows_own_rank_shows_at_once,
    a_fill_between_two_slots_lands_between_them,
    the_next_attempt_keeps_what_it_does_not_say,
    a_refused_ending_does_not_give_its_values,
    a_vms_attributes_follow_the_same_rule,
    the_history_keeps_what_each_slot_brought,
    actor_and_reason_are_of_a_slot_and_not_inherited,
}

async fn runs_on(ctx: &Ctx) -> CaseResult<Option<String>> {
    Ok(ctx.job(id(1)).await?.runs_on)
}

async fn the_highest_slot_that_has_one_gives_the_value(ctx: &Ctx) -> CaseResult {
    for (state, value) in [(Queued, "small"), (Running, "large"), (Succeeded, "huge")] {
        ctx.one(job(1, state).runs_on(value)).await?;
        ensure_eq!(
            runs_on(ctx).await?.as_deref(),
            Some(value),
            "the higher slot's value is the row's"
        );
    }
    Ok(())
}

async fn a_blank_in_a_higher_slot_takes_no_value_away(ctx: &Ctx) -> CaseResult {
    ctx.one(
        job(1, Queued)
            .repo_url("https://example.org/a.git")
            .commit_sha("beef")
            .runs_on("small"),
    )
    .await?;
    ctx.each([job(1, Running), job(1, Failed)]).await?;
    let row = ctx.job(id(1)).await?;
    let found = [
        row.repo_url.as_deref(),
        row.commit_sha.as_deref(),
        row.runs_on.as_deref(),
    ];
    let expected = [Some("https://example.org/a.git"), Some("beef"), Some("small")];
    ensure_eq!(
        found,
        expected,
        "each attribute is from the highest slot that has one"
    );
    Ok(())
}

async fn each_attribute_comes_from_its_own_slot(ctx: &Ctx) -> CaseResult {
    ctx.one(
        job(1, Queued)
            .repo_url("https://example.org/0.git")
            .commit_sha("0000")
            .runs_on("zero"),
    )
    .await?;
    ctx.one(job(1, Running).commit_sha("1111").runs_on("one")).await?;
    ctx.one(job(1, Lost).runs_on("two")).await?;
    let row = ctx.job(id(1)).await?;
    let found = [
        row.repo_url.as_deref(),
        row.commit_sha.as_deref(),
        row.runs_on.as_deref(),
    ];
    let expected = [Some("https://example.org/0.git"), Some("1111"), Some("two")];
    ensure_eq!(found, expected, "three attributes, three slots");
    Ok(())
}

async fn a_late_update_may_bring_what_no_higher_slot_has(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Succeeded).commit_sha("beef")).await?;
    let outcome = ctx
        .one(
            job(1, Queued)
                .repo_url("https://example.org/a.git")
                .commit_sha("0000"),
        )
        .await?;
    ensure_eq!(
        outcome,
        late(Succeeded, 1),
        "the state stays; attributes are joined"
    );
    let row = ctx.job(id(1)).await?;
    ensure_eq!(
        row.repo_url.as_deref(),
        Some("https://example.org/a.git"),
        "no higher slot has this one"
    );
    ensure_eq!(
        row.commit_sha.as_deref(),
        Some("beef"),
        "a higher slot has this one"
    );
    Ok(())
}

async fn a_late_update_does_not_override_a_higher_slot(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Running).runs_on("large")).await?;
    ctx.one(job(1, Queued).runs_on("small")).await?;
    ensure_eq!(
        runs_on(ctx).await?.as_deref(),
        Some("large"),
        "the highest slot that has one"
    );
    Ok(())
}

async fn a_late_update_overrides_a_lower_slot(ctx: &Ctx) -> CaseResult {
    ctx.each([job(1, Queued).runs_on("small"), job(1, Succeeded)])
        .await?;
    ensure_eq!(
        ctx.one(job(1, Running).runs_on("large")).await?,
        late(Succeeded, 1),
        "between the two"
    );
    ensure_eq!(
        runs_on(ctx).await?.as_deref(),
        Some("large"),
        "running is above queued, and has one"
    );
    Ok(())
}

async fn a_fill_of_a_low_slot_does_not_override_a_high_one(ctx: &Ctx) -> CaseResult {
    ctx.each([
        job(1, Queued),
        job(1, Running).runs_on("large"),
        job(1, Succeeded),
    ])
    .await?;
    ensure_eq!(
        ctx.one(job(1, Queued).runs_on("small")).await?,
        filled(Succeeded, 1),
        "the slot was blank"
    );
    ensure_eq!(
        runs_on(ctx).await?.as_deref(),
        Some("large"),
        "a higher slot has one"
    );
    let slot = ctx.history().await?.remove(0);
    let own = slot.attributes.get(Attribute::RunsOn);
    ensure_eq!(own, Some("small"), "the low slot keeps what filled it");
    Ok(())
}

async fn a_fill_of_a_high_slot_overrides_a_low_one(ctx: &Ctx) -> CaseResult {
    ctx.each([
        job(1, Queued).runs_on("small"),
        job(1, Running),
        job(1, Succeeded),
    ])
    .await?;
    ensure_eq!(
        ctx.one(job(1, Running).runs_on("large")).await?,
        filled(Succeeded, 1),
        "the slot was blank"
    );
    ensure_eq!(
        runs_on(ctx).await?.as_deref(),
        Some("large"),
        "the filled slot is the higher one"
    );
    Ok(())
}

async fn a_fill_at_the_rows_own_rank_shows_at_once(ctx: &Ctx) -> CaseResult {
    ctx.each([job(1, Queued).runs_on("small"), job(1, Running)])
        .await?;
    ensure_eq!(
        ctx.one(job(1, Running).runs_on("large")).await?,
        filled(Running, 1),
        "the row's own slot"
    );
    ensure_eq!(
        runs_on(ctx).await?.as_deref(),
        Some("large"),
        "is the highest that has one"
    );
    let again = ctx.one(job(1, Running).runs_on("other")).await?;
    ensure_eq!(again, unchanged(Running, 1), "and it stays");
    Ok(())
}

async fn a_fill_between_two_slots_lands_between_them(ctx: &Ctx) -> CaseResult {
    ctx.each([
        job(1, Queued).runs_on("small"),
        job(1, Running),
        job(1, Succeeded).commit_sha("beef"),
    ])
    .await?;
    ctx.one(job(1, Running).runs_on("large").commit_sha("0000"))
        .await?;
    let row = ctx.job(id(1)).await?;
    let found = (row.runs_on.as_deref(), row.commit_sha.as_deref());
    ensure_eq!(
        found,
        (Some("large"), Some("beef")),
        "above queued for one, below succeeded for the other"
    );
    Ok(())
}

async fn the_next_attempt_keeps_what_it_does_not_say(ctx: &Ctx) -> CaseResult {
    ctx.each([job(1, Queued).commit_sha("beef").runs_on("small"), job(1, Lost)])
        .await?;
    ensure_eq!(
        ctx.one(job(1, Queued).attempt(2).runs_on("large")).await?,
        MOVED,
        "a new run"
    );
    let row = ctx.job(id(1)).await?;
    let found = (row.runs_on.as_deref(), row.commit_sha.as_deref());
    ensure_eq!(
        found,
        (Some("large"), Some("beef")),
        "values come from older attempts where newer are blank"
    );
    Ok(())
}

async fn a_refused_ending_does_not_give_its_values(ctx: &Ctx) -> CaseResult {
    ctx.each([job(1, Queued).runs_on("small"), job(1, Failed)])
        .await?;
    ctx.one(job(1, Succeeded).runs_on("large")).await?;
    ensure_eq!(
        runs_on(ctx).await?.as_deref(),
        Some("small"),
        "what is refused leaves no trace"
    );
    Ok(())
}

async fn a_vms_attributes_follow_the_same_rule(ctx: &Ctx) -> CaseResult {
    ctx.one(vm(1, "vm", VmState::Running).overlay_path("/high"))
        .await?;
    ctx.one(
        vm(1, "vm", VmState::Prepared)
            .backend("libvirt")
            .overlay_path("/low")
            .seed_path("/seed"),
    )
    .await?;
    ctx.one(vm(1, "vm", VmState::Destroyed)).await?;
    ctx.one(vm(1, "vm", VmState::Running).backend("bhyve")).await?;
    let row = ctx.vm(id(1), "vm").await?;
    let found = [
        row.backend.as_deref(),
        row.overlay_path.as_deref(),
        row.seed_path.as_deref(),
    ];
    ensure_eq!(
        found,
        [Some("bhyve"), Some("/high"), Some("/seed")],
        "each from the highest that has one"
    );
    Ok(())
}

async fn the_history_keeps_what_each_slot_brought(ctx: &Ctx) -> CaseResult {
    ctx.each([
        job(1, Queued).runs_on("small"),
        job(1, Running),
        job(1, Succeeded).runs_on("large"),
    ])
    .await?;
    let history = ctx.history().await?;
    let found: Vec<_> = history
        .iter()
        .map(|event| event.attributes.get(Attribute::RunsOn))
        .collect();
    ensure_eq!(
        found,
        [Some("small"), None, Some("large")],
        "a slot holds its own values, not the row's"
    );
    Ok(())
}

async fn actor_and_reason_are_of_a_slot_and_not_inherited(ctx: &Ctx) -> CaseResult {
    ctx.each([
        job(1, Queued).actor("webhook").reason("push"),
        job(1, Running).actor("runner"),
    ])
    .await?;
    ctx.one(job(1, Succeeded).reason("all green")).await?;
    let history = ctx.history().await?;
    let found: Vec<_> = history
        .iter()
        .map(|event| (event.actor.as_deref(), event.reason.as_deref()))
        .collect();
    let expected = [
        (Some("webhook"), Some("push")),
        (Some("runner"), None),
        (None, Some("all green")),
    ];
    ensure_eq!(found, expected, "who and why belong to the slot");
    Ok(())
}
