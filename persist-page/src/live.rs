//! Server-sent events: what changes, for programs in full and for pages in brief.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event as Told, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_core::Stream;
use futures_util::stream;
use persist::shown::visible::visible_json;
use persist::{
    Change, Cursor, Error, ErrorKind, IdRange, JobState, State as Phase, StateTable, VmState, WatchFrom,
    WatchQuery, Watching,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::pages::resolve;
use crate::params::Params;

/// A line that says nothing: who went without a word is found by it, and what is between is kept open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What comes within this time is told to a page as one.
const GATHER: Duration = Duration::from_millis(250);
/// Changes that are passed over at most without a word of how far it came.
const MOST_PASSED: u32 = 1_000;
/// After this time a browser comes again.
const RETRY: Duration = Duration::from_secs(3);

/// What is told of all that changes. The watch is for all of it: what is passed over is counted here.
#[derive(Default)]
struct Wanted {
    ids: IdRange,
    /// Empty for all.
    states: Vec<Phase>,
}

impl Wanted {
    fn has(&self, change: &Change) -> bool {
        let event = &change.event;
        self.ids.contains(event.subject.request_id())
            && (self.states.is_empty() || self.states.contains(&event.state))
    }
}

/// One who is told.
struct Seat {
    watching: Watching,
    /// Given back as the stream goes.
    _permit: OwnedSemaphorePermit,
    wanted: Wanted,
    /// Changes since the last that was told.
    passed: u32,
    until: Instant,
    is_brief: bool,
    is_over: bool,
}

pub(crate) async fn events(State(app): State<App>, headers: HeaderMap, RawQuery(query): RawQuery) -> Answer {
    let params = Params::parse(query.as_deref(), &["job", "state", "from"])?;
    let job = params.one("job")?;
    let ids = job.map(IdRange::of_prefix).transpose()?.unwrap_or_default();
    let mut states = Vec::new();
    for word in params.words("state") {
        states.extend(of_word(word)?);
    }
    let from = match params.one("from")? {
        None | Some("now") => WatchFrom::Now,
        Some("start") if job.is_some() || !states.is_empty() => {
            let what = "start can't be with job or state: all of the history would be read for a few lines; ask /api/v1/jobs and /api/v1/jobs/ID for what was, or follow without a filter";
            return Err(Error::invalid("from", what).into());
        }
        Some("start") => WatchFrom::Start,
        Some(cursor) => WatchFrom::After(Cursor::from_text(cursor)),
    };
    let query = WatchQuery::default().from(resumed(&headers)?.unwrap_or(from));
    follow(&app, query, Wanted { ids, states }, false).await
}

/// For our own script, which asks for the page again and needs no more than that something changed.
pub(crate) async fn brief(State(app): State<App>, headers: HeaderMap, RawQuery(query): RawQuery) -> Answer {
    let params = Params::parse(query.as_deref(), &["job", "after"])?;
    let mut asked = WatchQuery::default();
    if let Some(job) = params.one("job")? {
        asked = asked.job(resolve(&app, job).await?);
    }
    let from = params.after()?.map_or(WatchFrom::Now, WatchFrom::After);
    let query = asked.from(resumed(&headers)?.unwrap_or(from));
    match follow(&app, query, Wanted::default(), true).await {
        // A status would end it for good in a browser; this is told to the page, which begins anew.
        Err(failure) if failure.kind == ErrorKind::Lagged.name() => {
            let told = lagged(&failure.text);
            Ok(Sse::new(stream::iter([Ok::<_, Infallible>(told)])).into_response())
        }
        answer => answer,
    }
}

/// The states that a word means: some are states of jobs and of VMs.
fn of_word(word: &str) -> Result<impl Iterator<Item = Phase>, Error> {
    let (job, vm) = (JobState::parse(word), VmState::parse(word));
    if let (Err(error), Err(_)) = (&job, &vm) {
        return Err(error.clone());
    }
    Ok(job.ok().map(Phase::Job).into_iter().chain(vm.ok().map(Phase::Vm)))
}

/// Where a browser that lost its connection goes on.
fn resumed(headers: &HeaderMap) -> Result<Option<WatchFrom>, Error> {
    let Some(id) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let id = id
        .to_str()
        .map_err(|_| Error::invalid("Last-Event-ID", "is no cursor"))?;
    Ok((!id.is_empty()).then(|| WatchFrom::After(Cursor::from_text(id))))
}

async fn follow(app: &App, query: WatchQuery, wanted: Wanted, is_brief: bool) -> Answer {
    let permit = std::sync::Arc::clone(&app.seats).try_acquire_owned();
    let permit = permit.map_err(|_| Failure::too_many(app.no_seat()))?;
    let seat = Seat {
        watching: app.persist.watch(query).await?,
        _permit: permit,
        wanted,
        passed: 0,
        until: Instant::now() + app.options.longest_stream,
        is_brief,
        is_over: false,
    };
    let told = stream::unfold(seat, |mut seat| async move {
        let told = seat.next().await?;
        Some((Ok::<_, Infallible>(told), seat))
    });
    Ok(respond(app, told))
}

fn respond(app: &App, told: impl Stream<Item = Result<Told, Infallible>> + Send + 'static) -> Response {
    use futures_util::StreamExt as _;
    let ending = app.options.ending.clone();
    let ended = async move {
        match ending {
            // An error: nobody is there any more who could say it.
            Some(mut ending) => drop(ending.wait_for(|ending| *ending).await),
            None => std::future::pending().await,
        }
    };
    // At once, so that a browser knows that it is connected before anything changes.
    let hello = stream::iter([Ok(Told::default().retry(RETRY).comment("following"))]);
    let told = hello.chain(told).take_until(Box::pin(ended));
    Sse::new(told)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response()
}

impl Seat {
    /// What is told next; `None` at the end.
    async fn next(&mut self) -> Option<Told> {
        if self.is_over {
            return None;
        }
        let change = match self.change(self.until).await? {
            Ok(change) => change,
            Err(error) => return Some(self.last(&error)),
        };
        if !self.wanted.has(&change) {
            // No event, but whoever lost the connection goes on from here.
            let place = change.cursor().to_string();
            return Some(Told::default().id(place).comment("passed over"));
        }
        if !self.is_brief {
            return full(&change);
        }
        let mut cursor = change;
        let until = Instant::now() + GATHER;
        loop {
            match self.change(until).await {
                Some(Ok(change)) => cursor = change,
                Some(Err(error)) => return Some(self.last(&error)),
                None => break,
            }
        }
        Some(
            Told::default()
                .event("changed")
                .id(cursor.cursor().to_string())
                .data("."),
        )
    }

    /// The next change that is wanted, or the last of many that are not; `None` when the time has come or nothing more will.
    async fn change(&mut self, until: Instant) -> Option<Result<std::sync::Arc<Change>, Error>> {
        loop {
            let next = timeout_at(until, self.watching.next()).await;
            match next.ok()?? {
                Ok(change) if self.passed + 1 < MOST_PASSED && !self.wanted.has(&change) => {
                    self.passed += 1;
                    // Whoever is watched by the beginning of an id may be passed over for long.
                    if Instant::now() >= until {
                        return None;
                    }
                }
                change => {
                    self.passed = 0;
                    return Some(change);
                }
            }
        }
    }

    fn last(&mut self, error: &Error) -> Told {
        self.is_over = true;
        let text = persist::shown::with_causes(error);
        if error.kind() == ErrorKind::Lagged {
            lagged(&text)
        } else {
            tracing::debug!(%error, "a live stream ends");
            Told::default().event("failed").data(visible_json(&quoted(&text)))
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn lagged(text: &str) -> Told {
    Told::default().event("lagged").data(visible_json(&quoted(text)))
}

fn full(change: &Change) -> Option<Told> {
    let line = serde_json::to_string(&change.line()).ok()?;
    let told = Told::default().event("change").id(change.cursor().to_string());
    Some(told.data(visible_json(&line)))
}
