//! How the program ends: exit codes, and errors as a terminal shows them.

use std::io;
use std::process::ExitCode;

pub(crate) use persist::shown::with_causes;
use persist::{Error, ErrorKind};

use crate::talk;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Ok,
    /// It failed, or some of the input was invalid.
    Failed,
    Usage,
    NotFound,
    Refused,
    Unavailable,
    SchemaMismatch,
    /// Ended early and in order by this signal.
    Signalled(u8),
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        ExitCode::from(match code {
            Code::Ok => 0,
            Code::Failed => 1,
            Code::Usage => 2,
            Code::NotFound => 3,
            Code::Refused => 4,
            Code::Unavailable => 5,
            Code::SchemaMismatch => 6,
            // As a shell tells of a process that a signal ended.
            Code::Signalled(signal) => signal.saturating_add(128),
        })
    }
}

impl From<ErrorKind> for Code {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidUrl => Self::Usage,
            ErrorKind::Auth
            | ErrorKind::Unavailable
            | ErrorKind::OutcomeUnknown
            | ErrorKind::Timeout
            | ErrorKind::Busy
            | ErrorKind::ReadOnly
            | ErrorKind::Full
            | ErrorKind::Corrupt => Self::Unavailable,
            ErrorKind::SchemaMismatch => Self::SchemaMismatch,
            ErrorKind::InvalidInput
            | ErrorKind::Lagged
            | ErrorKind::Closed
            | ErrorKind::Unsupported
            | ErrorKind::Internal => Self::Failed,
            // The enum may grow; a test holds every kind of today against its code.
            _ => Self::Failed,
        }
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The store said so.
    Persist(Error),
    /// stdout could not be written.
    Output(io::Error),
    /// Known here: the exit code and what to say.
    Told(Code, String),
}

impl Failure {
    pub(crate) fn told(code: Code, text: impl Into<String>) -> Self {
        Self::Told(code, text.into())
    }

    /// Says it on stderr, and gives the exit code.
    pub(crate) fn report(self) -> Code {
        match self {
            Self::Persist(error) => {
                talk::say(&with_causes(&error));
                error.kind().into()
            }
            // Who reads has seen enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Code::Ok,
            Self::Output(error) => {
                talk::say(&format!("writing to stdout failed: {error}"));
                Code::Failed
            }
            Self::Told(code, text) => {
                talk::say(&text);
                code
            }
        }
    }
}

/// Of a command whose exit code tells how something is: that nobody reads on changes nothing of that.
pub(crate) fn unless_unread(printed: Result<(), Failure>) -> Result<(), Failure> {
    match printed {
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Persist(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_exit_code_of_the_contract() {
        for kind in ErrorKind::ALL {
            let expected = match kind.name() {
                "invalid_url" => Code::Usage,
                "schema_mismatch" => Code::SchemaMismatch,
                "invalid_input" | "lagged" | "closed" | "unsupported" | "internal" => Code::Failed,
                _ => Code::Unavailable,
            };
            assert_eq!(Code::from(kind), expected, "{kind:?}");
        }
    }
}
