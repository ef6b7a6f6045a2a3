//! In which order a list of jobs comes, and what all filters together mean.

use persist_core::JobState::{self, Queued, TimedOut};
use persist_core::{IdRange, JobQuery, JobUpdate, Order, StateTable as _, TimeRange};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::cases;
use super::queries::{A, fixture, numbers};
use crate::case::{CaseResult, Ctx, Stop, ensure, ensure_eq};
use crate::sample::{at, day, id, job};
use crate::walk;

cases! { "queries":
    what_matches_nothing_is_an_empty_page,
    an_empty_store_has_empty_pages,
    jobs_are_listed_in_each_order,
    jobs_are_listed_by_creation_and_not_by_update,
    jobs_of_one_time_are_ordered_by_id,
    the_newest_come_first_unless_said_otherwise,
    any_combination_of_filters_means_what_matches_says,
    k6_ids_of_a_clock_that_stepped_back_change_no_order,
}

async fn what_matches_nothing_is_an_empty_page(ctx: &Ctx) -> CaseResult {
    fixture(ctx).await?;
    for order in [Order::NewestFirst, Order::OldestFirst, Order::ById] {
        let query = JobQuery::default().repo_url(A).states([TimedOut]).order(order);
        let page = ctx.backend().jobs(&query).await?;
        ensure!(
            page.items.is_empty() && page.next.is_none(),
            "no rows, and nothing that follows"
        );
    }
    Ok(())
}

async fn an_empty_store_has_empty_pages(ctx: &Ctx) -> CaseResult {
    let jobs = ctx.backend().jobs(&JobQuery::default()).await?;
    ensure!(jobs.items.is_empty() && jobs.next.is_none(), "no jobs");
    let vms = ctx.backend().vms(&persist_core::VmQuery::default()).await?;
    ensure!(vms.items.is_empty() && vms.next.is_none(), "no VMs");
    let events = ctx.backend().events(&persist_core::EventQuery::default()).await?;
    ensure!(events.items.is_empty() && events.next.is_none(), "no history");
    Ok(())
}

async fn jobs_are_listed_in_each_order(ctx: &Ctx) -> CaseResult {
    // Times and ids run against each other.
    ctx.apply([(1, 30), (2, 10), (3, 40), (4, 20)].map(|(n, time)| job(n, Queued).at(at(time))))
        .await?;
    let query = JobQuery::default();
    ensure_eq!(
        numbers(ctx, query.clone().order(Order::OldestFirst)).await?,
        [2, 4, 1, 3],
        "the oldest first"
    );
    ensure_eq!(
        numbers(ctx, query.clone().order(Order::NewestFirst)).await?,
        [3, 1, 4, 2],
        "the newest first"
    );
    ensure_eq!(
        numbers(ctx, query.order(Order::ById)).await?,
        [1, 2, 3, 4],
        "by id"
    );
    Ok(())
}

async fn jobs_are_listed_by_creation_and_not_by_update(ctx: &Ctx) -> CaseResult {
    ctx.apply([(1, 10), (2, 20), (3, 30)].map(|(n, time)| job(n, Queued).at(at(time))))
        .await?;
    // Who came first ends last.
    ctx.apply([(1, 300), (2, 200), (3, 100)].map(|(n, time)| job(n, TimedOut).at(at(time))))
        .await?;
    for (order, expected) in [(Order::OldestFirst, [1, 2, 3]), (Order::NewestFirst, [3, 2, 1])] {
        let found = numbers(ctx, JobQuery::default().order(order)).await?;
        ensure_eq!(found, expected, "the age of a job is that of its first update");
    }
    Ok(())
}

async fn jobs_of_one_time_are_ordered_by_id(ctx: &Ctx) -> CaseResult {
    ctx.apply([4, 2, 5, 1, 3].map(|n| job(n, Queued))).await?;
    let query = JobQuery::default();
    ensure_eq!(
        numbers(ctx, query.clone().order(Order::OldestFirst)).await?,
        [1, 2, 3, 4, 5],
        "ids ascend"
    );
    ensure_eq!(
        numbers(ctx, query.order(Order::NewestFirst)).await?,
        [5, 4, 3, 2, 1],
        "and descend"
    );
    Ok(())
}

async fn the_newest_come_first_unless_said_otherwise(ctx: &Ctx) -> CaseResult {
    ctx.apply((0..60).map(|n| job(n, Queued).at(at(n as i64))))
        .await?;
    let page = ctx.backend().jobs(&JobQuery::default()).await?;
    let found: Vec<_> = page.items.iter().map(|row| row.request_id).collect();
    ensure_eq!(
        found,
        (10..60).rev().map(id).collect::<Vec<_>>(),
        "50 rows, the newest first"
    );
    ensure!(page.next.is_some(), "and ten that follow");
    Ok(())
}

async fn any_combination_of_filters_means_what_matches_says(ctx: &Ctx) -> CaseResult {
    ctx.apply(day(20, 150)).await?;
    let all = walk::jobs(
        ctx.backend(),
        JobQuery::default().order(Order::OldestFirst).limit(1_000),
    )
    .await?;
    let mut random = StdRng::seed_from_u64(21);
    for _ in 0..60 {
        let mut query = JobQuery::default()
            .order(Order::OldestFirst)
            .limit(random.random_range(1..100));
        let some = all
            .choose(&mut random)
            .ok_or_else(|| Stop::Failed("the day has jobs".into()))?;
        let other = all.choose(&mut random).unwrap_or(some);
        if random.random_bool(0.5) {
            query = query.states(
                JobState::TABLE
                    .iter()
                    .map(|line| line.state)
                    .filter(|_| random.random_bool(0.5)),
            );
        }
        if let Some(url) = some.repo_url.as_ref().filter(|_| random.random_bool(0.5)) {
            query = query.repo_url(url);
        }
        if let Some(sha) = some.commit_sha.as_ref().filter(|_| random.random_bool(0.3)) {
            query = query.commit_sha(&sha[..random.random_range(1..3)]);
        }
        if random.random_bool(0.3) {
            query = query.runs_on("ubuntu-24.04");
        }
        if random.random_bool(0.4) {
            let (from, until) = (
                some.created_at.min(other.created_at),
                some.created_at.max(other.created_at),
            );
            query = query.created(TimeRange::new(Some(from), Some(until)));
        }
        if random.random_bool(0.4) {
            let (from, to) = (
                some.request_id.min(other.request_id),
                some.request_id.max(other.request_id),
            );
            query = query.ids(IdRange::new(Some(from), Some(to)));
        }
        let checked = query.check()?;
        let expected: Vec<_> = all.iter().filter(|row| checked.matches(row)).cloned().collect();
        ensure_eq!(
            walk::jobs(ctx.backend(), query.clone()).await?,
            expected,
            "one meaning: {query:?}"
        );
    }
    Ok(())
}

async fn k6_ids_of_a_clock_that_stepped_back_change_no_order(ctx: &Ctx) -> CaseResult {
    // Time-ordered ids, made while the clock went 3, 1, 2: their order is not that of the jobs.
    let made = [3, 1, 2].map(|seconds| {
        let clock = uuid::Timestamp::from_unix(uuid::NoContext, 1_793_520_000 + seconds, 0);
        uuid::Uuid::new_v7(clock)
    });
    ctx.apply(
        (0..)
            .zip(made)
            .map(|(n, id)| JobUpdate::new(id, Queued).at(at(n))),
    )
    .await?;
    for (order, expected) in [
        (Order::OldestFirst, [made[0], made[1], made[2]]),
        (Order::NewestFirst, [made[2], made[1], made[0]]),
        (Order::ById, [made[1], made[2], made[0]]),
    ] {
        let rows = walk::jobs(ctx.backend(), JobQuery::default().order(order).limit(1)).await?;
        let found: Vec<_> = rows.iter().map(|row| row.request_id).collect();
        ensure_eq!(found, expected, "a time is a time and an id is an id, {order:?}");
    }
    Ok(())
}
