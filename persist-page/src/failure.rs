//! What went wrong, as a status and as words; `guard` makes a page or JSON of it, by who asked.

use std::sync::LazyLock;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use persist::layer::OncePer;
use persist::shown::with_causes;
use persist::{Error, ErrorKind};

/// A store that is away fails every request of every open page, and one line of it is enough.
pub(crate) const BETWEEN_WARNINGS: Duration = Duration::from_secs(60);
static LINE: LazyLock<OncePer> = LazyLock::new(|| OncePer::new(BETWEEN_WARNINGS));

/// The word of a request for which there was no place.
pub(crate) const TOO_MANY: &str = "too_many";

/// Why a request has no other answer.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    /// The stable word of it.
    pub(crate) kind: &'static str,
    pub(crate) text: String,
    /// What to do, where that is known.
    pub(crate) advice: Option<&'static str>,
    /// Seconds after which asking again may help.
    pub(crate) retry_after: Option<u32>,
}

const TOO_LONG: &str = "It took too long. A narrower filter, such as a repository or a time, reads less.";

pub(crate) type Answer<T = Response> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(status: StatusCode, kind: &'static str, text: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            text: text.into(),
            advice: None,
            retry_after: None,
        }
    }

    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", text)
    }

    /// The store did not answer in time.
    pub(crate) fn timed_out(text: impl Into<String>) -> Self {
        let late = Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Timeout.name(), text);
        Self {
            advice: Some(TOO_LONG),
            retry_after: Some(5),
            ..late
        }
    }

    /// Too many at a time here; a store that is busy has a word of its own.
    pub(crate) fn too_many(text: impl Into<String>) -> Self {
        let crowd = Self::new(StatusCode::SERVICE_UNAVAILABLE, TOO_MANY, text);
        Self {
            retry_after: Some(5),
            ..crowd
        }
    }
}

/// Of an error that a switch over the driver gives, the driver's own.
pub(crate) fn root(error: &Error) -> &Error {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref());
    match cause {
        Some(cause) if error.kind() == ErrorKind::Unavailable => root(cause),
        _ => error,
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = error.kind();
        let status = match kind {
            ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
            ErrorKind::Lagged => StatusCode::GONE,
            ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
            ErrorKind::InvalidUrl | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            // The store can't be read now, and says why.
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        let advice = match root(&error).kind() {
            ErrorKind::Auth => Some(
                "The database refuses these credentials or rights: waiting does not help. Ask persist doctor.",
            ),
            ErrorKind::SchemaMismatch => Some(
                "This page never changes a schema. Run what the cause names; the page then comes back by itself.",
            ),
            ErrorKind::Corrupt => {
                Some("The database says that it is damaged. Run persist doctor and persist verify.")
            }
            ErrorKind::Timeout | ErrorKind::Busy => Some(TOO_LONG),
            ErrorKind::Unavailable | ErrorKind::OutcomeUnknown => {
                Some("This page asks again by itself. persist health and persist doctor tell more.")
            }
            _ => None,
        };
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(5);
        if status.is_server_error() {
            let kind = kind.name();
            match LINE.pass() {
                Some(held_back) => tracing::warn!(kind, %error, held_back, "a request was not answered"),
                None => tracing::debug!(kind, %error, "a request was not answered"),
            }
        }
        Self {
            status,
            kind: kind.name(),
            text: with_causes(&error),
            advice,
            retry_after,
        }
    }
}

impl From<askama::Error> for Failure {
    fn from(error: askama::Error) -> Self {
        tracing::error!(%error, "a page could not be rendered");
        let what = "the page could not be rendered";
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorKind::Internal.name(),
            what,
        )
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        tracing::error!(%error, "an answer could not be written as JSON");
        let what = "the answer could not be written";
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorKind::Internal.name(),
            what,
        )
    }
}

/// Without words yet: what is made of it depends on the path.
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_status() {
        for kind in ErrorKind::ALL {
            let status = match kind.name() {
                "invalid_input" => 400,
                "lagged" => 410,
                "invalid_url" | "internal" => 500,
                "unsupported" => 501,
                _ => 503,
            };
            let failure = Failure::from(Error::new(kind, "what"));
            assert_eq!(failure.status.as_u16(), status, "{kind:?}");
            assert_eq!(failure.kind, kind.name());
            assert_ne!(
                failure.kind, TOO_MANY,
                "a store that is busy is no crowd of readers"
            );
        }
    }

    #[test]
    fn what_to_do_is_told_by_the_cause() {
        let cause = Error::new(ErrorKind::SchemaMismatch, "run persist migrate up");
        let error = Error::new(ErrorKind::Unavailable, "the database is away").caused_by(cause);
        let failure = Failure::from(error);
        assert_eq!(failure.text, "the database is away: run persist migrate up");
        assert!(
            failure
                .advice
                .is_some_and(|advice| advice.contains("never changes a schema"))
        );
    }
}
