//! Heartbeats: who is alive, by the store's own clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use persist_core::JobState::Running;
use persist_core::{
    Cursor, ErrorKind, HEARTBEAT, Heartbeat, OrphanQuery, Owner, Owners, PersistBackend, Result, Timestamp,
};

use super::cases;
use crate::case::{CaseResult, Ctx, Stop, ensure, ensure_eq};
use crate::process::BOUND;
use crate::sample::job;

cases! { "owners":
    a_beat_is_told_as_it_is_kept,
    all_who_ever_beat_are_listed_by_the_bytes_of_their_names,
    a_beat_of_one_epoch_keeps_its_start,
    a_higher_epoch_is_a_start_anew,
    a_lower_epoch_is_refused_and_changes_nothing,
    the_highest_of_epochs_that_race_stands,
    an_owner_is_gone_when_its_beat_is_too_old_and_alive_with_the_next,
    the_next_beat_says_anew_how_long_it_is_good_for,
    beats_are_good_for_microseconds,
    the_largest_beat_is_kept,
    a_beat_beyond_its_limits_is_refused_by_name,
    i4_a_name_is_found_as_it_is,
    beats_of_one_handle_are_seen_by_another,
    every_call_after_close_is_closed,
    a_wrong_call_after_close_is_closed,
}

/// The power of the store, or a skip.
pub(super) fn of(backend: &Arc<dyn PersistBackend>) -> CaseResult<&dyn Owners> {
    let none = || Stop::Skipped("this backend knows of no owners".into());
    backend.owners().ok_or_else(none)
}

/// A beat that stays good for the length of any case.
pub(super) fn lasting(actor: &str, epoch: u64) -> Heartbeat {
    Heartbeat::new(actor, epoch).valid_for(Duration::from_secs(3_600))
}

/// Waits for what the time brings, with a bound.
pub(super) struct Patience(Instant);

impl Patience {
    pub(super) fn new() -> Self {
        Self(Instant::now() + BOUND)
    }

    /// Fails when it has been long enough.
    pub(super) async fn pause(&self, what: &str) -> CaseResult {
        ensure!(Instant::now() < self.0, "not within {BOUND:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(())
    }
}

/// Lets the store's clock go beyond a time, by beats.
pub(super) async fn beyond(owners: &dyn Owners, time: Timestamp) -> CaseResult {
    let (patience, beat) = (Patience::new(), Heartbeat::new("the clock", 0));
    while owners.heartbeat(&beat).await?.beat_at <= time {
        patience.pause("the store's clock goes on").await?;
    }
    Ok(())
}

/// How long a beat is good for.
fn good_for(owner: &Owner) -> CaseResult<Duration> {
    Ok((owner.valid_until - owner.beat_at).to_std()?)
}

async fn known(owners: &dyn Owners, actor: &str) -> CaseResult<Owner> {
    let all = owners.list().await?;
    let one = all.into_iter().find(|owner| owner.actor == actor);
    one.ok_or_else(|| Stop::Failed("who beat is known".into()))
}

/// Fails unless it is refused, as this field.
pub(super) fn refused<T>(answer: Result<T>, field: &str, what: &str) -> CaseResult {
    let Err(error) = answer else {
        return Err(Stop::Failed(format!("{what} is refused")));
    };
    let told = (error.kind(), error.context("field"));
    ensure_eq!(told, (ErrorKind::InvalidInput, Some(field)), "{what}");
    Ok(())
}

async fn a_beat_is_told_as_it_is_kept(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    ensure_eq!(owners.list().await?, [], "nobody beat");
    let told = owners
        .heartbeat(&Heartbeat::new("me", 7).valid_for(Duration::from_secs(60)))
        .await?;
    ensure_eq!((told.actor.as_str(), told.epoch), ("me", 7), "it is who beat");
    ensure_eq!(told.started_at, told.beat_at, "the first beat is the start");
    let minute = Duration::from_secs(60);
    ensure_eq!(good_for(&told)?, minute, "it is good for as long as it says");
    ensure!(told.alive, "who beats is alive");
    ensure_eq!(owners.list().await?, [told], "it is kept as it was told");
    Ok(())
}

async fn all_who_ever_beat_are_listed_by_the_bytes_of_their_names(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    for name in ["ä", "b", "Z", "a b", "a", "🦀", "a-b", "B"] {
        owners.heartbeat(&lasting(name, 1)).await?;
    }
    let names: Vec<_> = owners
        .list()
        .await?
        .into_iter()
        .map(|owner| owner.actor)
        .collect();
    ensure_eq!(
        names,
        ["B", "Z", "a", "a b", "a-b", "b", "ä", "🦀"],
        "by the bytes of their names"
    );
    Ok(())
}

async fn a_beat_of_one_epoch_keeps_its_start(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    let first = owners.heartbeat(&lasting("me", 7)).await?;
    beyond(owners, first.beat_at).await?;
    let second = owners.heartbeat(&lasting("me", 7)).await?;
    ensure_eq!(second.started_at, first.started_at, "one epoch has one start");
    ensure!(second.beat_at > first.beat_at, "and many beats");
    ensure!(
        second.valid_until > first.valid_until,
        "each good from its own time"
    );
    ensure_eq!(known(owners, "me").await?, second, "the latest is kept");
    Ok(())
}

async fn a_higher_epoch_is_a_start_anew(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    let first = owners.heartbeat(&lasting("me", 7)).await?;
    beyond(owners, first.beat_at).await?;
    let second = owners.heartbeat(&lasting("me", 8)).await?;
    ensure_eq!(second.epoch, 8, "the higher epoch stands");
    ensure!(
        second.started_at > first.started_at,
        "it starts when it first beats"
    );
    ensure_eq!(second.started_at, second.beat_at, "which is now");
    ensure_eq!(
        known(owners, "me").await?,
        second,
        "and there is one owner of a name"
    );
    Ok(())
}

async fn a_lower_epoch_is_refused_and_changes_nothing(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    let standing = owners.heartbeat(&lasting("me", 7)).await?;
    for lower in [6, 0] {
        let answer = owners.heartbeat(&lasting("me", lower)).await;
        refused(answer, "epoch", "a lower epoch")?;
    }
    ensure_eq!(
        known(owners, "me").await?,
        standing,
        "a refused beat changes nothing"
    );
    owners.heartbeat(&lasting("other", 0)).await?;
    ensure_eq!(
        owners.heartbeat(&lasting("me", 7)).await?.epoch,
        7,
        "the one that stands goes on"
    );
    Ok(())
}

async fn the_highest_of_epochs_that_race_stands(ctx: &Ctx) -> CaseResult {
    of(ctx.backend())?;
    let racing = (1..=16_u64).map(|epoch| {
        let backend = Arc::clone(ctx.backend());
        tokio::spawn(async move {
            let owners = of(&backend)?;
            match owners.heartbeat(&lasting("me", epoch)).await {
                Ok(owner) if owner.epoch == epoch => Ok(()),
                Ok(_) => Err(Stop::Failed("a beat is told of its own epoch".into())),
                refusal => refused(refusal, "epoch", "an epoch that came too late"),
            }
        })
    });
    let racing: Vec<_> = racing.collect();
    for one in join_all(racing).await {
        one??;
    }
    ensure_eq!(
        known(of(ctx.backend())?, "me").await?.epoch,
        16,
        "the highest stands"
    );
    Ok(())
}

async fn an_owner_is_gone_when_its_beat_is_too_old_and_alive_with_the_next(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    owners.heartbeat(&lasting("me", 1)).await?;
    owners.heartbeat(&lasting("other", 1)).await?;
    ctx.one(job(1, Running).actor("me")).await?;
    ctx.one(job(2, Running).actor("other")).await?;
    let all = OrphanQuery::default();
    ensure_eq!(
        owners.orphans(&all).await?.items,
        [],
        "what has an owner is no orphan"
    );
    let short = owners
        .heartbeat(&Heartbeat::new("me", 1).valid_for(*HEARTBEAT.start()))
        .await?;
    let patience = Patience::new();
    while known(owners, "me").await?.alive {
        patience.pause("the beat becomes too old").await?;
    }
    let gone = known(owners, "me").await?;
    ensure_eq!(
        (gone.beat_at, gone.valid_until, gone.epoch),
        (short.beat_at, short.valid_until, 1),
        "nothing else changes with time"
    );
    let left: Vec<_> = owners.orphans(&all).await?.items;
    let left: Vec<_> = left.iter().map(|orphan| orphan.actor.as_deref()).collect();
    ensure_eq!(left, [Some("me")], "what its owner left is an orphan");
    ensure!(
        known(owners, "other").await?.alive,
        "each owner goes by its own beats"
    );
    owners.heartbeat(&lasting("me", 1)).await?;
    ensure!(known(owners, "me").await?.alive, "alive again with the next beat");
    ensure_eq!(
        owners.orphans(&all).await?.items,
        [],
        "and sees to what it had reported"
    );
    Ok(())
}

async fn the_next_beat_says_anew_how_long_it_is_good_for(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    owners.heartbeat(&lasting("me", 1)).await?;
    let told = owners
        .heartbeat(&Heartbeat::new("me", 1).valid_for(Duration::from_secs(5)))
        .await?;
    ensure_eq!(
        good_for(&told)?,
        Duration::from_secs(5),
        "the latest beat says how long"
    );
    Ok(())
}

async fn beats_are_good_for_microseconds(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    let odd = Duration::from_nanos(123_456_789_999);
    let told = owners.heartbeat(&Heartbeat::new("me", 1).valid_for(odd)).await?;
    let cut = Duration::from_micros(123_456_789);
    ensure_eq!(good_for(&told)?, cut, "cut to microseconds, everywhere");
    ensure_eq!(known(owners, "me").await?, told, "and kept so");
    Ok(())
}

async fn the_largest_beat_is_kept(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    let name = "é".repeat(64);
    let largest = (1 << 63) - 1;
    let beat = Heartbeat::new(name.clone(), largest).valid_for(*HEARTBEAT.end());
    let told = owners.heartbeat(&beat).await?;
    ensure_eq!(
        (&told.actor, told.epoch),
        (&name, largest),
        "a beat at its limits"
    );
    ensure_eq!(good_for(&told)?, *HEARTBEAT.end(), "is good to the last");
    refused(
        owners.heartbeat(&lasting(&name, largest - 1)).await,
        "epoch",
        "one less",
    )
}

async fn a_beat_beyond_its_limits_is_refused_by_name(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    let brief = *HEARTBEAT.start() - Duration::from_micros(1);
    let long = *HEARTBEAT.end() + Duration::from_micros(1);
    let beats = [
        (lasting("", 1), "actor"),
        (lasting("nul\0", 1), "actor"),
        (lasting(&"é".repeat(65), 1), "actor"),
        (lasting("me", 1 << 63), "epoch"),
        (Heartbeat::new("me", 1).valid_for(brief), "valid_for"),
        (Heartbeat::new("me", 1).valid_for(long), "valid_for"),
    ];
    for (beat, field) in beats {
        refused(
            owners.heartbeat(&beat).await,
            field,
            "a beat that is beyond its limits",
        )?;
    }
    ensure_eq!(owners.list().await?, [], "what is refused is not kept");
    Ok(())
}

async fn i4_a_name_is_found_as_it_is(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    let names = [
        "%",
        "_",
        "' OR '1'='1",
        "\"; DROP TABLE jobs; --",
        "\u{1b}[2J",
        " me ",
        "ME",
        "me",
    ];
    for (n, name) in (1..).zip(names) {
        owners.heartbeat(&lasting(name, n)).await?;
        ctx.one(job(n, Running).actor(name)).await?;
    }
    let last = ctx
        .history()
        .await?
        .into_iter()
        .map(|slot| slot.recorded_at)
        .max();
    beyond(owners, last.unwrap_or_default()).await?;
    for (n, name) in (1..).zip(names) {
        ensure_eq!(known(owners, name).await?.epoch, n, "{name:?} is who it is");
        owners.heartbeat(&lasting(name, n + 100)).await?;
        let query = OrphanQuery::default().actor(name);
        let left = owners.orphans(&query).await?.items;
        let left: Vec<_> = left.iter().map(|orphan| orphan.actor.as_deref()).collect();
        ensure_eq!(left, [Some(name)], "{name:?} has left what is its own");
    }
    Ok(())
}

async fn beats_of_one_handle_are_seen_by_another(ctx: &Ctx) -> CaseResult {
    of(ctx.backend())?;
    let other = ctx.another().await?;
    let (here, there) = (of(ctx.backend())?, of(&other)?);
    let told = here.heartbeat(&lasting("me", 2)).await?;
    ensure_eq!(there.list().await?, [told], "a beat is the store's");
    refused(
        there.heartbeat(&lasting("me", 1)).await,
        "epoch",
        "a lower epoch of another handle",
    )?;
    let newer = there.heartbeat(&lasting("me", 3)).await?;
    refused(
        here.heartbeat(&lasting("me", 2)).await,
        "epoch",
        "the epoch that was taken over",
    )?;
    ensure_eq!(known(here, "me").await?, newer, "who took over stands");
    other.close().await?;
    Ok(())
}

/// Fails unless it is the error of a closed handle.
fn closed<T>(answer: Result<T>, what: &str) -> CaseResult {
    match answer {
        Ok(_) => Err(Stop::Failed(format!("{what} after close is an error"))),
        Err(error) => {
            ensure_eq!(error.kind(), ErrorKind::Closed, "{what} after close is closed");
            Ok(())
        }
    }
}

async fn every_call_after_close_is_closed(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    owners.heartbeat(&lasting("me", 1)).await?;
    ctx.backend().close().await?;
    closed(owners.heartbeat(&lasting("me", 1)).await, "a heartbeat")?;
    closed(owners.list().await, "the list of owners")?;
    closed(
        owners.orphans(&OrphanQuery::default()).await,
        "the list of orphans",
    )
}

async fn a_wrong_call_after_close_is_closed(ctx: &Ctx) -> CaseResult {
    let owners = of(ctx.backend())?;
    ctx.backend().close().await?;
    closed(owners.heartbeat(&lasting("", 1)).await, "a bad heartbeat")?;
    let bad = OrphanQuery::default().after(Some(Cursor::from_text("x")));
    closed(owners.orphans(&bad).await, "a bad list of orphans")
}
