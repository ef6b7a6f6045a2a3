//! What other machines ask: whether this lives, whether it can work, and its metrics.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use persist::{Error, Health, JobQuery, Mode, Result};
use serde::Serialize;
use tokio::time::timeout;

use crate::api::{json, lost};
use crate::app::App;
use crate::failure::{Answer, Failure};

/// That the process answers. The store is not asked: it is no better after a restart of this.
pub(crate) async fn healthz() -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], "ok\n").into_response()
}

/// Whether the store can be read: what it says of itself, and why not if not. Ends by a deadline.
pub(crate) async fn look(app: &App) -> (Option<Health>, Option<Failure>) {
    let within = app.options.ready_within;
    let asked = timeout(within, app.persist.health()).await;
    let health = match asked.unwrap_or_else(|_| Err(Error::deadline("health", within))) {
        Ok(health) => health,
        Err(error) => return (None, Some(error.into())),
    };
    let usable = timeout(within, usable(app)).await;
    let usable = usable.unwrap_or_else(|_| Err(Error::deadline("health", within)));
    (Some(health), usable.err().map(Failure::from))
}

/// # Errors
/// Why it can't be read. A mode that is not `ready` is told by the read, with its cause.
async fn usable(app: &App) -> Result<()> {
    if let Some(schema) = app.backend.schema() {
        schema.check().await?;
    }
    app.backend.jobs(&JobQuery::default().limit(1)).await?;
    Ok(())
}

pub(crate) async fn readyz(State(app): State<App>) -> Answer {
    #[derive(Serialize)]
    struct Ready<'h> {
        ready: bool,
        mode: Mode,
        backend: &'h str,
        schema_version: Option<&'h str>,
    }
    match look(&app).await {
        (Some(health), None) => json(&Ready {
            ready: true,
            mode: health.mode,
            backend: &health.backend,
            schema_version: health.schema_version.as_deref(),
        }),
        (_, failure) => {
            let failure = failure.unwrap_or_else(|| Failure::timed_out("the store did not say how it is"));
            let mut response = lost(&failure);
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            Ok(response)
        }
    }
}

pub(crate) async fn metrics(State(app): State<App>) -> Answer {
    let none = || Failure::not_found("no metrics are kept here");
    let render = app.options.metrics.as_ref().ok_or_else(none)?;
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, render()).into_response())
}
