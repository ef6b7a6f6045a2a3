//! The JSON that the command line prints, by the same names.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use persist::shown::visible::visible_json;
use persist::{Error, ErrorKind, PersistExt as _};
use serde::Serialize;

use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::filter::{self, For};
use crate::pages;
use crate::params::Params;
use crate::probes::look;
use crate::walk;

/// Slots of a job that are answered; half a story would look like a whole one.
const MOST_SLOTS: usize = 10_000;

/// A value as JSON that may also be printed on a terminal.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Answer {
    Ok(typed(visible_json(&serde_json::to_string(value)?).into_owned()))
}

fn typed(json: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}

/// The answer in place of one that there is not.
pub(crate) fn lost(failure: &Failure) -> Response {
    #[derive(Serialize)]
    struct Told<'f> {
        error: &'f str,
        kind: &'f str,
    }
    let told = Told {
        error: &failure.text,
        kind: failure.kind,
    };
    // Two texts are always JSON.
    typed(
        serde_json::to_string(&told)
            .map_or_else(|_| "{}".to_owned(), |told| visible_json(&told).into_owned()),
    )
}

pub(crate) async fn jobs(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let filter = filter::jobs(query.as_deref(), &*app.options.clock, For::Program)?;
    json(&walk::jobs(&*app.backend, &filter.query).await?)
}

pub(crate) async fn job(State(app): State<App>, path: Result<Path<String>, PathRejection>) -> Answer {
    let text = pages::id_of(path)?;
    let id = pages::resolve(&app, &text).await?;
    let story = pages::story(&app, id, MOST_SLOTS).await?;
    let (story, is_cut) = story.ok_or_else(|| pages::none(&text))?;
    if is_cut {
        let what = format!(
            "the history of this job has more than {MOST_SLOTS} slots; persist job {id} reads all of it"
        );
        return Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "too_large", what));
    }
    json(&story)
}

pub(crate) async fn vms(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let filter = filter::vms(query.as_deref(), &*app.options.clock, For::Program)?;
    json(&walk::vms(&*app.backend, &filter.query).await?)
}

pub(crate) async fn orphans(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let filter = filter::orphans(query.as_deref(), For::Program)?;
    let owners = app.backend.owners().ok_or_else(pages::unsupported)?;
    json(&owners.orphans(&filter.query).await?)
}

pub(crate) async fn refusals(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let (mut query, job) = filter::refusals(query.as_deref())?;
    let none = || Error::new(ErrorKind::Unsupported, "this store keeps no account of refusals");
    let ledger = app.backend.ledger().ok_or_else(none)?;
    if let Some(job) = job {
        // Looked for also where the id is whole: of a mistyped one it would seem that nothing was refused.
        query.request_id = Some(pages::named(&app, &job).await?);
    }
    json(&ledger.refusals(&query).await?)
}

pub(crate) async fn stats(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let params = Params::parse(query.as_deref(), &pages::STATS_PARAMETERS)?;
    let (query, groups) = pages::stats_asked(&app, &params)?;
    let mut stats = app.backend.stats(&query).await?;
    stats.groups.truncate(groups);
    json(&stats)
}

pub(crate) async fn health(State(app): State<App>) -> Answer {
    match look(&app).await {
        (Some(health), None) => json(&health),
        (_, Some(failure)) => Err(failure),
        (None, None) => Err(Failure::timed_out("the store did not say how it is")),
    }
}

pub(crate) async fn nothing() -> Failure {
    Failure::not_found("nothing is at this address")
}
