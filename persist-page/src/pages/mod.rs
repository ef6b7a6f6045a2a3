//! The pages: each reads what it shows, and fills its template.

mod front;
mod health;
mod job;
mod jobs;
mod lost;
mod orphans;
mod stats;
mod vms;

use askama::Template;
use axum::http::header;
use axum::response::IntoResponse as _;
use persist::{Cursor, time};

pub(crate) use health::health;
pub(crate) use job::{find, id_of, job, named, none, resolve, story};
pub(crate) use jobs::jobs;
pub(crate) use lost::lost;
pub(crate) use orphans::{orphans, unsupported};
pub(crate) use stats::{PARAMETERS as STATS_PARAMETERS, asked as stats_asked, stats};
pub(crate) use vms::vms;

use crate::app::App;
use crate::failure::Answer;
use crate::params::address;

/// What is around every page.
#[derive(Debug, Default)]
pub(crate) struct Shell {
    title: String,
    /// The word of the menu that this page is under.
    here: &'static str,
    /// Where changes are told; empty where the page is not live.
    live: String,
    /// Why there may be no stream: a browser does not tell its script what the answer to a stream was. Empty where there are seats.
    full: String,
    /// When it was made, for who looks at it later.
    made: String,
    /// The same for the script, whose own clock may go wrong.
    made_at: String,
    /// Milliseconds after which it looks anew though nothing was told.
    look: u128,
    /// Seconds after which it asks again by itself; 0 for never.
    again: u32,
}

impl Shell {
    fn new(app: &App, title: impl Into<String>, here: &'static str) -> Self {
        let now = app.now();
        Self {
            title: title.into(),
            here,
            full: if app.seats.available_permits() == 0 {
                app.no_seat()
            } else {
                String::new()
            },
            made: now.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
            made_at: time::format(now),
            look: app.options.look_every.as_millis(),
            ..Self::default()
        }
    }

    /// Follows the changes after a place, of one job or of all.
    fn followed(mut self, from: Option<&Cursor>, job: &str) -> Self {
        if let Some(from) = from {
            let after = from.to_string();
            self.live = address("/live", [("job", job), ("after", after.as_str())]);
        }
        self
    }
}

fn page(template: &impl Template) -> Answer {
    let html = template.render()?;
    Ok(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response())
}
