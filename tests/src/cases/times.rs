//! Times: what the row makes of them, their precision and their bounds.

use persist_core::JobState::{Failed, Lost, Queued, Running, Succeeded};
use persist_core::{
    ErrorKind, Job, JobQuery, JobUpdate, Order, SystemClock, TimeRange, Timestamp, Update, time,
};

use super::cases;
use crate::case::{CaseResult, Ctx, Stop, ensure, ensure_eq};
use crate::sample::{at, claims, filled, id, job, late, micros};

cases! { "times":
    a_row_runs_from_its_earliest_to_its_latest_time,
    the_times_of_updates_decide_no_order,
    a_late_update_may_move_the_beginning_back,
    a_late_update_may_move_the_end_forward,
    a_fill_moves_no_time,
    two_slots_may_have_one_time,
    a_job_and_its_vm_have_their_own_times,
    recorded_at_is_the_stores_clock_and_stays,
    an_update_without_a_time_has_the_clocks,
    k3_microseconds_are_kept,
    k3_nanoseconds_are_cut,
    k3_a_time_that_was_cut_is_the_same_update,
    k4_the_years_1970_to_9999_are_stored_exactly,
    k4_outside_of_these_years_is_refused,
    k4_the_bounds_are_listed_and_filtered,
}

/// When the epoch of the bounds begins and ends, in microseconds since 1970.
const BOUNDS: [i64; 2] = [0, 253_402_300_799_999_999];

fn since_1970(micros: i64) -> CaseResult<Timestamp> {
    time::from_micros(micros).ok_or_else(|| Stop::Failed(format!("{micros} µs lie in range")))
}

fn span(row: &Job) -> (Timestamp, Timestamp) {
    (row.created_at, row.updated_at)
}

async fn a_row_runs_from_its_earliest_to_its_latest_time(ctx: &Ctx) -> CaseResult {
    for (state, seconds, expected) in [
        (Queued, 50, (50, 50)),
        (Running, 70, (50, 70)),
        (Failed, 60, (50, 70)),
    ] {
        ctx.one(job(1, state).at(at(seconds))).await?;
        let expected = (at(expected.0), at(expected.1));
        ensure_eq!(
            span(&ctx.job(id(1)).await?),
            expected,
            "created_at is the earliest, updated_at the latest"
        );
    }
    Ok(())
}

async fn the_times_of_updates_decide_no_order(ctx: &Ctx) -> CaseResult {
    ctx.each([
        job(1, Queued).at(at(300)),
        job(1, Running).at(at(200)),
        job(1, Succeeded).at(at(100)),
    ])
    .await?;
    let row = ctx.job(id(1)).await?;
    ensure_eq!(row.state, Succeeded, "a clock that steps back changes no outcome");
    ensure_eq!(span(&row), (at(100), at(300)), "and no duration becomes negative");
    Ok(())
}

async fn a_late_update_may_move_the_beginning_back(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Running).at(at(20))).await?;
    ensure_eq!(
        ctx.one(job(1, Queued).at(at(-5))).await?,
        late(Running, 1),
        "late"
    );
    ensure_eq!(
        span(&ctx.job(id(1)).await?),
        (at(-5), at(20)),
        "times are joined all the same"
    );
    Ok(())
}

async fn a_late_update_may_move_the_end_forward(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Running).at(at(20))).await?;
    ensure_eq!(
        ctx.one(job(1, Queued).at(at(90))).await?,
        late(Running, 1),
        "late, with a clock ahead"
    );
    ensure_eq!(
        span(&ctx.job(id(1)).await?),
        (at(20), at(90)),
        "the latest time of any slot"
    );
    Ok(())
}

async fn a_fill_moves_no_time(ctx: &Ctx) -> CaseResult {
    ctx.one(job(1, Queued).at(at(20))).await?;
    for (seconds, update) in [
        (1, job(1, Queued).actor("me")),
        (99, job(1, Queued).runs_on("large")),
    ] {
        ensure_eq!(
            ctx.one(update.at(at(seconds))).await?,
            filled(Queued, 1),
            "it fills"
        );
        ensure_eq!(
            span(&ctx.job(id(1)).await?),
            (at(20), at(20)),
            "but the slot's time stands"
        );
    }
    Ok(())
}

async fn two_slots_may_have_one_time(ctx: &Ctx) -> CaseResult {
    ctx.each([
        job(1, Queued).at(at(7)),
        job(1, Running).at(at(7)),
        job(1, Failed).at(at(7)),
    ])
    .await?;
    let row = ctx.job(id(1)).await?;
    ensure_eq!(
        (row.state, span(&row)),
        (Failed, (at(7), at(7))),
        "the rank orders, the time does not"
    );
    Ok(())
}

async fn a_job_and_its_vm_have_their_own_times(ctx: &Ctx) -> CaseResult {
    use persist_core::VmState::Prepared;
    let updates: [Update; 2] = [
        job(1, Queued).at(at(50)).into(),
        crate::sample::vm(1, "vm", Prepared).at(at(10)).into(),
    ];
    ctx.apply(updates).await?;
    ensure_eq!(
        span(&ctx.job(id(1)).await?),
        (at(50), at(50)),
        "a VM's time is not its job's"
    );
    ensure_eq!(
        ctx.vm(id(1), "vm").await?.updated_at,
        at(10),
        "nor a job's its VM's"
    );
    Ok(())
}

async fn recorded_at_is_the_stores_clock_and_stays(ctx: &Ctx) -> CaseResult {
    ctx.each([
        job(1, Queued).at(since_1970(1)?),
        job(1, Running).at(since_1970(BOUNDS[1])?),
    ])
    .await?;
    let before = ctx.history().await?;
    ensure!(
        before.iter().all(|event| event.recorded_at != event.at),
        "recorded_at is when the store claimed the slot, whatever the reporter's clock says"
    );
    ensure!(
        before[0].recorded_at <= before[1].recorded_at,
        "and grows from slot to slot"
    );
    ctx.one(job(1, Queued).reason("push")).await?;
    let after = ctx.history().await?;
    ensure_eq!(
        after[0].recorded_at,
        before[0].recorded_at,
        "a fill does not claim the slot again"
    );
    Ok(())
}

async fn an_update_without_a_time_has_the_clocks(ctx: &Ctx) -> CaseResult {
    let clock = persist_core::FixedClock(micros(123_456));
    let claim = JobUpdate::new(id(1), Queued).check(&clock)?;
    ctx.backend().apply(&[claim]).await?;
    ensure_eq!(
        ctx.job(id(1)).await?.created_at,
        micros(123_456),
        "stamped once, where it enters"
    );
    // A store that stamps by itself would differ from the claim that it was given.
    let claim = JobUpdate::new(id(2), Queued).check(&SystemClock)?;
    ctx.backend().apply(std::slice::from_ref(&claim)).await?;
    ensure_eq!(ctx.job(id(2)).await?.created_at, claim.at(), "and not again");
    Ok(())
}

async fn k3_microseconds_are_kept(ctx: &Ctx) -> CaseResult {
    for (n, fraction) in (1..).zip([1, 999_999, 123_457, 500_000]) {
        ctx.each([
            job(n, Queued).at(micros(fraction)),
            job(n, Running).at(micros(fraction + 1)),
        ])
        .await?;
        let found = span(&ctx.job(id(n)).await?);
        ensure_eq!(
            found,
            (micros(fraction), micros(fraction + 1)),
            "rows hold microseconds"
        );
        let history = ctx.history_of(id(n)).await?;
        ensure_eq!(history[0].at, micros(fraction), "and so does the history");
    }
    Ok(())
}

async fn k3_nanoseconds_are_cut(ctx: &Ctx) -> CaseResult {
    for (n, nanos) in (1..).zip([1, 499, 500, 501, 999]) {
        let given = micros(7) + chrono::TimeDelta::nanoseconds(nanos);
        ctx.one(job(n, Queued).at(given)).await?;
        ensure_eq!(
            ctx.job(id(n)).await?.created_at,
            micros(7),
            "{nanos} ns are cut, not rounded"
        );
        ensure_eq!(
            ctx.history_of(id(n)).await?[0].at,
            micros(7),
            "in the history too"
        );
    }
    Ok(())
}

async fn k3_a_time_that_was_cut_is_the_same_update(ctx: &Ctx) -> CaseResult {
    let given = micros(7) + chrono::TimeDelta::nanoseconds(999);
    let claim = claims([job(1, Queued).at(given)])?;
    ctx.backend().apply(&claim).await?;
    let again = ctx
        .backend()
        .apply(&claims([job(1, Queued).at(micros(7))])?)
        .await?;
    ensure_eq!(
        again,
        [crate::sample::unchanged(Queued, 1)],
        "read equals written: it may be sent back"
    );
    let until = TimeRange::new(Some(given), Some(given + chrono::TimeDelta::microseconds(1)));
    let page = ctx.backend().jobs(&JobQuery::default().created(until)).await?;
    ensure_eq!(page.items.len(), 1, "filters are cut as stored times are");
    Ok(())
}

async fn k4_the_years_1970_to_9999_are_stored_exactly(ctx: &Ctx) -> CaseResult {
    for (n, bound) in (1..).zip([BOUNDS[0], BOUNDS[0] + 1, BOUNDS[1] - 1, BOUNDS[1]]) {
        ctx.one(job(n, Lost).at(since_1970(bound)?)).await?;
        let row = ctx.job(id(n)).await?;
        ensure_eq!(
            span(&row),
            (since_1970(bound)?, since_1970(bound)?),
            "the bounds belong to the range"
        );
        ensure_eq!(
            ctx.history_of(id(n)).await?[0].at,
            since_1970(bound)?,
            "in the history too"
        );
    }
    ctx.each([
        job(9, Queued).at(since_1970(BOUNDS[0])?),
        job(9, Failed).at(since_1970(BOUNDS[1])?),
    ])
    .await?;
    let row = ctx.job(id(9)).await?;
    ensure_eq!(
        span(&row),
        (since_1970(BOUNDS[0])?, since_1970(BOUNDS[1])?),
        "one row may span all of it"
    );
    Ok(())
}

async fn k4_outside_of_these_years_is_refused(ctx: &Ctx) -> CaseResult {
    let micro = chrono::TimeDelta::microseconds(1);
    let outside = [since_1970(BOUNDS[0])? - micro, since_1970(BOUNDS[1])? + micro];
    for wrong in outside
        .into_iter()
        .chain([Timestamp::MIN_UTC, Timestamp::MAX_UTC])
    {
        let Err(error) = claims([job(1, Queued).at(wrong)]) else {
            return Err(Stop::Failed(format!("{wrong} is refused")));
        };
        let told = (error.kind(), error.context("field"));
        ensure_eq!(
            told,
            (ErrorKind::InvalidInput, Some("at")),
            "a far date is refused and named"
        );
        let created = JobQuery::default().created(TimeRange::new(Some(wrong), None));
        let Err(error) = ctx.backend().jobs(&created).await else {
            return Err(Stop::Failed(format!("a filter of {wrong} is refused")));
        };
        let told = (error.kind(), error.context("field"));
        ensure_eq!(
            told,
            (ErrorKind::InvalidInput, Some("created")),
            "in a filter too"
        );
    }
    Ok(())
}

async fn k4_the_bounds_are_listed_and_filtered(ctx: &Ctx) -> CaseResult {
    let [first, last] = [since_1970(BOUNDS[0])?, since_1970(BOUNDS[1])?];
    ctx.each([job(1, Queued).at(last), job(2, Queued).at(first), job(3, Queued)])
        .await?;
    let found = |range, order| {
        let query = JobQuery::default().created(range).order(order).limit(2);
        async move {
            let rows = crate::walk::jobs(ctx.backend(), query).await?;
            CaseResult::Ok(rows.iter().map(|row| row.request_id).collect::<Vec<_>>())
        }
    };
    let all = found(TimeRange::default(), Order::OldestFirst).await?;
    ensure_eq!(all, [id(2), id(3), id(1)], "the bounds are at the two ends");
    let all = found(TimeRange::new(Some(first), None), Order::NewestFirst).await?;
    ensure_eq!(all, [id(1), id(3), id(2)], "of the other order as well");
    let until = found(TimeRange::new(None, Some(last)), Order::OldestFirst).await?;
    ensure_eq!(
        until,
        [id(2), id(3)],
        "a range ends before its end, at the last bound too"
    );
    let from = found(TimeRange::new(Some(last), None), Order::OldestFirst).await?;
    ensure_eq!(from, [id(1)], "and holds its beginning");
    Ok(())
}
