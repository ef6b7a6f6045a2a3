//! The first page: what is going on, and the jobs.

use askama::Template;
use axum::extract::{RawQuery, State};

use super::front::{Front, front};
use super::{Shell, page};
use crate::app::App;
use crate::failure::Answer;
use crate::filter::{self, For};
use crate::shown::{Choice, JobRow, choices};
use crate::walk;

#[derive(Template)]
#[template(path = "jobs.html")]
struct Jobs {
    shell: Shell,
    front: Front,
    states: Vec<Choice>,
    repo_url: String,
    commit_sha: String,
    runs_on: String,
    since: String,
    until: String,
    rows: Vec<JobRow>,
    is_narrow: bool,
    /// By what, in words.
    narrowed: String,
    is_first: bool,
    beginning: String,
    next: Option<String>,
}

pub(crate) async fn jobs(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let filter = filter::jobs(query.as_deref(), &*app.options.clock, For::Page)?;
    let from = app.followed_from().await;
    let (listed, front) = tokio::join!(walk::jobs(&*app.backend, &filter.query), front(&app));
    let (listed, front) = (listed?, front?);
    let now = app.now();
    page(&Jobs {
        shell: Shell::new(&app, "Jobs", "jobs").followed(from.as_ref(), ""),
        front,
        states: choices(&filter.query.states),
        repo_url: filter.field("repo_url"),
        commit_sha: filter.field("commit_sha"),
        runs_on: filter.field("runs_on"),
        since: filter.field("since"),
        until: filter.field("until"),
        rows: listed.items.iter().map(|job| JobRow::new(job, now)).collect(),
        is_narrow: filter.is_narrow(),
        narrowed: filter.narrowed(),
        is_first: filter.after.is_none(),
        beginning: filter.beginning(),
        next: listed.next.map(|next| filter.next(&next)),
    })
}
