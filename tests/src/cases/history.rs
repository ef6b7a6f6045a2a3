//! The history: its order by key and by sequence, and the numbers that it gives.

use persist_core::JobState::{Failed, Queued, Running, Succeeded};
use persist_core::{
    Attribute, Event, EventOrder, EventQuery, JobUpdate, Prune, Rank, Subject, VmKey, VmState,
};

use super::cases;
use crate::case::{CaseResult, Ctx, Stop, ensure, ensure_eq};
use crate::sample::{at, day, filled, id, job, shuffled, vm};
use crate::walk;

cases! { "history":
    a_slot_is_an_event_with_all_that_it_holds,
    events_are_ordered_by_job_then_name_then_rank,
    ranks_are_ordered_as_numbers,
    events_of_one_job_are_those_of_its_vms_too,
    a_job_of_which_nothing_came_has_no_history,
    numbers_ascend_as_slots_are_claimed,
    numbers_are_given_once,
    a_fill_moves_its_slot_to_the_end,
    what_changes_nothing_gives_no_number,
    the_events_of_one_job_come_by_sequence_too,
    a_number_is_not_given_again_after_prune,
    a_number_is_not_given_again_after_all_went,
    a_number_is_not_given_again_after_reopening,
}

fn by_seq() -> EventQuery {
    EventQuery::default().order(EventOrder::BySeq).limit(1_000)
}

fn last_seq(events: &[Event]) -> CaseResult<i64> {
    let seqs = events.iter().map(|event| event.seq.get());
    seqs.max()
        .ok_or_else(|| Stop::Failed("what was applied is in the history".into()))
}

async fn a_slot_is_an_event_with_all_that_it_holds(ctx: &Ctx) -> CaseResult {
    let update = job(1, Running)
        .attempt(3)
        .at(at(7))
        .repo_url("https://example.org/a.git")
        .commit_sha("beef");
    ctx.one(update.runs_on("large").actor("runner").reason("picked up"))
        .await?;
    let update = vm(1, "vm", VmState::Stopped)
        .attempt(2)
        .at(at(8))
        .backend("libvirt")
        .overlay_path("/o");
    ctx.one(update.seed_path("/s").actor("scheduler").reason("done"))
        .await?;
    let history = ctx.history().await?;
    let [of_job, of_vm] = history.as_slice() else {
        return Err(Stop::Failed(format!("two slots, found {}", history.len())));
    };
    ensure_eq!(of_job.subject, Subject::Job(id(1)), "whose it is");
    ensure_eq!(
        (of_job.attempt().get(), of_job.rank.phase()),
        (3, 1),
        "which slot"
    );
    ensure_eq!(
        (of_job.state.name(), of_job.at),
        ("running", at(7)),
        "what and when"
    );
    let said = (of_job.actor.as_deref(), of_job.reason.as_deref());
    ensure_eq!(said, (Some("runner"), Some("picked up")), "who and why");
    let found = Attribute::ALL.map(|attribute| of_job.attributes.get(attribute));
    let expected = [
        Some("https://example.org/a.git"),
        Some("beef"),
        Some("large"),
        None,
        None,
        None,
    ];
    ensure_eq!(
        found,
        expected,
        "and what it brought; a job's VM attributes are blank"
    );
    ensure_eq!(
        of_vm.subject,
        Subject::Vm(VmKey::new(id(1), "vm")),
        "the same of a VM"
    );
    ensure_eq!(
        (of_vm.attempt().get(), of_vm.rank.phase(), of_vm.at),
        (2, 2, at(8)),
        "which slot and when"
    );
    let found = Attribute::ALL.map(|attribute| of_vm.attributes.get(attribute));
    let expected = [None, None, None, Some("libvirt"), Some("/o"), Some("/s")];
    ensure_eq!(found, expected, "a VM's job attributes are blank");
    Ok(())
}

async fn events_are_ordered_by_job_then_name_then_rank(ctx: &Ctx) -> CaseResult {
    let day = [
        day(50, 40),
        vec![
            vm(3, "\u{1}", VmState::Running).into(),
            vm(3, "B", VmState::Running).into(),
        ],
    ];
    ctx.apply(shuffled(51, day.concat())).await?;
    let keys: Vec<(Subject, Rank)> = ctx
        .history()
        .await?
        .into_iter()
        .map(|event| (event.subject, event.rank))
        .collect();
    ensure!(
        keys.is_sorted(),
        "request_id, the job before its VMs, names by bytes, rank"
    );
    let mut once = keys.clone();
    once.dedup();
    ensure_eq!(once.len(), keys.len(), "each slot once");
    Ok(())
}

async fn ranks_are_ordered_as_numbers(ctx: &Ctx) -> CaseResult {
    let attempts = [1, 2, 9, 10, 99, 100, 1_000, 2_147_483_647];
    ctx.apply(
        shuffled(52, attempts.to_vec())
            .into_iter()
            .map(|attempt| job(1, Failed).attempt(attempt)),
    )
    .await?;
    let found: Vec<_> = ctx
        .history()
        .await?
        .iter()
        .map(|event| event.attempt().get())
        .collect();
    ensure_eq!(found, attempts, "2 comes before 10");
    ensure_eq!(
        ctx.job(id(1)).await?.attempt.get(),
        2_147_483_647,
        "and the highest is the row's"
    );
    Ok(())
}

async fn events_of_one_job_are_those_of_its_vms_too(ctx: &Ctx) -> CaseResult {
    for n in 1..=3 {
        ctx.each([job(n, Queued), job(n, Running)]).await?;
        ctx.each([vm(n, "b", VmState::Running), vm(n, "a", VmState::Running)])
            .await?;
    }
    let history = ctx.history_of(id(2)).await?;
    let found: Vec<_> = history
        .iter()
        .map(|event| (event.subject.key(), event.state.name()))
        .collect();
    let expected = [
        ((id(2), ""), "queued"),
        ((id(2), ""), "running"),
        ((id(2), "a"), "running"),
        ((id(2), "b"), "running"),
    ];
    ensure_eq!(
        found,
        expected,
        "the job, then its VMs by name, and nobody else's"
    );
    let paged = walk::events(ctx.backend(), EventQuery::default().request_id(id(2)).limit(1)).await?;
    ensure_eq!(paged, history, "in pages too");
    Ok(())
}

async fn a_job_of_which_nothing_came_has_no_history(ctx: &Ctx) -> CaseResult {
    ctx.each([job(1, Queued), job(3, Queued)]).await?;
    for order in [EventOrder::ByKey, EventOrder::BySeq] {
        let query = EventQuery::default().request_id(id(2)).order(order);
        let page = ctx.backend().events(&query).await?;
        ensure!(
            page.items.is_empty() && page.next.is_none(),
            "an empty page, and nothing that follows"
        );
    }
    Ok(())
}

async fn numbers_ascend_as_slots_are_claimed(ctx: &Ctx) -> CaseResult {
    for n in [5, 3, 9, 1] {
        ctx.one(job(n, Queued)).await?;
    }
    let events = walk::events(ctx.backend(), by_seq()).await?;
    let found: Vec<_> = events.iter().map(|event| event.subject.request_id()).collect();
    ensure_eq!(
        found,
        [5, 3, 9, 1].map(id),
        "by sequence they come as they were claimed"
    );
    Ok(())
}

async fn numbers_are_given_once(ctx: &Ctx) -> CaseResult {
    ctx.apply(day(53, 60)).await?;
    let seqs: Vec<_> = walk::events(ctx.backend(), by_seq())
        .await?
        .iter()
        .map(|event| event.seq)
        .collect();
    ensure!(
        seqs.windows(2).all(|pair| pair[0] < pair[1]),
        "each slot has a number of its own, ascending"
    );
    Ok(())
}

async fn a_fill_moves_its_slot_to_the_end(ctx: &Ctx) -> CaseResult {
    ctx.each([job(1, Queued), job(2, Queued), job(3, Queued)]).await?;
    let before = last_seq(&walk::events(ctx.backend(), by_seq()).await?)?;
    ensure_eq!(
        ctx.one(job(1, Queued).reason("push")).await?,
        filled(Queued, 1),
        "a fill"
    );
    let events = walk::events(ctx.backend(), by_seq()).await?;
    let found: Vec<_> = events.iter().map(|event| event.subject.request_id()).collect();
    ensure_eq!(
        found,
        [2, 3, 1].map(id),
        "gives its slot a new number, the highest"
    );
    ensure!(events[2].seq.get() > before, "one that no slot had");
    Ok(())
}

async fn what_changes_nothing_gives_no_number(ctx: &Ctx) -> CaseResult {
    ctx.each([job(1, Succeeded).actor("me"), job(2, Queued)]).await?;
    let before = walk::events(ctx.backend(), by_seq()).await?;
    ctx.each([job(1, Succeeded), job(1, Succeeded).actor("you"), job(1, Failed)])
        .await?;
    ctx.apply([job(1, Succeeded), job(1, Failed), job(2, Queued)])
        .await?;
    let after = walk::events(ctx.backend(), by_seq()).await?;
    ensure_eq!(
        after,
        before,
        "unchanged and refused updates leave every number as it is"
    );
    Ok(())
}

async fn the_events_of_one_job_come_by_sequence_too(ctx: &Ctx) -> CaseResult {
    ctx.each([job(2, Running), job(1, Queued), job(2, Queued), job(3, Queued)])
        .await?;
    ctx.each([vm(2, "vm", VmState::Running), vm(1, "vm", VmState::Running)])
        .await?;
    let events = walk::events(ctx.backend(), by_seq().request_id(id(2)).limit(1)).await?;
    let found: Vec<_> = events
        .iter()
        .map(|event| (event.subject.domain_name(), event.state.name()))
        .collect();
    ensure_eq!(
        found,
        [("", "running"), ("", "queued"), ("vm", "running")],
        "this job's and no one else's"
    );
    Ok(())
}

async fn a_number_is_not_given_again_after_prune(ctx: &Ctx) -> CaseResult {
    ctx.each([job(1, Failed), job(2, Failed), job(3, Failed)]).await?;
    let before = last_seq(&ctx.history().await?)?;
    // The one with the highest number goes: a store that counts from what it holds would give it again.
    ctx.backend().prune(&Prune::default().ids([id(3)])).await?;
    ctx.one(job(4, Failed)).await?;
    let after = ctx.history_of(id(4)).await?;
    ensure!(last_seq(&after)? > before, "a sequence number is never reused");
    Ok(())
}

async fn a_number_is_not_given_again_after_all_went(ctx: &Ctx) -> CaseResult {
    ctx.apply((1..=5).map(|n| job(n, Failed))).await?;
    let before = last_seq(&ctx.history().await?)?;
    ctx.backend().prune(&Prune::default().states([Failed])).await?;
    ensure!(ctx.history().await?.is_empty(), "nothing is left");
    ctx.one(job(1, Failed)).await?;
    ensure!(
        last_seq(&ctx.history().await?)? > before,
        "not even by an empty store"
    );
    Ok(())
}

async fn a_number_is_not_given_again_after_reopening(ctx: &Ctx) -> CaseResult {
    ctx.needs_lasting()?;
    ctx.each([job(1, Failed), job(2, Failed)]).await?;
    let before = last_seq(&ctx.history().await?)?;
    ctx.backend().prune(&Prune::default().ids([id(1), id(2)])).await?;
    ctx.backend().close().await?;
    let reopened = ctx.another().await?;
    reopened
        .apply(&crate::sample::claims([JobUpdate::new(id(3), Queued)])?)
        .await?;
    let events = walk::events(&reopened, by_seq()).await?;
    ensure!(last_seq(&events)? > before, "nor by another process");
    reopened.close().await?;
    Ok(())
}
