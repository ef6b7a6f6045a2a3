//! What is live and nobody seems to see to.

use askama::Template;
use axum::extract::{RawQuery, State};
use persist::{Orphan, OrphanKind, Owner, Timestamp};

use super::{Shell, page};
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::filter::{self, For};
use crate::shown::{Badge, Moment, short};

struct Row {
    id: String,
    short: String,
    vm: Option<String>,
    state: Badge,
    attempt: u32,
    why: Vec<&'static str>,
    actor: Option<String>,
    recorded: Moment,
}

impl Row {
    fn new(orphan: &Orphan, now: Timestamp) -> Self {
        let id = orphan.subject.request_id().to_string();
        Self {
            short: short(&id, 13),
            id,
            vm: orphan.subject.vm_name().map(str::to_owned),
            state: Badge::new(orphan.state),
            attempt: orphan.attempt.get(),
            why: orphan.kinds.iter().copied().map(because).collect(),
            actor: orphan.actor.clone(),
            recorded: Moment::new(orphan.recorded_at, now),
        }
    }
}

fn because(kind: OrphanKind) -> &'static str {
    match kind {
        OrphanKind::OwnerGone => "who reported it last is gone",
        OrphanKind::VmWithoutJob => "its job has ended or never came",
        OrphanKind::JobWithoutVm => "none of its VMs is live",
        other => other.name(),
    }
}

struct Beat {
    actor: String,
    alive: bool,
    started: Moment,
    beat: Moment,
}

impl Beat {
    fn new(owner: &Owner, now: Timestamp) -> Self {
        Self {
            actor: owner.actor.clone(),
            alive: owner.alive,
            started: Moment::new(owner.started_at, now),
            beat: Moment::new(owner.beat_at, now),
        }
    }
}

struct Kind {
    word: &'static str,
    about: &'static str,
    chosen: bool,
}

#[derive(Template)]
#[template(path = "orphans.html")]
struct Orphans {
    shell: Shell,
    kinds: Vec<Kind>,
    actor: String,
    grace: String,
    rows: Vec<Row>,
    beats: Vec<Beat>,
    /// Those that are not shown.
    more_beats: usize,
    is_narrow: bool,
    /// By what, in words.
    narrowed: String,
    is_first: bool,
    beginning: String,
    next: Option<String>,
}

/// Orchestrators that are shown; there are as many rows as ever beat.
const MOST_BEATS: usize = 200;

pub(crate) async fn orphans(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let filter = filter::orphans(query.as_deref(), For::Page)?;
    let from = app.followed_from().await;
    let owners = app.backend.owners().ok_or_else(unsupported)?;
    let (listed, beats) = tokio::join!(owners.orphans(&filter.query), owners.list());
    let (listed, mut beats) = (listed?, beats?);
    // Those that matter now: what is cut are the names of long ago.
    beats.sort_by_key(|owner| std::cmp::Reverse((owner.alive, owner.beat_at)));
    let more_beats = beats.len().saturating_sub(MOST_BEATS);
    beats.truncate(MOST_BEATS);
    let now = app.now();
    let chosen = &filter.query.kinds;
    page(&Orphans {
        shell: Shell::new(&app, "Orphans", "orphans").followed(from.as_ref(), ""),
        kinds: OrphanKind::ALL
            .map(|kind| Kind {
                word: kind.name(),
                about: because(kind),
                chosen: chosen.contains(&kind),
            })
            .into(),
        actor: filter.field("actor"),
        grace: filter.field("grace"),
        rows: listed.items.iter().map(|orphan| Row::new(orphan, now)).collect(),
        beats: beats.iter().map(|owner| Beat::new(owner, now)).collect(),
        more_beats,
        is_narrow: filter.is_narrow(),
        narrowed: filter.narrowed(),
        is_first: filter.after.is_none(),
        beginning: filter.beginning(),
        next: listed.next.map(|next| filter.next(&next)),
    })
}

pub(crate) fn unsupported() -> Failure {
    let what = "this store keeps no heartbeats, so that it knows of no owners";
    persist::Error::new(persist::ErrorKind::Unsupported, what).into()
}
