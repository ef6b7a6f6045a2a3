//! What no store may do: look into a history and write it anew.

use futures_util::TryStreamExt as _;
use persist_core::merge::{self, Row};
use persist_core::{
    Claim, Event, EventOrder, EventQuery, PersistBackend as _, PersistExt as _, Prune, Result, Seq, Slot,
    Subject, SystemClock, jsonl,
};
use persist_memory::MemoryBackend;
use uuid::Uuid;

/// The claim that would take this slot.
pub(super) fn claim_of(subject: &Subject, slot: Slot) -> Claim {
    let event = Event::new(Seq::new(0), slot.at, subject.clone(), slot);
    let update = jsonl::parse(&jsonl::line(&event)).expect("what was a claim can be written");
    update
        .check(&SystemClock)
        .expect("what was a claim keeps its limits")
}

/// The history of a job and its VMs in the order of its changes.
pub(super) async fn history(inner: &MemoryBackend, id: Uuid) -> Result<Vec<Event>> {
    let query = EventQuery::default().request_id(id).order(EventOrder::ByKey);
    let mut events: Vec<_> = inner.all_events(query).try_collect().await?;
    events.sort_by_key(|event| event.seq);
    Ok(events)
}

/// The slot that stands where the claim wants to.
pub(super) async fn standing(inner: &MemoryBackend, claim: &Claim) -> Result<Option<Slot>> {
    let events = history(inner, claim.subject().request_id()).await?;
    let held = events
        .iter()
        .find(|event| event.subject == *claim.subject() && event.rank == claim.rank());
    Ok(held.map(Event::slot))
}

/// The row of a subject.
pub(super) async fn row(inner: &MemoryBackend, subject: &Subject) -> Result<Option<Row>> {
    let events = history(inner, subject.request_id()).await?;
    let slots: Vec<_> = events
        .iter()
        .filter(|event| event.subject == *subject)
        .map(Event::slot)
        .collect();
    Ok(merge::fold(&slots))
}

/// Puts a slot in the place of the one of its rank.
pub(super) async fn replace(inner: &MemoryBackend, subject: &Subject, slot: Slot) -> Result<()> {
    let events = history(inner, subject.request_id()).await?;
    inner.prune(&Prune::default().ids([subject.request_id()])).await?;
    let claims: Vec<_> = events
        .iter()
        .map(|event| {
            let replaced = event.subject == *subject && event.rank == slot.rank;
            claim_of(&event.subject, if replaced { slot.clone() } else { event.slot() })
        })
        .collect();
    inner.apply(&claims).await?;
    Ok(())
}

/// A store of the same rows.
pub(super) async fn copy_of(inner: &MemoryBackend) -> Result<MemoryBackend> {
    let events: Vec<_> = inner.all_events(EventQuery::default()).try_collect().await?;
    let claims: Vec<_> = events
        .iter()
        .map(|event| claim_of(&event.subject, event.slot()))
        .collect();
    let copy = MemoryBackend::new();
    copy.apply(&claims).await?;
    Ok(copy)
}
