//! The story of one job.

use askama::Template;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use chrono::TimeDelta;
use persist::shown::span::human;
use persist::{Event, EventQuery, IdRange, PersistExt as _, Refusal, Step, Story, Timestamp, limits};
use uuid::Uuid;

use super::{Shell, page};
use crate::app::App;
use crate::chart::Gantt;
use crate::failure::{Answer, Failure};
use crate::params::Params;
use crate::shown::{Badge, JobRow, Moment, VmRow};

/// Slots of a job that a page shows. Some jobs are run again for ever.
const MOST_SLOTS: usize = 2_000;
/// Refusals that are told, of which a slot has three at most.
const MOST_REFUSALS: usize = 3 * MOST_SLOTS;
/// Ids that are told where the beginning of one names several.
const CANDIDATES: u32 = 10;

struct Slot {
    at: Moment,
    clock: String,
    after: String,
    vm: Option<String>,
    attempt: u32,
    state: Badge,
    actor: Option<String>,
    reason: Option<String>,
    /// How much later it was recorded, where that is worth a word.
    late: Option<String>,
}

impl Slot {
    fn new(step: &Step, now: Timestamp) -> Self {
        let Event { at, recorded_at, .. } = step.event;
        let late = recorded_at - at;
        Self {
            at: Moment::new(at, now),
            clock: at.format("%Y-%m-%d %H:%M:%S").to_string(),
            after: step
                .after
                .map(|after| format!("+{}", human(after)))
                .unwrap_or_default(),
            vm: step.event.subject.vm_name().map(str::to_owned),
            attempt: step.event.attempt().get(),
            state: Badge::new(step.event.state),
            actor: step.event.actor.clone(),
            reason: step.event.reason.clone(),
            late: (late >= TimeDelta::seconds(60)).then(|| human(late)),
        }
    }
}

/// What was tried in vain.
struct Refused {
    tried: Badge,
    standing: Badge,
    vm: Option<String>,
    attempt: u32,
    actor: Option<String>,
    reason: Option<String>,
    tries: u64,
    last: Moment,
}

impl Refused {
    fn new(refusal: &Refusal, now: Timestamp) -> Self {
        let claim = &refusal.claim;
        Self {
            tried: Badge::new(claim.state()),
            standing: Badge::new(refusal.standing),
            vm: claim.subject().vm_name().map(str::to_owned),
            attempt: claim.attempt().get(),
            actor: claim.actor().map(str::to_owned),
            reason: claim.reason().map(str::to_owned),
            tries: refusal.tries,
            last: Moment::new(refusal.last_at, now),
        }
    }
}

struct Odd {
    who: String,
    attempt: u32,
    what: String,
}

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    shell: Shell,
    id: String,
    job: Option<JobRow>,
    gantt: Option<Gantt>,
    vms: Vec<VmRow>,
    /// `None` where the store keeps no account of it.
    refused: Option<Vec<Refused>>,
    slots: Vec<Slot>,
    odd: Vec<Odd>,
    /// Whether there are slots that are not shown.
    is_cut: bool,
    most: usize,
}

/// A whole id, whether or not a job has it, or the beginning of one that names one job.
pub(crate) async fn resolve(app: &App, text: &str) -> Answer<Uuid> {
    let ids = IdRange::of_prefix(text)?;
    if let (Some(from), true) = (ids.from, ids.from == ids.to) {
        return Ok(from);
    }
    named(app, text).await
}

/// The one job whose id is this or begins so.
pub(crate) async fn named(app: &App, text: &str) -> Answer<Uuid> {
    let ids = IdRange::of_prefix(text)?;
    let found = app.backend.request_ids(ids, CANDIDATES + 1).await?;
    let mut shown: Vec<_> = found
        .iter()
        .take(CANDIDATES as usize)
        .map(Uuid::to_string)
        .collect();
    match (found.len(), found.first()) {
        (1, Some(id)) => Ok(*id),
        (0, _) | (_, None) => Err(none(text)),
        (found, _) => {
            if found > shown.len() {
                shown.push("and more".to_owned());
            }
            let what = format!("{text} begins several ids: {}", shown.join(", "));
            Err(Failure::new(StatusCode::CONFLICT, "ambiguous", what))
        }
    }
}

pub(crate) fn none(text: &str) -> Failure {
    Failure::not_found(format!("no job's id is or begins with {text}"))
}

/// The history of a job as far as `most` slots, and whether there are more. The job's own come before those of its VMs.
async fn history(app: &App, id: Uuid, most: usize) -> Answer<(Vec<Event>, bool)> {
    let mut events = Vec::new();
    let mut after = None;
    loop {
        let query = EventQuery::default()
            .request_id(id)
            .after(after)
            .limit(limits::LARGEST_PAGE);
        let page = app.backend.events(&query).await?;
        events.extend(page.items);
        match page.next {
            Some(next) if events.len() < most => after = Some(next),
            next => {
                let is_cut = next.is_some() || events.len() > most;
                events.truncate(most);
                return Ok((events, is_cut));
            }
        }
    }
}

/// The story of a job as far as `most` slots, and whether there are more; `None` where nothing was reported.
pub(crate) async fn story(app: &App, id: Uuid, most: usize) -> Answer<Option<(Story, bool)>> {
    let (events, is_cut) = history(app, id, most).await?;
    let Some(mut story) = Story::of(id, events, None) else {
        return Ok(None);
    };
    // It is bounded by the history, of which no more than a part is shown.
    if let Some(refusals) = app.backend.refusals_of(id, MOST_REFUSALS).await? {
        story.refused(refusals, None);
    }
    Ok(Some((story, is_cut)))
}

pub(crate) fn id_of(path: Result<Path<String>, PathRejection>) -> Answer<String> {
    let Path(id) = path.map_err(|_| Failure::not_found("the id in this address is no text"))?;
    Ok(id)
}

pub(crate) async fn job(State(app): State<App>, path: Result<Path<String>, PathRejection>) -> Answer {
    let text = id_of(path)?;
    let id = resolve(&app, &text).await?;
    let from = app.followed_from().await;
    let (story, is_cut) = story(&app, id, MOST_SLOTS).await?.ok_or_else(|| none(&text))?;
    let now = app.now();
    let id = id.to_string();
    page(&JobPage {
        shell: Shell::new(&app, format!("Job {}", crate::shown::short(&id, 13)), "jobs")
            .followed(from.as_ref(), &id),
        job: story.job.as_ref().map(|job| JobRow::new(job, now)),
        gantt: Gantt::of(&story, now),
        vms: story.vms.iter().map(|vm| VmRow::new(vm, now)).collect(),
        slots: story.timeline.iter().map(|step| Slot::new(step, now)).collect(),
        refused: story.refusals.as_ref().map(|refusals| {
            refusals
                .iter()
                .map(|refusal| Refused::new(refusal, now))
                .collect()
        }),
        odd: story
            .oddities
            .iter()
            .map(|odd| Odd {
                who: odd.domain_name.clone().unwrap_or_else(|| "job".into()),
                attempt: odd.attempt.get(),
                what: odd.what.clone(),
            })
            .collect(),
        id,
        is_cut,
        most: MOST_SLOTS,
    })
}

/// From the field of an id to its page.
pub(crate) async fn find(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let params = Params::parse(query.as_deref(), &["id"])?;
    let text = params
        .one("id")?
        .ok_or_else(|| persist::Error::invalid("id", "is missing"))?;
    let id = resolve(&app, text).await?;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, format!("/jobs/{id}"))]).into_response())
}
