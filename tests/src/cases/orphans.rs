//! Orphans: what is live and nobody seems to see to.

use persist_core::JobState::{Cancelled, Lost, Queued, Running, Succeeded, TimedOut};
use persist_core::OrphanKind::{self, JobWithoutVm, OwnerGone, VmWithoutJob};
use persist_core::VmState::{Destroyed, Failed, Prepared, Running as VmRunning, Stopped};
use persist_core::{Event, Orphan, OrphanQuery, Owners, State};
use uuid::Uuid;

use super::cases;
use super::owners::{beyond, lasting, of};
use crate::case::{CaseResult, Ctx, ensure_eq};
use crate::sample::{id, job, vm};

cases! { "orphans":
    an_empty_store_has_none,
    what_an_earlier_start_left_is_told_and_what_the_new_one_reports_is_not,
    what_nobody_known_reported_has_no_owner_that_is_gone,
    the_owner_is_that_of_the_current_slot,
    who_is_filled_in_later_is_the_owner,
    a_live_vm_is_told_where_its_job_is_not_live,
    a_running_job_is_told_where_none_of_its_vms_is_live,
    one_orphan_has_all_its_reasons,
    an_orphan_tells_its_current_slot,
    what_has_ended_is_never_told,
    an_ending_by_hand_ends_it_and_a_reported_one_heals_that,
    a_next_attempt_has_an_owner_of_its_own,
}

pub(super) async fn all(owners: &dyn Owners) -> CaseResult<Vec<Orphan>> {
    let page = owners.orphans(&OrphanQuery::default().limit(1_000)).await?;
    ensure_eq!(page.next, None, "nothing follows a page with room");
    Ok(page.items)
}

/// What is told of orphans, without their times.
pub(super) fn told(orphans: &[Orphan]) -> Vec<(Uuid, String, Vec<OrphanKind>)> {
    let one = |orphan: &Orphan| {
        let (id, name) = orphan.subject.key();
        (id, name.to_owned(), orphan.kinds.clone())
    };
    orphans.iter().map(one).collect()
}

pub(super) fn one(n: u64, name: &str, kinds: &[OrphanKind]) -> (Uuid, String, Vec<OrphanKind>) {
    (id(n), name.to_owned(), kinds.to_vec())
}

/// Another instance takes over this name: all that was reported under it until now is left alone.
pub(super) async fn taken_over(ctx: &Ctx, actor: &str, epoch: u64) -> CaseResult {
    let owners = of(ctx.backend())?;
    let latest = ctx
        .history()
        .await?
        .into_iter()
        .map(|slot| slot.recorded_at)
        .max();
    beyond(owners, latest.unwrap_or_default()).await?;
    owners.heartbeat(&lasting(actor, epoch)).await?;
    Ok(())
}

async fn an_empty_store_has_none(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    ensure_eq!(all(owners).await?, [], "nothing is live");
    owners.heartbeat(&lasting("me", 1)).await?;
    ensure_eq!(all(owners).await?, [], "a beat alone leaves nothing");
    Ok(())
}

async fn what_an_earlier_start_left_is_told_and_what_the_new_one_reports_is_not(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    owners.heartbeat(&lasting("me", 1)).await?;
    ctx.one(job(1, Running).actor("me")).await?;
    ctx.one(vm(1, "vm", VmRunning).actor("me")).await?;
    ctx.one(job(2, Queued).actor("me")).await?;
    ensure_eq!(all(owners).await?, [], "its owner is alive");
    taken_over(ctx, "me", 2).await?;
    ctx.one(job(3, Running).actor("me")).await?;
    ctx.one(job(2, Running).actor("me")).await?;
    let left = told(&all(owners).await?);
    let expected = [one(1, "", &[OwnerGone]), one(1, "vm", &[OwnerGone])];
    ensure_eq!(left, expected, "what the new one reports is its own");
    Ok(())
}

async fn what_nobody_known_reported_has_no_owner_that_is_gone(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    ctx.one(job(1, Running)).await?;
    ctx.one(job(2, Running).actor("a webhook, which never beats"))
        .await?;
    taken_over(ctx, "me", 1).await?;
    ensure_eq!(all(owners).await?, [], "nobody is known to be gone");
    Ok(())
}

async fn the_owner_is_that_of_the_current_slot(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    ctx.one(job(1, Queued).actor("gone")).await?;
    ctx.one(job(1, Running).actor("alive")).await?;
    ctx.one(job(2, Queued).actor("alive")).await?;
    ctx.one(job(2, Running).actor("gone")).await?;
    // Late: told by one who is gone, of a time that is over.
    ctx.one(vm(2, "vm", VmRunning).actor("alive")).await?;
    ctx.one(vm(2, "vm", Prepared).actor("gone")).await?;
    taken_over(ctx, "gone", 1).await?;
    let left = told(&all(owners).await?);
    ensure_eq!(left, [one(2, "", &[OwnerGone])], "who reported last sees to it");
    Ok(())
}

async fn who_is_filled_in_later_is_the_owner(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    ctx.one(job(1, Running)).await?;
    ctx.one(job(1, Running).actor("me")).await?;
    taken_over(ctx, "me", 1).await?;
    let left = told(&all(owners).await?);
    ensure_eq!(
        left,
        [one(1, "", &[OwnerGone])],
        "a slot has one actor, once it is told"
    );
    Ok(())
}

async fn a_live_vm_is_told_where_its_job_is_not_live(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    ctx.each([
        vm(1, "never came", VmRunning),
        vm(2, "b", Prepared),
        vm(2, "a", VmRunning),
    ])
    .await?;
    ctx.each([job(2, Succeeded), job(3, Queued), job(4, Running), job(5, Lost)])
        .await?;
    ctx.each([
        vm(3, "vm", VmRunning),
        vm(4, "vm", Prepared),
        vm(5, "vm", VmRunning),
    ])
    .await?;
    ctx.each([vm(2, "c", Stopped), vm(2, "d", Failed), vm(2, "e", Destroyed)])
        .await?;
    let left = told(&all(owners).await?);
    let expected = [
        one(1, "never came", &[VmWithoutJob]),
        one(2, "a", &[VmWithoutJob]),
        one(2, "b", &[VmWithoutJob]),
        one(5, "vm", &[VmWithoutJob]),
    ];
    ensure_eq!(left, expected, "live VMs whose job never came or has ended");
    Ok(())
}

async fn a_running_job_is_told_where_none_of_its_vms_is_live(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    ctx.each((1..=5).map(|n| job(n, Running))).await?;
    ctx.each([job(6, Queued), job(7, TimedOut)]).await?;
    // The first has no VM, the second a live one, the third one of two.
    ctx.each([
        vm(2, "vm", Prepared),
        vm(3, "a", Destroyed),
        vm(3, "b", VmRunning),
    ])
    .await?;
    ctx.each([vm(4, "vm", Failed), vm(5, "a", Stopped), vm(5, "b", Destroyed)])
        .await?;
    ctx.each([vm(6, "vm", Destroyed), vm(7, "vm", Destroyed)]).await?;
    let left = told(&all(owners).await?);
    let expected = [one(4, "", &[JobWithoutVm]), one(5, "", &[JobWithoutVm])];
    ensure_eq!(left, expected, "running jobs that had VMs, of which none is live");
    Ok(())
}

async fn one_orphan_has_all_its_reasons(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    ctx.one(job(1, Running).actor("me")).await?;
    ctx.one(vm(1, "vm", Destroyed).actor("me")).await?;
    ctx.one(vm(2, "vm", VmRunning).actor("me")).await?;
    taken_over(ctx, "me", 1).await?;
    let left = told(&all(owners).await?);
    let expected = [
        one(1, "", &[OwnerGone, JobWithoutVm]),
        one(2, "vm", &[OwnerGone, VmWithoutJob]),
    ];
    ensure_eq!(left, expected, "a subject is told once, with every reason");
    Ok(())
}

async fn an_orphan_tells_its_current_slot(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    ctx.one(vm(1, "vm", Prepared).actor("first")).await?;
    ctx.one(vm(1, "vm", VmRunning).attempt(3).actor("second")).await?;
    let left = all(owners).await?;
    ensure_eq!(left.len(), 1, "one VM is one orphan");
    let (orphan, history) = (&left[0], ctx.history().await?);
    let slot: &Event = &history[1];
    ensure_eq!(orphan.state, State::Vm(VmRunning), "its state");
    ensure_eq!(orphan.attempt.get(), 3, "its attempt");
    ensure_eq!(orphan.actor.as_deref(), Some("second"), "who reported it");
    ensure_eq!(
        orphan.recorded_at,
        slot.recorded_at,
        "and when, by the store's clock"
    );
    Ok(())
}

async fn what_has_ended_is_never_told(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    let ended = [
        Lost,
        Succeeded,
        Cancelled,
        TimedOut,
        persist_core::JobState::Failed,
    ];
    for (n, state) in (1..).zip(ended) {
        ctx.one(job(n, Running).actor("me")).await?;
        ctx.one(job(n, state).actor("me")).await?;
    }
    for (n, state) in (1..).zip([Stopped, Failed, Destroyed]) {
        ctx.one(vm(n, "vm", VmRunning).actor("me")).await?;
        ctx.one(vm(n, "vm", state).actor("me")).await?;
    }
    taken_over(ctx, "me", 1).await?;
    ensure_eq!(all(owners).await?, [], "nothing more is expected of it");
    Ok(())
}

async fn an_ending_by_hand_ends_it_and_a_reported_one_heals_that(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    ctx.one(job(1, Running).actor("me")).await?;
    ctx.one(vm(1, "vm", VmRunning).actor("me")).await?;
    taken_over(ctx, "me", 1).await?;
    ensure_eq!(all(owners).await?.len(), 2, "both are left alone");
    ctx.one(job(1, Lost).actor("on call").reason("its host died"))
        .await?;
    ctx.one(vm(1, "vm", Failed).actor("on call")).await?;
    ensure_eq!(all(owners).await?, [], "ended by hand");
    ctx.one(job(1, Succeeded).actor("me")).await?;
    ctx.one(vm(1, "vm", Destroyed).actor("me")).await?;
    ensure_eq!(ctx.job(id(1)).await?.state, Succeeded, "what is reported heals");
    ensure_eq!(ctx.vm(id(1), "vm").await?.state, Destroyed, "and a VM goes on");
    ensure_eq!(all(owners).await?, [], "and nothing is left");
    Ok(())
}

async fn a_next_attempt_has_an_owner_of_its_own(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    ctx.one(job(1, Running).actor("gone")).await?;
    ctx.one(job(1, Lost).actor("gone")).await?;
    ctx.one(job(1, Queued).attempt(2).actor("alive")).await?;
    ctx.one(job(2, Lost).actor("alive")).await?;
    ctx.one(job(2, Queued).attempt(2).actor("gone")).await?;
    taken_over(ctx, "gone", 1).await?;
    let left = all(owners).await?;
    ensure_eq!(told(&left), [one(2, "", &[OwnerGone])], "of the current attempt");
    ensure_eq!(left[0].attempt.get(), 2, "which is told");
    Ok(())
}
