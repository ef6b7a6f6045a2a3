//! What every request passes: who may ask, how, how many at a time and for how long; and what every answer carries.

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::time::{Instant, timeout_at};

use crate::app::App;
use crate::failure::Failure;
use crate::{api, hosts, pages};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// The outermost: gives a failure its words, and every answer its headers.
pub(crate) async fn dress(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_program = ["/api/", "/readyz", "/metrics", "/live"]
        .iter()
        .any(|lead| path.starts_with(lead));
    let asked = match refused(&app, &request) {
        Some(failure) => failure.into_response(),
        None => next.run(request).await,
    };
    let mut response = asked;
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        response = if is_program {
            api::lost(&failure)
        } else {
            pages::lost(&app, &failure)
        };
        *response.status_mut() = failure.status;
        if let Some(seconds) = failure.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if failure.status == StatusCode::METHOD_NOT_ALLOWED {
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
    }
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, value);
    }
    let usual = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .entry(header::CACHE_CONTROL)
        .or_insert(usual);
    response
}

/// Why a request is not even looked at.
fn refused(app: &App, request: &Request) -> Option<Failure> {
    let headers = request.headers();
    if let Some(hosts) = &app.options.hosts
        && !hosts::is_asked(hosts, request.uri(), headers)
    {
        let what = "this is not the host that was asked for; persist serve --host names more of them";
        return Some(Failure::new(StatusCode::MISDIRECTED_REQUEST, "wrong_host", what));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let what = "only GET and HEAD are answered: nothing is changed here";
        return Some(Failure::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            what,
        ));
    }
    let length = headers.get(header::CONTENT_LENGTH);
    if length.is_some_and(|length| length != "0") || headers.contains_key(header::TRANSFER_ENCODING) {
        let what = "no request has a body here";
        return Some(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_input", what));
    }
    None
}

/// So many at a time, and so long each with its waiting: around all that asks the store. Half of the time is for waiting: by the end
/// of all of it whoever is before has ended too, and who then gets a place would have no time left, and would blame the store.
pub(crate) async fn bound(State(app): State<App>, request: Request, next: Next) -> Response {
    let within = app.options.within;
    let (begun, waiting) = (Instant::now(), within / 2);
    let Ok(place) = timeout_at(begun + waiting, app.places.acquire()).await else {
        let most = app.options.requests;
        let what = format!(
            "{most} requests are under way, as many as there may be, and no place came free within {waiting:?}"
        );
        return Failure::too_many(what).into_response();
    };
    // It was let in: what it then waits for is the store.
    let answered = timeout_at(begun + within, next.run(request)).await;
    drop(place);
    answered.unwrap_or_else(|_| {
        Failure::timed_out(format!("the store did not answer within {within:?}")).into_response()
    })
}
