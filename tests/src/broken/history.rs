//! Defects of the pages of the history.

use futures_util::TryStreamExt as _;
use persist_core::{
    Claim, Cursor, Event, EventOrder, EventPosition, EventQuery, Outcome, Page, PersistBackend as _,
    PersistExt as _, Position, Rank, Result, Seq, Subject,
};
use uuid::Uuid;

use super::{Broken, Defect, Prunes};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Histories {
    /// By key means by time.
    OrderedByTime,
    /// Ranks are ordered as text: attempt 10 before attempt 2.
    RanksAreText,
    /// VMs come before their job.
    JobComesLast,
    /// By sequence means by key.
    SequenceIsIgnored,
    /// A fill leaves its slot where it was.
    FillKeepsNumber,
    /// Numbers of pruned slots are given again.
    NumbersAreReused,
    /// The slot at the border of two pages is left out.
    BorderIsSkipped,
    /// The slot at the border of two pages comes twice.
    BorderIsDoubled,
    /// The limit is not kept.
    LimitIsIgnored,
    /// A full last page has a next one.
    LastPageHasNext,
    /// A damaged or foreign cursor is the start.
    ForeignCursorIsStart,
    /// A cursor by sequence of another store is taken.
    OtherStoresCursorIsTaken,
    /// The history of a job is without its VMs.
    VmsAreLeftOut,
    /// The filter by job lets everything pass.
    FilterIsIgnored,
    /// `recorded_at` is the reporter's time.
    RecordedIsReported,
    /// The reason is not shown.
    ReasonIsLost,
    /// Only the row's slot is kept.
    OnlyTheLastIsKept,
}

/// All, with the case that notices.
pub(super) const ALL: &[(Histories, &str)] = &[
    (
        Histories::OrderedByTime,
        "history::events_are_ordered_by_job_then_name_then_rank",
    ),
    (Histories::RanksAreText, "history::ranks_are_ordered_as_numbers"),
    (
        Histories::JobComesLast,
        "history::events_are_ordered_by_job_then_name_then_rank",
    ),
    (
        Histories::SequenceIsIgnored,
        "history::numbers_ascend_as_slots_are_claimed",
    ),
    (
        Histories::FillKeepsNumber,
        "history::a_fill_moves_its_slot_to_the_end",
    ),
    (
        Histories::NumbersAreReused,
        "history::a_number_is_not_given_again_after_prune",
    ),
    (
        Histories::BorderIsSkipped,
        "pages::every_size_of_page_walks_along_the_same_rows",
    ),
    (
        Histories::BorderIsDoubled,
        "pages::every_size_of_page_walks_along_the_same_rows",
    ),
    (
        Histories::LimitIsIgnored,
        "pages::a_thousand_rows_are_the_largest_page",
    ),
    (
        Histories::LastPageHasNext,
        "pages::as_many_rows_as_the_limit_are_the_last_page",
    ),
    (
        Histories::ForeignCursorIsStart,
        "cursors::a_cursor_of_another_listing_is_refused",
    ),
    (
        Histories::OtherStoresCursorIsTaken,
        "cursors::a_cursor_by_sequence_is_bound_to_its_store",
    ),
    (
        Histories::VmsAreLeftOut,
        "history::events_of_one_job_are_those_of_its_vms_too",
    ),
    (
        Histories::FilterIsIgnored,
        "history::events_of_one_job_are_those_of_its_vms_too",
    ),
    (
        Histories::RecordedIsReported,
        "times::recorded_at_is_the_stores_clock_and_stays",
    ),
    (
        Histories::ReasonIsLost,
        "history::a_slot_is_an_event_with_all_that_it_holds",
    ),
    (
        Histories::OnlyTheLastIsKept,
        "outcomes::an_update_of_a_lower_phase_is_late_and_the_state_stays",
    ),
];

/// Applies, and remembers the numbers that slots had before they were filled.
pub(super) async fn apply(broken: &Broken, claims: &[Claim]) -> Result<Vec<Outcome>> {
    let mut before = Vec::new();
    for claim in claims {
        let events = super::rewrite::history(&broken.inner, claim.subject().request_id()).await?;
        before.extend(
            events
                .into_iter()
                .map(|event| ((event.subject, event.rank), event.seq.get())),
        );
    }
    let outcomes = broken.inner.apply(claims).await?;
    let mut numbers = broken.shared.numbers.lock();
    for (claim, outcome) in claims.iter().zip(&outcomes) {
        let slot = (claim.subject().clone(), claim.rank());
        if let (Outcome::Filled { .. }, Some((_, seq))) =
            (outcome, before.iter().find(|(held, _)| *held == slot))
        {
            numbers.entry(slot).or_insert(*seq);
        }
    }
    Ok(outcomes)
}

/// Where an event stands in the order that was asked for.
type Place = (i64, Uuid, String, String);

/// A page of the history.
pub(super) async fn page(broken: &Broken, query: &EventQuery) -> Result<Page<Event>> {
    let defect = match broken.defect {
        Some(Defect::History(defect)) => Some(defect),
        _ => None,
    };
    let instance_id = broken.inner.health().await?.instance_id.unwrap_or_default();
    let has = |broken| defect == Some(broken);
    let mut asked = query.clone();
    let position = match asked.after.as_ref().map(Cursor::decode).transpose() {
        Ok(Some(Position::EventSeq(_, seq))) if has(Histories::OtherStoresCursorIsTaken) => {
            asked.after = Some(Cursor::encode(&Position::EventSeq(instance_id, seq)));
            asked.check(instance_id)?
        }
        _ => match asked.check(instance_id) {
            Err(error) if has(Histories::ForeignCursorIsStart) && error.context("field") == Some("after") => {
                asked.after = None;
                asked.check(instance_id)?
            }
            checked => checked?,
        },
    };
    let place = |event: &Event| place(defect, query.order, event);
    let mut events = all(broken, defect, query).await?;
    events.retain(|event| passes(defect, query, event));
    events.sort_by_cached_key(place);
    // The event that a cursor stands after may be gone: its place is found from its key alone.
    let after = match &position {
        EventPosition::Key(None) | EventPosition::Seq(None) => None,
        EventPosition::Seq(Some(seq)) => Some(place_of(defect, query.order, seq.get(), None)),
        EventPosition::Key(Some((subject, rank))) => {
            let at = events
                .iter()
                .find(|event| event.subject == *subject && event.rank == *rank);
            let bare = || place_of(defect, query.order, 0, Some((subject, *rank)));
            Some(at.map_or_else(bare, place))
        }
    };
    let start = after.map_or(0, |after| {
        let doubled = has(Histories::BorderIsDoubled);
        let start = events.partition_point(|event| {
            if doubled {
                place(event) < after
            } else {
                place(event) <= after
            }
        });
        start + usize::from(has(Histories::BorderIsSkipped))
    });
    let limit = if has(Histories::LimitIsIgnored) {
        u32::MAX
    } else {
        query.limit
    };
    let rest: Vec<_> = events.into_iter().skip(start).collect();
    let is_full = rest.len() == limit as usize;
    let mut page = Page::from_overread(rest, limit, |event| query.cursor(event, instance_id));
    if has(Histories::LastPageHasNext) && is_full {
        page.next = page.items.last().map(|event| query.cursor(event, instance_id));
    }
    Ok(page)
}

/// All events as they are shown.
async fn all(broken: &Broken, defect: Option<Histories>, query: &EventQuery) -> Result<Vec<Event>> {
    let mut wanted = EventQuery::default();
    if !matches!(
        defect,
        Some(Histories::NumbersAreReused | Histories::FilterIsIgnored)
    ) {
        wanted.request_id = query.request_id;
    }
    let mut events: Vec<Event> = broken.inner.all_events(wanted).try_collect().await?;
    let ghosts = match broken.defect {
        Some(Defect::Prune(Prunes::HistoryStays)) => broken.shared.ghosts.lock().clone(),
        _ => Vec::new(),
    };
    let is_gone = |ghost: &Event| {
        !events
            .iter()
            .any(|event| event.subject == ghost.subject && event.rank == ghost.rank)
    };
    let ghosts: Vec<_> = ghosts.into_iter().filter(is_gone).collect();
    events.extend(ghosts);
    match defect {
        Some(Histories::NumbersAreReused) => {
            events.sort_by_key(|event| event.seq);
            for (n, event) in events.iter_mut().enumerate() {
                event.seq = Seq::new(n as i64 + 1);
            }
        }
        Some(Histories::FillKeepsNumber) => {
            let numbers = broken.shared.numbers.lock();
            for event in &mut events {
                if let Some(seq) = numbers.get(&(event.subject.clone(), event.rank)) {
                    event.seq = Seq::new(*seq);
                }
            }
        }
        Some(Histories::RecordedIsReported) => {
            events.iter_mut().for_each(|event| event.recorded_at = event.at);
        }
        Some(Histories::ReasonIsLost) => events.iter_mut().for_each(|event| event.reason = None),
        Some(Histories::OnlyTheLastIsKept) => {
            let all = events.clone();
            let is_top = |event: &Event| {
                let higher = |other: &Event| other.subject == event.subject && other.rank > event.rank;
                !all.iter().any(higher)
            };
            events.retain(is_top);
        }
        _ => {}
    }
    Ok(events)
}

fn passes(defect: Option<Histories>, query: &EventQuery, event: &Event) -> bool {
    match (defect, query.request_id) {
        (Some(Histories::VmsAreLeftOut), Some(id)) => event.subject == Subject::Job(id),
        (Some(Histories::FilterIsIgnored), _) | (_, None) => true,
        (_, Some(id)) => event.subject.request_id() == id,
    }
}

fn place(defect: Option<Histories>, order: EventOrder, event: &Event) -> Place {
    let mut place = place_of(defect, order, event.seq.get(), Some((&event.subject, event.rank)));
    if defect == Some(Histories::OrderedByTime) && order == EventOrder::ByKey {
        place.0 = event.at.timestamp_micros();
    }
    place
}

/// The place of a slot; without one, that of a number alone.
fn place_of(defect: Option<Histories>, order: EventOrder, seq: i64, slot: Option<(&Subject, Rank)>) -> Place {
    let by_seq = order == EventOrder::BySeq && defect != Some(Histories::SequenceIsIgnored);
    let Some((subject, rank)) = slot.filter(|_| !by_seq) else {
        return (seq, Uuid::nil(), String::new(), String::new());
    };
    let name = match subject {
        Subject::Job(_) if defect == Some(Histories::JobComesLast) => char::MAX.to_string(),
        other => other.domain_name().to_owned(),
    };
    let rank = match defect {
        Some(Histories::RanksAreText) => rank.get().to_string(),
        _ => format!("{:020}", rank.get()),
    };
    (0, subject.request_id(), name, rank)
}
