//! Phases as spans of time.

use serde::Serialize;

use crate::attempt::Attempt;
use crate::event::Event;
use crate::state::State;
use crate::time::{self, Timestamp};

/// How long a job or VM was in a state. What has ended for good is no span: a job that ended, a VM that was destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Span {
    /// The VM; `None` for the job itself.
    pub domain_name: Option<String>,
    /// The attempt, of the job or of the VM.
    pub attempt: Attempt,
    /// The state.
    pub state: State,
    /// Since when.
    #[serde(with = "time::rfc3339")]
    pub from: Timestamp,
    /// Until the next state of the attempt, or the beginning of the next attempt; `None` where there is neither yet. Never before
    /// `from`.
    #[serde(with = "time::rfc3339::option")]
    pub until: Option<Timestamp>,
    /// The state that it went to; `None` also where its ending was never reported.
    pub then: Option<State>,
}

/// Of events by subject and rank.
pub(super) fn spans(events: &[Event]) -> Vec<Span> {
    let of_one = events.chunk_by(|a, b| a.subject == b.subject);
    let mut spans: Vec<_> = of_one
        .flat_map(|events| {
            let next = events.iter().skip(1).map(Some).chain([None]);
            events
                .iter()
                .zip(next)
                .filter_map(|(event, next)| span(event, next))
        })
        .collect();
    // The job before its VMs where both began together.
    spans.sort_by(|a, b| (a.from, &a.domain_name).cmp(&(b.from, &b.domain_name)));
    spans
}

fn span(event: &Event, next: Option<&Event>) -> Option<Span> {
    let is_over = event.state.is_ended() && (!event.subject.is_vm() || event.rank.phase() == 3);
    // An inferred ending is followed by the reported one, and is no state that lasted.
    if is_over {
        return None;
    }
    let of_attempt = next.filter(|next| next.attempt() == event.attempt());
    Some(Span {
        domain_name: event.subject.vm_name().map(str::to_owned),
        attempt: event.attempt(),
        state: event.state,
        from: event.at,
        // An attempt whose ending was never reported was over when the next one began.
        until: next.map(|next| next.at.max(event.at)),
        then: of_attempt.map(|next| next.state),
    })
}
