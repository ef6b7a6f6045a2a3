//! How the store is.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use persist::Health;
use persist::shown::span::human;

use super::{Shell, page};
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::probes::look;
use crate::shown::Moment;

#[derive(Template)]
#[template(path = "health.html")]
struct HealthPage {
    shell: Shell,
    health: Option<Health>,
    mode: &'static str,
    is_ready: bool,
    latency: Option<String>,
    since: Option<Moment>,
    failure: Option<Failure>,
    subscribers: usize,
    most_subscribers: usize,
}

pub(crate) async fn health(State(app): State<App>) -> Answer {
    let (health, trouble) = look(&app).await;
    let now = app.now();
    let mut shell = Shell::new(&app, "Health", "health");
    let status = match &trouble {
        None => StatusCode::OK,
        Some(_) => {
            shell.again = 5;
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    let latency = health.as_ref().and_then(|health| health.latency_us);
    let latency = latency.and_then(|micros| i64::try_from(micros).ok());
    let mut response = page(&HealthPage {
        shell,
        mode: health.as_ref().map_or("not known", |health| health.mode.name()),
        is_ready: trouble.is_none(),
        latency: latency.map(|micros| human(chrono::TimeDelta::microseconds(micros))),
        since: health
            .as_ref()
            .and_then(|health| health.since)
            .map(|since| Moment::new(since, now)),
        failure: trouble,
        subscribers: app.options.subscribers - app.seats.available_permits().min(app.options.subscribers),
        most_subscribers: app.options.subscribers,
        health,
    })?;
    *response.status_mut() = status;
    Ok(response)
}
