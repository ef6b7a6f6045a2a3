//! The page in place of one that could not be made.

use askama::Template;
use axum::response::{IntoResponse as _, Response};

use super::Shell;
use crate::app::App;
use crate::failure::{Failure, TOO_MANY};

#[derive(Template)]
#[template(path = "lost.html")]
struct Lost<'f> {
    shell: Shell,
    heading: &'static str,
    failure: &'f Failure,
    is_away: bool,
}

pub(crate) fn lost(app: &App, failure: &Failure) -> Response {
    let (heading, is_away) = match failure.status.as_u16() {
        400 | 409 | 413 | 414 | 421 => ("This can't be asked", false),
        404 => ("Not found", false),
        405 => ("This only reads", false),
        501 => ("This store can't do that", false),
        503 if failure.kind == TOO_MANY => ("Too many at a time", true),
        503 => ("The store can't be read", true),
        _ => ("Something is wrong here", false),
    };
    let mut shell = Shell::new(app, heading, "");
    shell.again = failure.retry_after.unwrap_or_default();
    let template = Lost {
        shell,
        heading,
        failure,
        is_away,
    };
    super::page(&template).unwrap_or_else(|failure| failure.text.into_response())
}
