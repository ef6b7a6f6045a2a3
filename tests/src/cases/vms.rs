//! What one update of a VM gets, and how VMs and their job keep apart.

use persist_core::VmState::{self, Destroyed, Failed, Prepared, Running, Stopped};
use persist_core::{Attempt, JobState, StateTable as _, Vm, VmKey};

use super::cases;
use crate::case::{CaseResult, Ctx, ensure, ensure_eq};
use crate::sample::{CREATED, MOVED, at, filled, id, job, late, refused, unchanged, vm};

cases! { "vms":
    the_first_update_makes_the_row,
    a_vm_goes_through_its_states,
    every_state_may_come_first,
    a_prepared_vm_may_fail,
    a_lower_phase_is_late,
    stopped_and_failed_exclude_each_other,
    a_refusal_below_destroyed_tells_both,
    the_same_again_is_unchanged_and_more_fills,
    each_attribute_fills_its_blank,
    attempts_count_the_vms_own_starts,
    a_vm_may_come_before_its_job,
    a_job_and_its_vms_move_apart,
    vms_of_one_job_are_told_apart_by_name,
    one_name_in_two_jobs_is_two_vms,
    the_hooks_of_an_orchestrator_tell_a_whole_life,
}

async fn the_first_update_makes_the_row(ctx: &Ctx) -> CaseResult {
    ensure_eq!(
        ctx.one(vm(1, "vm-1", Prepared)).await?,
        CREATED,
        "there was no row yet"
    );
    let row = Vm::new(VmKey::new(id(1), "vm-1"), Prepared, Attempt::FIRST, at(0));
    ensure_eq!(ctx.vm(id(1), "vm-1").await?, row, "the row is its one slot");
    Ok(())
}

async fn a_vm_goes_through_its_states(ctx: &Ctx) -> CaseResult {
    let states = [Prepared, Running, Stopped, Destroyed];
    let outcomes = ctx.each(states.map(|state| vm(1, "vm-1", state))).await?;
    ensure_eq!(
        outcomes,
        [CREATED, MOVED, MOVED, MOVED],
        "each is a phase above the one before"
    );
    let row = ctx.vm(id(1), "vm-1").await?;
    ensure_eq!(
        (row.state, row.created_at, row.updated_at),
        (Destroyed, at(0), at(30)),
        "from first to last"
    );
    Ok(())
}

async fn every_state_may_come_first(ctx: &Ctx) -> CaseResult {
    for (n, line) in (1..).zip(VmState::TABLE) {
        let outcome = ctx.one(vm(n, "vm-1", line.state)).await?;
        ensure_eq!(
            outcome,
            CREATED,
            "the first update makes the row, in {} as well",
            line.name
        );
        ensure_eq!(
            ctx.vm(id(n), "vm-1").await?.state,
            line.state,
            "and the row is read as it was told"
        );
    }
    Ok(())
}

async fn a_prepared_vm_may_fail(ctx: &Ctx) -> CaseResult {
    let outcomes = ctx.each([vm(1, "vm-1", Prepared), vm(1, "vm-1", Failed)]).await?;
    ensure_eq!(outcomes, [CREATED, MOVED], "phases may be skipped");
    Ok(())
}

async fn a_lower_phase_is_late(ctx: &Ctx) -> CaseResult {
    ctx.one(vm(1, "vm-1", Destroyed)).await?;
    for state in [Failed, Running, Prepared] {
        let outcome = ctx.one(vm(1, "vm-1", state)).await?;
        ensure_eq!(
            outcome,
            late(Destroyed, 1),
            "{state} comes late, and the state stays"
        );
    }
    ensure_eq!(ctx.history().await?.len(), 4, "late updates become history");
    Ok(())
}

async fn stopped_and_failed_exclude_each_other(ctx: &Ctx) -> CaseResult {
    for (n, [first, second]) in (1..).zip([[Stopped, Failed], [Failed, Stopped]]) {
        ctx.one(vm(n, "vm-1", first)).await?;
        let before = (ctx.vm(id(n), "vm-1").await?, ctx.history_of(id(n)).await?);
        let outcome = ctx
            .one(vm(n, "vm-1", second).backend("libvirt").at(at(0)))
            .await?;
        ensure_eq!(outcome, refused(first, first, 1), "two endings of one start");
        let after = (ctx.vm(id(n), "vm-1").await?, ctx.history_of(id(n)).await?);
        ensure_eq!(after, before, "a refusal changes nothing");
    }
    Ok(())
}

async fn a_refusal_below_destroyed_tells_both(ctx: &Ctx) -> CaseResult {
    ctx.each([vm(1, "vm-1", Stopped), vm(1, "vm-1", Destroyed)])
        .await?;
    let outcome = ctx.one(vm(1, "vm-1", Failed)).await?;
    ensure_eq!(
        outcome,
        refused(Stopped, Destroyed, 1),
        "standing is the slot's, current is the row's"
    );
    Ok(())
}

async fn the_same_again_is_unchanged_and_more_fills(ctx: &Ctx) -> CaseResult {
    ctx.each([vm(1, "vm-1", Prepared), vm(1, "vm-1", Running)])
        .await?;
    ensure_eq!(
        ctx.one(vm(1, "vm-1", Prepared)).await?,
        unchanged(Running, 1),
        "a repetition is unchanged"
    );
    let more = vm(1, "vm-1", Prepared).actor("scheduler");
    ensure_eq!(
        ctx.one(more.clone()).await?,
        filled(Running, 1),
        "an actor fills, below the row too"
    );
    ensure_eq!(ctx.one(more).await?, unchanged(Running, 1), "once");
    Ok(())
}

async fn each_attribute_fills_its_blank(ctx: &Ctx) -> CaseResult {
    ctx.one(vm(1, "vm-1", Prepared)).await?;
    for update in [
        vm(1, "vm-1", Prepared).backend("libvirt"),
        vm(1, "vm-1", Prepared).overlay_path("/var/vm/1.qcow2"),
        vm(1, "vm-1", Prepared).seed_path("/var/vm/1.iso"),
        vm(1, "vm-1", Prepared).reason("queued job"),
    ] {
        ensure_eq!(
            ctx.one(update.clone()).await?,
            filled(Prepared, 1),
            "filled: the slot had this blank"
        );
        ensure_eq!(
            ctx.one(update).await?,
            unchanged(Prepared, 1),
            "once filled it is no blank any more"
        );
    }
    let other = vm(1, "vm-1", Prepared)
        .backend("bhyve")
        .overlay_path("/b")
        .seed_path("/c");
    ensure_eq!(ctx.one(other).await?, unchanged(Prepared, 1), "a value stays");
    let row = ctx.vm(id(1), "vm-1").await?;
    let found = [
        row.backend.as_deref(),
        row.overlay_path.as_deref(),
        row.seed_path.as_deref(),
    ];
    ensure_eq!(
        found,
        [Some("libvirt"), Some("/var/vm/1.qcow2"), Some("/var/vm/1.iso")],
        "the row has all"
    );
    Ok(())
}

async fn attempts_count_the_vms_own_starts(ctx: &Ctx) -> CaseResult {
    ctx.each([job(1, JobState::Running).attempt(5)]).await?;
    let starts = [
        vm(1, "vm-1", Running),
        vm(1, "vm-1", Stopped),
        vm(1, "vm-1", Running).attempt(2),
    ];
    ensure_eq!(
        ctx.each(starts).await?,
        [CREATED, MOVED, MOVED],
        "started again is the next attempt"
    );
    let (job, vm) = (ctx.job(id(1)).await?, ctx.vm(id(1), "vm-1").await?);
    ensure_eq!(
        (job.attempt.get(), vm.attempt.get()),
        (5, 2),
        "independent of the job's attempts"
    );
    Ok(())
}

async fn a_vm_may_come_before_its_job(ctx: &Ctx) -> CaseResult {
    ensure_eq!(
        ctx.one(vm(1, "vm-1", Running)).await?,
        CREATED,
        "scheduler and consumer may race"
    );
    ensure!(ctx.backend().job(id(1)).await?.is_none(), "a VM makes no job");
    ensure_eq!(
        ctx.one(job(1, JobState::Queued)).await?,
        CREATED,
        "the job's first update makes its row"
    );
    ensure_eq!(
        ctx.vm(id(1), "vm-1").await?.state,
        Running,
        "and the VM is as it was"
    );
    Ok(())
}

async fn a_job_and_its_vms_move_apart(ctx: &Ctx) -> CaseResult {
    ctx.each([job(1, JobState::Succeeded)]).await?;
    ensure_eq!(
        ctx.one(vm(1, "vm-1", Prepared)).await?,
        CREATED,
        "an ended job may still have VMs"
    );
    ensure_eq!(
        ctx.one(vm(1, "vm-1", Running)).await?,
        MOVED,
        "whose slots are their own"
    );
    let row = ctx.job(id(1)).await?;
    ensure_eq!(
        (row.state, row.updated_at),
        (JobState::Succeeded, at(30)),
        "a VM does not touch its job"
    );
    Ok(())
}

async fn vms_of_one_job_are_told_apart_by_name(ctx: &Ctx) -> CaseResult {
    let outcomes = ctx
        .each([vm(1, "a", Stopped), vm(1, "b", Failed), vm(1, "ab", Running)])
        .await?;
    ensure_eq!(
        outcomes,
        [CREATED, CREATED, CREATED],
        "each VM has slots of its own"
    );
    for (name, state) in [("a", Stopped), ("b", Failed), ("ab", Running)] {
        ensure_eq!(
            ctx.vm(id(1), name).await?.state,
            state,
            "{name} is read by its name"
        );
    }
    let other = ctx.backend().vm(&VmKey::new(id(1), "c")).await?;
    ensure!(other.is_none(), "a VM of which no update came is none");
    Ok(())
}

async fn one_name_in_two_jobs_is_two_vms(ctx: &Ctx) -> CaseResult {
    let outcomes = ctx
        .each([vm(1, "vm-1", Destroyed), vm(2, "vm-1", Prepared)])
        .await?;
    ensure_eq!(outcomes, [CREATED, CREATED], "the job is part of a VM's key");
    ensure_eq!(
        ctx.vm(id(2), "vm-1").await?.state,
        Prepared,
        "the second is by itself"
    );
    Ok(())
}

async fn the_hooks_of_an_orchestrator_tell_a_whole_life(ctx: &Ctx) -> CaseResult {
    ensure_eq!(
        ctx.one(job(1, JobState::Queued)).await?,
        CREATED,
        "the consumer accepts"
    );
    ensure_eq!(
        ctx.one(vm(1, "vm-1", Prepared)).await?,
        CREATED,
        "the scheduler prepares"
    );
    ensure_eq!(ctx.one(vm(1, "vm-1", Running)).await?, MOVED, "it starts the VM");
    ensure_eq!(
        ctx.one(job(1, JobState::Running)).await?,
        MOVED,
        "and with it the job"
    );
    ensure_eq!(ctx.one(vm(1, "vm-1", Stopped)).await?, MOVED, "the VM ends");
    ensure_eq!(ctx.one(job(1, JobState::Succeeded)).await?, MOVED, "the job ends");
    ensure_eq!(ctx.one(vm(1, "vm-1", Destroyed)).await?, MOVED, "it cleans up");
    ensure_eq!(ctx.history_of(id(1)).await?.len(), 7, "one slot for each hook");
    Ok(())
}
