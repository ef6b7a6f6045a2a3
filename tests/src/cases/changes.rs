//! The changes of a store: every claim and every fill, once, in an order in which nothing appears behind a reader.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use persist_core::JobState::{Failed, Queued, Running, Succeeded};
use persist_core::{
    Change, ChangePosition, ChangeQuery, Changed, Changes, Cursor, Error, ErrorKind, EventQuery, JobQuery,
    PersistBackend, Result, VmState,
};
use persist_memory::MemoryBackend;
use tokio::task::JoinHandle;

use super::cases;
use crate::case::{CaseResult, Ctx, Stop, ensure, ensure_eq};
use crate::sample::{claims, day, id, job, vm};
use crate::soak;

cases! { "changes":
    every_claim_and_every_fill_is_seen_once_in_order,
    a_change_is_an_event_with_all_that_its_slot_holds,
    what_changes_nothing_is_no_change,
    a_slot_filled_before_it_was_read_is_seen_once_with_the_fill,
    an_answer_has_at_most_its_limit_and_says_whether_more_follow,
    a_walk_goes_on_from_its_text,
    another_handle_goes_on_where_one_was,
    a_place_of_elsewhere_is_refused,
    from_now_on_only_what_comes_is_seen,
    writers_at_once_lose_no_change,
}

/// Far above what any older transaction of the tests beside this one takes, and below what a case may.
const PATIENCE: Duration = Duration::from_secs(100);

pub(super) fn of(backend: &Arc<dyn PersistBackend>) -> CaseResult<&dyn Changes> {
    backend
        .changes()
        .ok_or_else(|| Stop::Skipped("this kind of store has no order of changes".into()))
}

/// A walk along the changes.
pub(super) struct Walk {
    pub(super) query: ChangeQuery,
    pub(super) seen: Vec<Change>,
}

impl Walk {
    pub(super) fn after(place: Option<ChangePosition>) -> Self {
        Self {
            query: ChangeQuery::default().after(place.map(ChangePosition::cursor)),
            seen: Vec::new(),
        }
    }

    pub(super) fn limit(mut self, limit: u32) -> Self {
        self.query = self.query.limit(limit);
        self
    }

    pub(super) async fn step(&mut self, backend: &Arc<dyn PersistBackend>) -> CaseResult<Changed> {
        let before = self.seen.last().map(|change| change.position.key());
        let changed = of(backend)?.since(&self.query).await?;
        self.seen.extend(changed.changes.iter().cloned());
        let keys: Vec<_> = changed
            .changes
            .iter()
            .map(|change| change.position.key())
            .collect();
        ensure!(
            keys.is_sorted() && keys.first().is_none_or(|first| before < Some(*first)),
            "changes come in the order of their places, each after what was seen before"
        );
        self.query = self.query.clone().after(Some(changed.next.cursor()));
        Ok(changed)
    }

    /// Walks until the job of this number is seen to have been queued, which nothing does but this case, at its end.
    pub(super) async fn until_marked(
        &mut self,
        backend: &Arc<dyn PersistBackend>,
        marker: u64,
    ) -> CaseResult {
        let end = Instant::now() + PATIENCE;
        // Where transactions count, an older one of another test may be at work in the same server. A walk that has seen
        // nothing yet has no transaction to tell it by.
        let is_by_transaction = of(backend)?.now().await?.transaction > 0;
        let is_marker = |change: &Change| change.event.subject.request_id() == id(marker);
        while !self.seen.last().is_some_and(is_marker) {
            let changed = self.step(backend).await?;
            if changed.more || self.seen.last().is_some_and(is_marker) {
                continue;
            }
            let may_wait = is_by_transaction && Instant::now() < end;
            ensure!(may_wait, "what was acknowledged is seen: {:?}", self.names());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.seen.pop();
        Ok(())
    }

    pub(super) fn names(&self) -> Vec<String> {
        let names = self.seen.iter().map(|change| {
            let event = &change.event;
            let id = event.subject.request_id().as_u128() & 0xffff;
            format!("{id} {} {}", event.subject.domain_name(), event.state.name())
        });
        names.collect()
    }
}

pub(super) const MARKER: u64 = 60_000;

/// All changes after a place, up to now.
pub(super) async fn all_after(ctx: &Ctx, place: Option<ChangePosition>, marker: u64) -> CaseResult<Walk> {
    ctx.one(job(marker, Queued)).await?;
    let mut walk = Walk::after(place);
    walk.until_marked(ctx.backend(), marker).await?;
    Ok(walk)
}

pub(super) fn kind_of<T>(answer: Result<T>, what: &str) -> CaseResult<ErrorKind> {
    match answer {
        Ok(_) => Err(Stop::Failed(format!("{what} is an error"))),
        Err(error) => Ok(error.kind()),
    }
}

async fn every_claim_and_every_fill_is_seen_once_in_order(ctx: &Ctx) -> CaseResult {
    of(ctx.backend())?;
    ctx.each([job(1, Queued), job(2, Queued), job(1, Running)])
        .await?;
    ctx.one(vm(1, "a", VmState::Running)).await?;
    let first = all_after(ctx, None, MARKER).await?;
    let expected = ["1  queued", "2  queued", "1  running", "1 a running"];
    ensure_eq!(first.names(), expected, "every claim");
    ctx.one(job(2, Queued).reason("push")).await?;
    ctx.each([job(1, Failed), job(3, Queued).attempt(2), job(3, Succeeded)])
        .await?;
    ctx.one(vm(1, "a", VmState::Running).backend("bhyve")).await?;
    let place = first.query.check(first.seen[0].position.store)?;
    let rest = all_after(ctx, place, MARKER + 1).await?;
    let expected = [
        "2  queued",
        "1  failed",
        "3  queued",
        "3  succeeded",
        "1 a running",
    ];
    ensure_eq!(rest.names(), expected, "every fill, and every late claim too");
    ensure_eq!(
        rest.seen[0].event.reason.as_deref(),
        Some("push"),
        "with what it brought"
    );
    Ok(())
}

async fn a_change_is_an_event_with_all_that_its_slot_holds(ctx: &Ctx) -> CaseResult {
    of(ctx.backend())?;
    ctx.apply(day(7, 40)).await?;
    let walk = all_after(ctx, None, MARKER).await?;
    let mut seen: Vec<_> = walk.seen.into_iter().map(|change| change.event).collect();
    seen.sort_by_key(|event| (event.subject.clone(), event.rank));
    let mut history = ctx.history().await?;
    history.retain(|event| event.subject.request_id() != id(MARKER));
    history.sort_by_key(|event| (event.subject.clone(), event.rank));
    ensure_eq!(seen, history, "the changes from the start are the history");
    Ok(())
}

async fn what_changes_nothing_is_no_change(ctx: &Ctx) -> CaseResult {
    of(ctx.backend())?;
    ctx.each([
        job(1, Succeeded),
        job(1, Succeeded),
        job(1, Failed),
        job(1, Succeeded),
    ])
    .await?;
    ctx.apply([job(1, Succeeded), job(1, Failed)]).await?;
    let walk = all_after(ctx, None, MARKER).await?;
    ensure_eq!(walk.names(), ["1  succeeded"], "neither unchanged nor refused");
    Ok(())
}

async fn a_slot_filled_before_it_was_read_is_seen_once_with_the_fill(ctx: &Ctx) -> CaseResult {
    of(ctx.backend())?;
    ctx.each([job(1, Queued), job(2, Queued), job(1, Queued).actor("webhook")])
        .await?;
    let walk = all_after(ctx, None, MARKER).await?;
    ensure_eq!(walk.names(), ["2  queued", "1  queued"], "it moved to the end");
    let actor = walk.seen[1].event.actor.as_deref();
    ensure_eq!(actor, Some("webhook"), "and holds what filled it");
    Ok(())
}

async fn an_answer_has_at_most_its_limit_and_says_whether_more_follow(ctx: &Ctx) -> CaseResult {
    let changes = of(ctx.backend())?;
    let empty = changes.since(&ChangeQuery::default()).await?;
    ensure_eq!(
        (empty.changes.len(), empty.more),
        (0, false),
        "nothing of nothing"
    );
    ctx.apply((1..=7).map(|n| job(n, Queued))).await?;
    all_after(ctx, Some(empty.next), MARKER).await?;
    let mut walk = Walk::after(None).limit(4);
    let first = walk.step(ctx.backend()).await?;
    ensure_eq!(
        (first.changes.len(), first.more),
        (4, true),
        "as many as the limit, of more"
    );
    let second = walk.step(ctx.backend()).await?;
    ensure_eq!(
        (second.changes.len(), second.more),
        (4, false),
        "as many as the limit, and no more"
    );
    let third = walk.step(ctx.backend()).await?;
    ensure_eq!(
        (third.changes.len(), third.more, third.next.key()),
        (0, false, second.next.key()),
        "nothing, and the walk stays where it is"
    );
    for limit in [0, 1_001] {
        let asked = changes.since(&ChangeQuery::default().limit(limit)).await;
        ensure_eq!(
            kind_of(asked, "such a limit")?,
            ErrorKind::InvalidInput,
            "1 to 1,000"
        );
    }
    Ok(())
}

async fn a_walk_goes_on_from_its_text(ctx: &Ctx) -> CaseResult {
    let changes = of(ctx.backend())?;
    ctx.apply((1..=20).map(|n| job(n, Queued))).await?;
    let walk = all_after(ctx, None, MARKER).await?;
    for (nth, change) in walk.seen.iter().enumerate() {
        let text = change.cursor().to_string();
        let query = ChangeQuery::default().after(Some(Cursor::from_text(text)));
        let rest = changes.since(&query).await?.changes;
        let expected: Vec<_> = walk.seen[nth + 1..].iter().map(|c| c.position.key()).collect();
        let found: Vec<_> = rest
            .iter()
            .map(|c| c.position.key())
            .take(expected.len())
            .collect();
        ensure_eq!(found, expected, "from each change on, what came after it");
        ensure_eq!(
            rest.len(),
            expected.len() + 1,
            "up to the last, which is this case's own"
        );
    }
    Ok(())
}

async fn another_handle_goes_on_where_one_was(ctx: &Ctx) -> CaseResult {
    of(ctx.backend())?;
    let other = ctx.another().await?;
    ctx.apply([job(1, Queued), job(2, Queued)]).await?;
    let walk = all_after(ctx, None, MARKER).await?;
    other
        .apply(&claims([job(3, Queued), job(MARKER + 1, Queued)])?)
        .await?;
    let mut rest = Walk {
        query: walk.query,
        seen: Vec::new(),
    };
    rest.until_marked(&other, MARKER + 1).await?;
    ensure_eq!(rest.names(), ["3  queued"], "it is one store");
    other.close().await?;
    Ok(())
}

async fn a_place_of_elsewhere_is_refused(ctx: &Ctx) -> CaseResult {
    let changes = of(ctx.backend())?;
    ctx.apply([job(1, Queued), job(2, Queued)]).await?;
    let memory: Arc<dyn PersistBackend> = Arc::new(MemoryBackend::new());
    memory.apply(&claims([job(1, Queued)])?).await?;
    let of_memory = of(&memory)?.now().await?.cursor();
    let of_jobs = ctx.backend().jobs(&JobQuery::default().limit(1)).await?.next;
    let of_history = ctx.backend().events(&EventQuery::default().limit(1)).await?.next;
    let mine = changes.now().await?.cursor().to_string();
    let damaged = Some(Cursor::from_text(&mine[..mine.len() - 1]));
    for (after, what) in [
        (Some(of_memory), "a place of another store"),
        (of_jobs, "a place in a list of jobs"),
        (of_history, "a place in the history"),
        (damaged, "half a place"),
    ] {
        ensure!(after.is_some(), "there is {what}");
        let asked = changes.since(&ChangeQuery::default().after(after)).await;
        ensure_eq!(kind_of(asked, what)?, ErrorKind::InvalidInput, "{what}");
    }
    let place = Some(changes.now().await?.cursor());
    let asked = ctx.backend().jobs(&JobQuery::default().after(place)).await;
    ensure_eq!(
        kind_of(asked, "a place among changes")?,
        ErrorKind::InvalidInput,
        "of no list"
    );
    Ok(())
}

async fn from_now_on_only_what_comes_is_seen(ctx: &Ctx) -> CaseResult {
    let changes = of(ctx.backend())?;
    ctx.apply([job(1, Queued), job(2, Queued)]).await?;
    // Once it is seen, no older transaction is at work any more.
    all_after(ctx, None, MARKER).await?;
    let now = changes.now().await?;
    let seen = changes
        .since(&ChangeQuery::default().after(Some(now.cursor())))
        .await?;
    ensure_eq!(seen.changes, [], "nothing that was there");
    ctx.each([job(3, Queued), job(1, Running)]).await?;
    ctx.one(job(2, Queued).reason("push")).await?;
    let walk = all_after(ctx, Some(now), MARKER + 1).await?;
    ensure_eq!(
        walk.names(),
        ["3  queued", "1  running", "2  queued"],
        "all that came since"
    );
    Ok(())
}

async fn writers_at_once_lose_no_change(ctx: &Ctx) -> CaseResult {
    of(ctx.backend())?;
    let (writers, jobs) = (8, soak::or(12, 200));
    // A second handle, where there can be one, is a second process as far as the store knows.
    let other = match ctx.another().await {
        Ok(other) => other,
        Err(Stop::Skipped(_)) => Arc::clone(ctx.backend()),
        Err(stop) => return Err(stop),
    };
    let writing: Vec<_> = (0..writers)
        .map(|writer| {
            let backend = Arc::clone(if writer % 2 == 0 { ctx.backend() } else { &other });
            tokio::spawn(async move {
                for n in (0..jobs).map(|n| writer * jobs + n) {
                    backend.apply(&claims([job(n, Queued), job(n, Running)])?).await?;
                    // One of its own, and one of the next writer's, who may be there before.
                    let next = (n + jobs) % (writers * jobs);
                    let fills = [
                        job(n, Queued).runs_on("large"),
                        job(next, Running).commit_sha("beef"),
                    ];
                    backend.apply(&claims(fills)?).await?;
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    let mut walk = Walk::after(None).limit(17);
    while !writing.iter().all(JoinHandle::is_finished) {
        walk.step(ctx.backend()).await?;
        tokio::task::yield_now().await;
    }
    for writer in writing {
        writer.await??;
    }
    ctx.one(job(MARKER, Queued)).await?;
    walk.until_marked(&other, MARKER).await?;
    let seen: HashSet<_> = walk.seen.iter().map(|change| change.event.seq).collect();
    ensure_eq!(seen.len(), walk.seen.len(), "no change is seen twice");
    let latest: HashSet<_> = walk
        .seen
        .iter()
        .map(|change| format!("{:?}", change.event))
        .collect();
    let history = ctx.history().await?;
    ensure_eq!(history.len() as u64, writers * jobs * 2 + 1, "all was written");
    for event in history
        .iter()
        .filter(|event| event.subject.request_id() != id(MARKER))
    {
        ensure!(
            latest.contains(&format!("{event:?}")),
            "every slot was seen as it is in the end: {event:?}"
        );
    }
    Ok(())
}
