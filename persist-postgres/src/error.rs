//! What Postgres says, as the kinds of [`Error`]: one table over SQLSTATE, no text matching.
//!
//! A server's texts can hold row values, and its DETAIL always does: nothing of them is kept but the code and
//! the routine, and which column or table of ours is missing. Only the kind of an I/O error and the text of a TLS error
//! pass, which name no value.

use std::fmt;

use persist_core::{Error, ErrorKind, Retry, UpdateOutcome};
use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

/// What was being done when the driver failed: the same code means different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing of the call had been sent.
    Connect,
    /// A statement had been sent.
    Statement,
    /// A migration's statement had been sent, in a transaction that did not commit.
    Migrate,
}

/// A server's error, reduced to what can be shown to anybody.
#[derive(Debug)]
struct ServerError {
    code: String,
    routine: Option<String>,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered with SQLSTATE {}", self.code)?;
        match &self.routine {
            Some(routine) => write!(f, " from {routine}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ServerError {}

const MIGRATE: &str = "the schema is not the one that this program needs; run persist migrate up";
const POOLER: &str =
    "prepared statements get lost on the way: behind PgBouncer add persist_pooler=transaction to the URL";

/// Whether the server says which column or table a statement of ours misses. Such a text holds names of the statement and
/// nothing else; what runs inside of somebody's trigger may hold a row's value, and is at no place of our statement.
fn names_what_is_missing(error: &PgDatabaseError) -> bool {
    const NAMING: [&str; 4] = [
        "errorMissingColumn",
        "checkInsertTargets",
        "transformUpdateTargetList",
        "parserOpenTable",
    ];
    let is_naming = error.routine().is_some_and(|routine| NAMING.contains(&routine));
    let is_ours = error.r#where().is_none() && matches!(error.position(), Some(PgErrorPosition::Original(_)));
    is_naming && is_ours && matches!(error.code(), "42P01" | "42703")
}

fn edited(missing: &str) -> Error {
    let what = format!(
        "the schema is not the one that this program needs: {missing}; run persist migrate up, or bring back what was \
         changed by hand"
    );
    Error::new(ErrorKind::SchemaMismatch, what)
}

/// Where a pooler is met that the URL does not tell of.
pub(crate) fn needs_pooler(what: &str) -> Error {
    let what = format!("{what}; behind PgBouncer add persist_pooler=transaction to the URL");
    Error::new(ErrorKind::InvalidUrl, what)
}

/// The error of a driver's error. Says nothing about the operation: the caller adds it.
pub(crate) fn classify(error: &sqlx::Error, phase: Phase) -> Error {
    use sqlx::Error as E;
    match error {
        E::Database(error) => {
            let error = error.downcast_ref::<PgDatabaseError>();
            let source = ServerError {
                code: error.code().to_owned(),
                routine: error.routine().map(str::to_owned),
            };
            let told = if names_what_is_missing(error) {
                edited(error.message())
            } else {
                of_code(&source.code, source.routine.as_deref(), phase)
            };
            told.with("sqlstate", &source.code).caused_by(source)
        }
        E::Io(error) => lost(phase, "the connection failed").caused_by(std::io::Error::from(error.kind())),
        // Why is told by `tls`, where a connection is made.
        E::Tls(_) => lost(phase, "TLS failed"),
        E::Configuration(_) | E::InvalidArgument(_) | E::ConfigFile(_) => Error::new(
            ErrorKind::InvalidUrl,
            "the connection settings can't be used; check certificates and keys",
        ),
        E::Protocol(_) => lost(phase, "the server broke the protocol"),
        E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::BeginFailed => {
            lost(phase, "the connection could not be used")
        }
        E::ColumnDecode { .. }
        | E::ColumnNotFound(_)
        | E::ColumnIndexOutOfBounds { .. }
        | E::Decode(_)
        | E::TypeNotFound { .. } => Error::new(ErrorKind::SchemaMismatch, MIGRATE),
        _ => Error::new(ErrorKind::Internal, "the driver failed in an unknown way"),
    }
}

/// A connection that broke: before anything was sent it is certain that nothing happened.
fn lost(phase: Phase, what: &str) -> Error {
    match phase {
        Phase::Connect | Phase::Migrate => {
            Error::new(ErrorKind::Unavailable, format!("{what}; is the server up"))
        }
        Phase::Statement => Error::new(
            ErrorKind::OutcomeUnknown,
            format!("{what} before the answer came"),
        ),
    }
}

fn of_code(code: &str, routine: Option<&str>, phase: Phase) -> Error {
    use ErrorKind as K;
    match code {
        "08001" | "08004" | "57P03" => Error::new(K::Unavailable, "the server takes no connection now"),
        "53300" => Error::new(
            K::Unavailable,
            "the server has no connection left; raise max_connections or use fewer",
        ),
        "08P01" if phase == Phase::Connect => Error::new(
            K::Unavailable,
            "a pooler before the server refuses the connection, or has none to it; see its log, and add \
             persist_pooler=transaction to the URL if it is missing",
        ),
        "08000" | "08003" | "08006" | "08P01" | "57P01" | "57P02" | "57P05" | "25P03" => {
            lost(phase, "the server ended the connection")
        }
        "40003" => Error::new(
            K::OutcomeUnknown,
            "the server does not know whether the statement completed",
        ),
        "40001" | "40P01" => {
            Error::new(K::Busy, "gave way to a concurrent transaction; rolled back").retry_as(Retry::Now)
        }
        "55P03" => Error::new(K::Busy, "a lock was held for too long; rolled back"),
        "53200" => Error::new(K::Busy, "the server is out of memory; rolled back"),
        "57014" => Error::new(
            K::Timeout,
            "the server cancelled the statement, its time was up; rolled back",
        )
        .outcome_as(UpdateOutcome::NotApplied),
        "25006" => {
            Error::new(K::ReadOnly, "the server takes no writes; is it a standby").retry_as(Retry::Later)
        }
        "25P02" => {
            Error::new(K::Internal, "the connection was left in a failed transaction").retry_as(Retry::Later)
        }
        "23505" | "42P06" | "42P07" | "42701" | "42710" if phase == Phase::Migrate => {
            Error::new(K::Busy, "another process created the same object").retry_as(Retry::Now)
        }
        "23505" => Error::new(K::Internal, "a key that can't be doubled was doubled")
            .outcome_as(UpdateOutcome::NotApplied),
        "23502" | "23503" | "23514" | "54000" => Error::new(K::InvalidInput, "the database refuses a value"),
        "42P01" | "42703" | "42883" | "3F000" => Error::new(K::SchemaMismatch, MIGRATE),
        "0A000" if routine == Some("RevalidateCachedQuery") => {
            Error::new(K::SchemaMismatch, MIGRATE).retry_as(Retry::Now)
        }
        "26000" | "42P05" => Error::new(K::Unavailable, POOLER).retry_as(Retry::Now),
        "28P01" | "28000" => Error::new(
            K::Auth,
            "the server refuses user and password, or this way of connecting",
        ),
        "3D000" => Error::new(K::Auth, "there is no database of this name; create it first"),
        "42501" => Error::new(K::Auth, "the role lacks a right; see GRANT in the documentation"),
        "53100" => Error::new(K::Full, "the server's disk is full"),
        "XX001" | "XX002" => Error::new(K::Corrupt, "the server reports damaged data"),
        _ if code.starts_with("22") => Error::new(K::InvalidInput, "the database refuses a value"),
        _ => Error::new(K::Internal, "the server failed in a way that is not known here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_code_table() {
        use ErrorKind as K;
        use Phase::{Connect, Migrate, Statement};
        use Retry::{Later, Never, Now};
        use UpdateOutcome::{NotApplied, Unknown};
        let rows: &[(&[&str], Phase, ErrorKind, Retry, UpdateOutcome)] = &[
            (
                &["08001", "08004", "57P03", "53300"],
                Connect,
                K::Unavailable,
                Later,
                NotApplied,
            ),
            (
                &["08001", "08004", "57P03", "53300"],
                Statement,
                K::Unavailable,
                Later,
                NotApplied,
            ),
            (
                &["08003", "08006", "08P01", "57P01", "57P02", "57P05", "25P03"],
                Statement,
                K::OutcomeUnknown,
                Later,
                Unknown,
            ),
            (
                &["08003", "08006", "08P01", "57P01", "57P02", "57P05", "25P03"],
                Connect,
                K::Unavailable,
                Later,
                NotApplied,
            ),
            (&["40003"], Statement, K::OutcomeUnknown, Later, Unknown),
            (&["40001", "40P01"], Statement, K::Busy, Now, NotApplied),
            (&["55P03", "53200"], Statement, K::Busy, Later, NotApplied),
            (&["57014"], Statement, K::Timeout, Later, NotApplied),
            (&["25006"], Statement, K::ReadOnly, Later, NotApplied),
            (&["25P02"], Statement, K::Internal, Later, Unknown),
            (
                &[
                    "22001", "22021", "22P02", "22003", "23502", "23503", "23514", "54000",
                ],
                Statement,
                K::InvalidInput,
                Never,
                NotApplied,
            ),
            (
                &["42P01", "42703", "42883", "3F000"],
                Statement,
                K::SchemaMismatch,
                Never,
                NotApplied,
            ),
            (&["26000", "42P05"], Statement, K::Unavailable, Now, NotApplied),
            (&["23505"], Statement, K::Internal, Never, NotApplied),
            (
                &["23505", "42P06", "42P07", "42710", "42701"],
                Migrate,
                K::Busy,
                Now,
                NotApplied,
            ),
            (
                &["28P01", "28000", "3D000", "42501"],
                Connect,
                K::Auth,
                Never,
                NotApplied,
            ),
            (&["42501"], Statement, K::Auth, Never, NotApplied),
            (&["53100"], Statement, K::Full, Never, NotApplied),
            (&["XX001", "XX002"], Statement, K::Corrupt, Never, NotApplied),
            (
                &["XX000", "0A000", "42601", "99999", ""],
                Statement,
                K::Internal,
                Never,
                Unknown,
            ),
        ];
        for (codes, phase, kind, retry, outcome) in rows {
            for code in *codes {
                let error = of_code(code, None, *phase);
                assert_eq!(
                    (error.kind(), error.retry(), error.outcome()),
                    (*kind, *retry, *outcome),
                    "{code}"
                );
            }
        }
        let stale = of_code("0A000", Some("RevalidateCachedQuery"), Statement);
        assert_eq!((stale.kind(), stale.retry()), (K::SchemaMismatch, Now));
    }

    #[test]
    fn io_errors_keep_their_kind_and_nothing_else() {
        let io = || {
            sqlx::Error::Io(std::io::Error::new(
                std::io::ErrorKind::ConnectionReset,
                "hunter2",
            ))
        };
        let error = classify(&io(), Phase::Statement);
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
        assert!(
            format!("{error:?}").contains("connection reset") && !format!("{error:?}").contains("hunter2")
        );
        assert_eq!(classify(&io(), Phase::Connect).kind(), ErrorKind::Unavailable);
        let text = sqlx::Error::Protocol("hunter2".into());
        assert!(!format!("{:?}", classify(&text, Phase::Statement)).contains("hunter2"));
    }
    #[test]
    fn what_the_driver_says_by_itself_is_told_by_its_kind() {
        use ErrorKind as K;
        use sqlx::Error as E;
        let rows: [(E, K, K, &str); 8] = [
            (E::Tls("t".into()), K::Unavailable, K::OutcomeUnknown, "TLS"),
            (
                E::Configuration("hunter2".into()),
                K::InvalidUrl,
                K::InvalidUrl,
                "settings",
            ),
            (
                E::InvalidArgument("hunter2".into()),
                K::InvalidUrl,
                K::InvalidUrl,
                "settings",
            ),
            (
                E::Protocol("hunter2".into()),
                K::Unavailable,
                K::OutcomeUnknown,
                "protocol",
            ),
            (
                E::PoolTimedOut,
                K::Unavailable,
                K::OutcomeUnknown,
                "could not be used",
            ),
            (
                E::WorkerCrashed,
                K::Unavailable,
                K::OutcomeUnknown,
                "could not be used",
            ),
            (
                E::ColumnNotFound("hunter2".into()),
                K::SchemaMismatch,
                K::SchemaMismatch,
                "migrate up",
            ),
            (E::RowNotFound, K::Internal, K::Internal, "unknown way"),
        ];
        for (error, connecting, sent, text) in rows {
            for (phase, kind) in [(Phase::Connect, connecting), (Phase::Statement, sent)] {
                let told = classify(&error, phase);
                assert_eq!(told.kind(), kind, "{told}");
                assert!(told.message().contains(text), "{told}");
                assert!(!format!("{told:?}").contains("hunter2"), "{told:?}");
            }
        }
    }

    #[test]
    fn codes_of_one_kind_are_told_apart_by_what_to_do() {
        let rows = [
            ("53300", "max_connections"),
            ("08001", "takes no connection"),
            ("55P03", "a lock"),
            ("53200", "memory"),
            ("42501", "GRANT"),
            ("3D000", "create it first"),
            ("28P01", "user and password"),
            ("08000", "ended the connection"),
            ("26000", "persist_pooler=transaction"),
        ];
        for (code, text) in rows {
            let error = of_code(code, None, Phase::Connect);
            assert!(error.message().contains(text), "{code}: {error}");
        }
        assert_eq!(
            of_code("0A000", Some("Other"), Phase::Statement).kind(),
            ErrorKind::Internal
        );
        let source = |routine: Option<&str>| {
            let (code, routine) = ("23505".to_owned(), routine.map(str::to_owned));
            ServerError { code, routine }.to_string()
        };
        assert_eq!(source(None), "the server answered with SQLSTATE 23505");
        assert_eq!(
            source(Some("_bt_check_unique")),
            "the server answered with SQLSTATE 23505 from _bt_check_unique"
        );
    }
}
