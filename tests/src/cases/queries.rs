//! What a list of jobs lets pass, and in which order.

use persist_core::JobState::{self, Cancelled, Failed, Lost, Queued, Running, Succeeded, TimedOut};
use persist_core::{ErrorKind, IdRange, JobQuery, JobUpdate, Order, StateTable as _, TimeRange};

use super::cases;
use crate::case::{CaseResult, Ctx, Stop, ensure, ensure_eq};
use crate::sample::{at, id, job};
use crate::walk;

cases! { "queries":
    jobs_are_found_by_each_state,
    jobs_are_found_by_any_of_some_states,
    jobs_are_found_by_repository,
    jobs_are_found_by_the_beginning_of_a_commit,
    jobs_are_found_by_runner_label,
    jobs_are_found_by_the_time_of_their_creation,
    jobs_are_found_by_a_range_of_ids,
    jobs_are_found_by_the_beginning_of_their_id,
    a_range_that_ends_before_it_begins_is_refused,
    filters_are_joined_by_and,
    a_blank_attribute_matches_no_filter,
    filters_look_at_the_row_and_not_at_its_history,
    a_filter_follows_a_job_as_it_moves,
}

pub(super) const A: &str = "https://example.org/a.git";
const B: &str = "https://example.org/b.git";
/// No job.
const NONE: [u64; 0] = [];

/// Eight jobs, one slot each, ten seconds apart.
pub(super) async fn fixture(ctx: &Ctx) -> CaseResult {
    let job = |n: u64, state: JobState| JobUpdate::new(id(n), state).at(at(n as i64 * 10));
    ctx.apply([
        job(1, Queued).repo_url(A).commit_sha("aaaa0001").runs_on("small"),
        job(2, Running)
            .repo_url(A)
            .commit_sha("aaaa0002")
            .runs_on("large"),
        job(3, Lost).repo_url(B).commit_sha("aaab0003").runs_on("small"),
        job(4, Succeeded)
            .repo_url(B)
            .commit_sha("bbbb0004")
            .runs_on("large"),
        job(5, Failed).repo_url(A).commit_sha("bbbb"),
        job(6, Cancelled),
        job(7, TimedOut)
            .repo_url(B)
            .commit_sha("aaaa0007")
            .runs_on("small"),
        job(8, Queued).commit_sha("cccc0008").runs_on("large"),
    ])
    .await?;
    Ok(())
}

/// The numbers of the jobs that a query finds, the oldest first, in small pages.
async fn found(ctx: &Ctx, query: JobQuery) -> CaseResult<Vec<u64>> {
    numbers(ctx, query.order(Order::OldestFirst)).await
}

pub(super) async fn numbers(ctx: &Ctx, query: JobQuery) -> CaseResult<Vec<u64>> {
    let rows = walk::jobs(ctx.backend(), query.limit(3)).await?;
    let number = |row: &persist_core::Job| (0..1_000).find(|n| id(*n) == row.request_id);
    rows.iter()
        .map(number)
        .collect::<Option<_>>()
        .ok_or_else(|| Stop::Failed("a stranger's job".into()))
}

async fn jobs_are_found_by_each_state(ctx: &Ctx) -> CaseResult {
    fixture(ctx).await?;
    let expected: [(JobState, &[u64]); 7] = [
        (Queued, &[1, 8]),
        (Running, &[2]),
        (Lost, &[3]),
        (Succeeded, &[4]),
        (Failed, &[5]),
        (Cancelled, &[6]),
        (TimedOut, &[7]),
    ];
    for (state, jobs) in expected {
        ensure_eq!(
            found(ctx, JobQuery::default().states([state])).await?,
            jobs,
            "those that are {state}"
        );
    }
    Ok(())
}

async fn jobs_are_found_by_any_of_some_states(ctx: &Ctx) -> CaseResult {
    fixture(ctx).await?;
    let of = |ended: bool| {
        JobState::TABLE
            .iter()
            .filter(move |line| line.ended == ended)
            .map(|line| line.state)
    };
    let expected: [(Vec<JobState>, &[u64]); 8] = [
        (vec![], &[1, 2, 3, 4, 5, 6, 7, 8]),
        (of(true).chain(of(false)).collect(), &[1, 2, 3, 4, 5, 6, 7, 8]),
        (of(false).collect(), &[1, 2, 8]),
        (of(true).collect(), &[3, 4, 5, 6, 7]),
        (vec![Running, Failed], &[2, 5]),
        (of(false).chain([Lost]).collect(), &[1, 2, 3, 8]),
        (vec![Queued, Succeeded, Cancelled], &[1, 4, 6, 8]),
        (vec![Failed, Failed, Lost], &[3, 5]),
    ];
    for (states, jobs) in expected {
        let query = JobQuery::default().states(states.clone());
        ensure_eq!(found(ctx, query).await?, jobs, "those in any of {states:?}");
    }
    Ok(())
}

async fn jobs_are_found_by_repository(ctx: &Ctx) -> CaseResult {
    fixture(ctx).await?;
    ensure_eq!(
        found(ctx, JobQuery::default().repo_url(A)).await?,
        [1, 2, 5],
        "those of this repository"
    );
    ensure_eq!(
        found(ctx, JobQuery::default().repo_url(B)).await?,
        [3, 4, 7],
        "those of the other"
    );
    for near in [
        "https://example.org/a",
        "https://example.org/A.git",
        "https://example.org/a.git/",
        "a.git",
    ] {
        let none = found(ctx, JobQuery::default().repo_url(near)).await?;
        ensure_eq!(none, NONE, "to the byte: {near} is another");
    }
    Ok(())
}

async fn jobs_are_found_by_the_beginning_of_a_commit(ctx: &Ctx) -> CaseResult {
    fixture(ctx).await?;
    let expected: [(&str, &[u64]); 11] = [
        ("a", &[1, 2, 3, 7]),
        ("aaa", &[1, 2, 3, 7]),
        ("aaaa", &[1, 2, 7]),
        ("AAAB", &[3]),
        ("aaaa0007", &[7]),
        ("aaaa00071", &[]),
        ("bbbb", &[4, 5]),
        ("bbbb0", &[4]),
        ("f", &[]),
        // What a commit holds further in, or ends with, is no beginning.
        ("aab", &[]),
        ("0001", &[]),
    ];
    for (prefix, jobs) in expected {
        let query = JobQuery::default().commit_sha(prefix);
        ensure_eq!(found(ctx, query).await?, jobs, "commits that begin with {prefix}");
    }
    ctx.one(
        JobUpdate::new(id(9), Queued)
            .at(at(90))
            .commit_sha("f".repeat(64)),
    )
    .await?;
    for digits in [1, 63, 64] {
        let query = JobQuery::default().commit_sha("f".repeat(digits));
        ensure_eq!(found(ctx, query).await?, [9], "{digits} times the highest digit");
    }
    Ok(())
}

async fn jobs_are_found_by_runner_label(ctx: &Ctx) -> CaseResult {
    fixture(ctx).await?;
    ensure_eq!(
        found(ctx, JobQuery::default().runs_on("small")).await?,
        [1, 3, 7],
        "those of this label"
    );
    ensure_eq!(
        found(ctx, JobQuery::default().runs_on("smal")).await?,
        NONE,
        "it is no prefix"
    );
    ensure_eq!(
        found(ctx, JobQuery::default().runs_on("Small")).await?,
        NONE,
        "to the byte"
    );
    Ok(())
}

async fn jobs_are_found_by_the_time_of_their_creation(ctx: &Ctx) -> CaseResult {
    fixture(ctx).await?;
    let expected: [(Option<i64>, Option<i64>, &[u64]); 7] = [
        (Some(30), Some(50), &[3, 4]),
        (Some(30), Some(51), &[3, 4, 5]),
        (Some(31), Some(50), &[4]),
        (Some(60), None, &[6, 7, 8]),
        (None, Some(30), &[1, 2]),
        (Some(30), Some(30), &[]),
        (Some(81), None, &[]),
    ];
    for (from, until, jobs) in expected {
        let query = JobQuery::default().created(TimeRange::new(from.map(at), until.map(at)));
        ensure_eq!(
            found(ctx, query.clone()).await?,
            jobs,
            "half open: {from:?} belongs to it, {until:?} not"
        );
        let newest = numbers(ctx, query.clone()).await?;
        ensure!(
            newest.iter().rev().eq(jobs),
            "the newest first as well: {newest:?}"
        );
        let by_id = numbers(ctx, query.order(Order::ById)).await?;
        ensure_eq!(by_id, jobs, "and by id");
    }
    ctx.one(job(3, Queued).at(at(5))).await?;
    let query = JobQuery::default().created(TimeRange::new(None, Some(at(10))));
    ensure_eq!(
        found(ctx, query).await?,
        [3],
        "a late update moves a job to where it began"
    );
    Ok(())
}

async fn jobs_are_found_by_a_range_of_ids(ctx: &Ctx) -> CaseResult {
    fixture(ctx).await?;
    let expected: [(Option<u64>, Option<u64>, &[u64]); 6] = [
        (Some(3), Some(5), &[3, 4, 5]),
        (Some(7), None, &[7, 8]),
        (None, Some(2), &[1, 2]),
        (Some(4), Some(4), &[4]),
        (Some(9), None, &[]),
        (Some(5), Some(3), &[]),
    ];
    for (from, to, jobs) in expected {
        let query = JobQuery::default().ids(IdRange::new(from.map(id), to.map(id)));
        ensure_eq!(
            found(ctx, query.clone()).await?,
            jobs,
            "closed: {from:?} and {to:?} belong to it"
        );
        ensure_eq!(
            numbers(ctx, query.order(Order::ById)).await?,
            jobs,
            "in the order of ids too"
        );
    }
    Ok(())
}

async fn jobs_are_found_by_the_beginning_of_their_id(ctx: &Ctx) -> CaseResult {
    fixture(ctx).await?;
    ctx.one(JobUpdate::new(uuid::Uuid::from_u128(u128::MAX), Queued).at(at(0)))
        .await?;
    let whole = id(4).to_string();
    for (prefix, jobs) in [
        (whole.as_str(), vec![4]),
        (&whole[..8], (1..=8).collect()),
        ("abc", vec![]),
    ] {
        let query = JobQuery::default().ids(IdRange::of_prefix(prefix)?);
        ensure_eq!(
            found(ctx, query).await?,
            jobs,
            "those whose id begins with {prefix}"
        );
    }
    let last = JobQuery::default().ids(IdRange::of_prefix("f")?);
    ensure_eq!(
        ctx.backend().jobs(&last).await?.items.len(),
        1,
        "up to the last of all ids"
    );
    Ok(())
}

async fn a_range_that_ends_before_it_begins_is_refused(ctx: &Ctx) -> CaseResult {
    let query = JobQuery::default().created(TimeRange::new(Some(at(1)), Some(at(0))));
    let Err(error) = ctx.backend().jobs(&query).await else {
        return Err(Stop::Failed("such a range is a mistake".into()));
    };
    let told = (error.kind(), error.context("field"));
    ensure_eq!(
        told,
        (ErrorKind::InvalidInput, Some("created")),
        "which is told, not answered by nothing"
    );
    Ok(())
}

async fn filters_are_joined_by_and(ctx: &Ctx) -> CaseResult {
    fixture(ctx).await?;
    let mut query = JobQuery::default().repo_url(B);
    ensure_eq!(found(ctx, query.clone()).await?, [3, 4, 7], "one filter");
    query = query.runs_on("small");
    ensure_eq!(found(ctx, query.clone()).await?, [3, 7], "two filters");
    query = query.commit_sha("aaa").states([Lost, TimedOut, Queued]);
    ensure_eq!(found(ctx, query.clone()).await?, [3, 7], "four filters");
    query = query.created(TimeRange::new(Some(at(31)), None));
    ensure_eq!(found(ctx, query.clone()).await?, [7], "five filters");
    query = query.ids(IdRange::new(None, Some(id(6))));
    ensure_eq!(found(ctx, query).await?, NONE, "all filters");
    Ok(())
}

async fn a_blank_attribute_matches_no_filter(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Queued)).await?;
    for query in [
        JobQuery::default().repo_url(A),
        JobQuery::default().commit_sha("a"),
        JobQuery::default().commit_sha("0"),
        JobQuery::default().runs_on("small"),
        JobQuery::default().runs_on(" "),
    ] {
        ensure_eq!(
            found(ctx, query).await?,
            NONE,
            "what is unknown is not equal to anything"
        );
    }
    Ok(())
}

async fn filters_look_at_the_row_and_not_at_its_history(ctx: &Ctx) -> CaseResult {
    ctx.each([
        job(1, Queued).runs_on("small").repo_url(A),
        job(1, Running).runs_on("large"),
    ])
    .await?;
    ensure_eq!(
        found(ctx, JobQuery::default().states([Queued])).await?,
        NONE,
        "it was queued, it is not"
    );
    ensure_eq!(
        found(ctx, JobQuery::default().runs_on("small")).await?,
        NONE,
        "a value of a lower slot"
    );
    ensure_eq!(
        found(ctx, JobQuery::default().runs_on("large").repo_url(A)).await?,
        [1],
        "the row's values"
    );
    Ok(())
}

async fn a_filter_follows_a_job_as_it_moves(ctx: &Ctx) -> CaseResult {
    for (attempt, state) in [
        (1, Queued),
        (1, Running),
        (1, Lost),
        (1, Failed),
        (2, Running),
        (2, Succeeded),
    ] {
        ctx.one(job(1, state).attempt(attempt)).await?;
        for line in JobState::TABLE {
            let expected: &[u64] = if line.state == state { &[1] } else { &[] };
            let query = JobQuery::default().states([line.state]);
            ensure_eq!(
                found(ctx, query).await?,
                expected,
                "it is {state} and not {}",
                line.name
            );
        }
    }
    Ok(())
}
