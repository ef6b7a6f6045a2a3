//! What operators are told: stories, paths that leak, waiting and running times.

use chrono::TimeDelta;
use futures_util::TryStreamExt as _;
use persist_core::JobState::{Failed, Queued, Running, Succeeded};
use persist_core::{
    AsOf, ErrorKind, Keeping, OddityKind, PersistExt as _, StateTable as _, StatsQuery, TimeRange, VmState,
};

use super::cases;
use crate::case::{CaseResult, Ctx, ensure, ensure_eq};
use crate::sample::{at, id, job, vm};

cases! { "told":
    a_story_is_the_rows_and_their_history,
    a_story_as_of_a_time_is_the_fold_of_what_was_so_then,
    there_is_no_story_of_what_was_never_reported,
    a_path_is_kept_as_long_as_somebody_may_need_it,
    times_are_of_the_jobs_that_were_asked_for,
    what_can_not_be_read_is_an_error_and_no_empty_answer,
}

async fn a_story_is_the_rows_and_their_history(ctx: &Ctx) -> CaseResult {
    ctx.each([
        job(1, Queued).at(at(0)).repo_url("https://example.org/a.git"),
        job(1, Failed).at(at(90)),
        job(1, Running).at(at(30)),
        job(1, Queued).attempt(2).at(at(100)),
        job(2, Queued),
    ])
    .await?;
    ctx.each([
        vm(1, "b", VmState::Running).at(at(31)),
        vm(1, "a", VmState::Prepared).at(at(20)),
    ])
    .await?;
    let story = ctx.backend().explain(id(1), None).await?;
    let Some(story) = story else {
        return Err(crate::case::Stop::Failed(
            "a job that reported has a story".into(),
        ));
    };
    ensure_eq!(story.job, Some(ctx.job(id(1)).await?), "the job is its row");
    let vms = vec![ctx.vm(id(1), "a").await?, ctx.vm(id(1), "b").await?];
    ensure_eq!(story.vms, vms, "the VMs are theirs, by name");
    let order: Vec<_> = story.timeline.iter().map(|step| step.event.at).collect();
    ensure_eq!(order, [0, 20, 30, 31, 90, 100].map(at), "in the order of time");
    let runs: Vec<_> = story
        .attempts
        .iter()
        .map(|run| (run.attempt.get(), run.waited, run.ran))
        .collect();
    let seconds = |seconds| Some(TimeDelta::seconds(seconds));
    ensure_eq!(
        runs,
        [(1, seconds(30), seconds(60)), (2, None, None)],
        "it waited and ran"
    );
    let kinds: Vec<_> = story.oddities.iter().map(|oddity| oddity.kind).collect();
    ensure!(
        kinds.contains(&OddityKind::StateMissing),
        "that b was never prepared is told: {kinds:?}"
    );
    Ok(())
}

async fn a_story_as_of_a_time_is_the_fold_of_what_was_so_then(ctx: &Ctx) -> CaseResult {
    ctx.each([
        job(1, Queued).at(at(0)).runs_on("large"),
        job(1, Running).at(at(30)),
        job(1, Succeeded).at(at(90)).repo_url("https://example.org/a.git"),
    ])
    .await?;
    for (seconds, state) in [
        (-1, None),
        (0, Some(Queued)),
        (89, Some(Running)),
        (90, Some(Succeeded)),
    ] {
        let story = ctx.backend().explain(id(1), Some(AsOf::At(at(seconds)))).await?;
        let job = story.and_then(|story| story.job);
        ensure_eq!(job.as_ref().map(|job| job.state), state, "at {seconds} s");
        if let Some(job) = job {
            ensure_eq!(job.repo_url.is_some(), seconds >= 90, "nor what came later");
            ensure_eq!(job.runs_on.as_deref(), Some("large"), "with all that was known");
        }
    }
    Ok(())
}

async fn there_is_no_story_of_what_was_never_reported(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Queued)).await?;
    ensure!(
        ctx.backend().explain(id(2), None).await?.is_none(),
        "nothing is nothing"
    );
    Ok(())
}

async fn a_path_is_kept_as_long_as_somebody_may_need_it(ctx: &Ctx) -> CaseResult {
    let of = |n: u64, state| {
        vm(n, "vm", state)
            .at(at(10))
            .overlay_path(format!("/o/{n}"))
            .seed_path(format!("/s/{n}"))
    };
    ctx.each([
        of(1, VmState::Running),
        of(2, VmState::Stopped),
        of(3, VmState::Failed),
        of(4, VmState::Destroyed),
        of(5, VmState::Stopped),
    ])
    .await?;
    ctx.one(vm(6, "bare", VmState::Running)).await?;
    ctx.each([job(2, Running).at(at(9)), job(3, Failed).at(at(20))])
        .await?;
    let told = async |now, grace| {
        let artefacts = ctx.backend().artefacts(at(now), TimeDelta::seconds(grace));
        let found: Vec<_> = artefacts
            .map_ok(|artefact| (artefact.path, artefact.keeping))
            .try_collect()
            .await?;
        Ok::<_, persist_core::Error>(found)
    };
    let expected = |third, fifth| {
        let keepings = [Keeping::InUse, Keeping::Kept, third, Keeping::Gone, fifth];
        let of_one =
            |(n, keeping): (usize, Keeping)| ["o", "s"].map(|kind| (format!("/{kind}/{}", n + 1), keeping));
        keepings
            .into_iter()
            .enumerate()
            .flat_map(of_one)
            .collect::<Vec<_>>()
    };
    ensure_eq!(
        told(29, 10).await?,
        expected(Keeping::Kept, Keeping::Overdue),
        "the grace counts from the end of both"
    );
    ensure_eq!(
        told(30, 10).await?,
        expected(Keeping::Overdue, Keeping::Overdue),
        "and then it is overdue"
    );
    ensure_eq!(
        told(19, 10).await?,
        expected(Keeping::Kept, Keeping::Kept),
        "also where no job came"
    );
    Ok(())
}

async fn times_are_of_the_jobs_that_were_asked_for(ctx: &Ctx) -> CaseResult {
    for n in 1..=10 {
        let (begun, runner) = (n as i64 * 1_000, if n <= 7 { "large" } else { "small" });
        ctx.each([
            job(n, Queued).at(at(begun)).runs_on(runner),
            job(n, Running).at(at(begun + n as i64)),
            job(n, if n == 3 { Failed } else { Succeeded }).at(at(begun + 100)),
        ])
        .await?;
    }
    ctx.one(job(11, Queued).at(at(1))).await?;
    let query = StatsQuery::default()
        .created(TimeRange::new(Some(at(2_000)), Some(at(10_000))))
        .by_runner(true);
    let stats = ctx.backend().stats(&query).await?;
    ensure_eq!(
        stats.live.get(Queued.name()),
        Some(&1),
        "the live are counted whenever they came"
    );
    let all = &stats.all;
    ensure_eq!(
        (all.jobs, all.states.get("failed")),
        (8, Some(&1)),
        "from 2,000 s on and before 10,000"
    );
    ensure_eq!(
        (all.waited.count, all.ran.count),
        (8, 8),
        "each attempt is measured"
    );
    let near = |found: u64, expected: u64| found.abs_diff(expected) * 100 <= expected;
    ensure!(
        near(all.waited.p50_ms, 5_000) && near(all.waited.max_ms, 9_000),
        "they waited 2 to 9 s: {:?}",
        all.waited
    );
    let groups: Vec<_> = stats
        .groups
        .iter()
        .map(|group| (group.runs_on.as_deref(), group.jobs))
        .collect();
    ensure_eq!(
        groups,
        [(Some("large"), 6), (Some("small"), 2)],
        "the largest group first"
    );
    Ok(())
}

async fn what_can_not_be_read_is_an_error_and_no_empty_answer(ctx: &Ctx) -> CaseResult {
    ctx.one(vm(1, "vm", VmState::Running).overlay_path("/o")).await?;
    ctx.backend().close().await?;
    let closed = Some(ErrorKind::Closed);
    let kind = |error: Option<persist_core::Error>| error.map(|error| error.kind());
    ensure_eq!(
        kind(ctx.backend().explain(id(1), None).await.err()),
        closed,
        "no story"
    );
    let artefacts = ctx.backend().artefacts(at(0), TimeDelta::zero());
    ensure_eq!(
        kind(artefacts.try_collect::<Vec<_>>().await.err()),
        closed,
        "no paths"
    );
    let stats = ctx.backend().stats(&StatsQuery::default()).await;
    ensure_eq!(kind(stats.err()), closed, "no counts");
    Ok(())
}
