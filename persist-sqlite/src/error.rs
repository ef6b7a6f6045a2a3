//! What SQLite says, as the kinds of [`Error`]: one table over extended result codes, no text matching.
//!
//! SQLite's texts can hold pieces of statements and schemas: nothing of them is kept but the code.

use std::{fmt, io};

use persist_core::{Error, ErrorKind, UpdateOutcome};
use rusqlite::ffi;

/// What was being done: the same code means different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The file was being opened.
    Open,
    /// Reading, or writing in a transaction that is rolled back.
    Statement,
    /// Committing: whether it is on disk depends on how it failed.
    Commit,
}

/// Why work on a connection failed: SQLite, or what we found in it.
#[derive(Debug)]
pub(crate) enum Failed {
    /// SQLite or the driver; classified where the connection is at hand.
    Driver(rusqlite::Error),
    /// Known already.
    Ours(Error),
}

impl Failed {
    /// The error, where no connection is at hand that could tell more.
    pub(crate) fn classified(self, phase: Phase) -> Error {
        match self {
            Self::Driver(error) => classify(&error, phase),
            Self::Ours(error) => error,
        }
    }
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

/// A result code, reduced to what can be shown to anybody.
#[derive(Debug)]
struct SqliteError(i32);

impl fmt::Display for SqliteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SQLite code {}: {}", self.0, ffi::code_to_str(self.0))
    }
}

impl std::error::Error for SqliteError {}

/// The extended code of a driver's error, where SQLite gave one.
pub(crate) fn code(error: &rusqlite::Error) -> Option<i32> {
    match error {
        rusqlite::Error::SqliteFailure(error, _) | rusqlite::Error::SqlInputError { error, .. } => {
            Some(error.extended_code)
        }
        _ => None,
    }
}

/// Whether the lock of the file was held by somebody else.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    code(error).is_some_and(|code| matches!(primary(code), ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED))
}

/// Whether a statement does not fit the tables: a missing table or column, or a bug. Which of the two is
/// decided by looking at the migration records.
pub(crate) fn may_be_schema(error: &rusqlite::Error) -> bool {
    code(error) == Some(ffi::SQLITE_ERROR)
}

/// Whether the connection should be replaced.
pub(crate) fn spoils_connection(error: &rusqlite::Error) -> bool {
    code(error).is_some_and(|code| matches!(primary(code), ffi::SQLITE_IOERR | ffi::SQLITE_CANTOPEN))
}

/// Whether a write-ahead log can't be shared here: it needs memory that all its users map.
pub(crate) fn lacks_shared_memory(error: &rusqlite::Error) -> bool {
    code(error).is_some_and(|code| {
        matches!(
            code,
            ffi::SQLITE_IOERR_SHMOPEN
                | ffi::SQLITE_IOERR_SHMSIZE
                | ffi::SQLITE_IOERR_SHMLOCK
                | ffi::SQLITE_IOERR_SHMMAP
        )
    })
}

/// The error of descriptors that are short just now. SQLite does not say why it could not open one of its files, and has
/// closed what it had opened on the way: the file, its log, the log's index.
fn short_of_files() -> Option<Error> {
    let opened: Vec<_> = (0..3).map(|_| std::fs::File::open("/")).collect();
    opened
        .iter()
        .find_map(|file| Error::out_of_files(file.as_ref().err()?))
}

/// The error of finding or making the file, before SQLite sees it.
pub(crate) fn of_io(error: &io::Error) -> Error {
    if let Some(error) = Error::out_of_files(error) {
        return error;
    }
    let (kind, what) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (ErrorKind::Full, "the disk is full; the file could not be made")
        }
        io::ErrorKind::ReadOnlyFilesystem => (
            ErrorKind::ReadOnly,
            "the file system takes no writes; the file could not be made",
        ),
        _ => (
            ErrorKind::InvalidUrl,
            "the file can't be opened or made; check the path, and the rights on its folder",
        ),
    };
    // The kind alone: its text holds no path.
    Error::new(kind, what).caused_by(io::Error::from(error.kind()))
}

/// The error of a driver's error. Says nothing about the operation: the caller adds it.
pub(crate) fn classify(error: &rusqlite::Error, phase: Phase) -> Error {
    match code(error) {
        Some(code) => (primary(code) == ffi::SQLITE_CANTOPEN)
            .then(short_of_files)
            .flatten()
            .unwrap_or_else(|| of_code(code, phase))
            .with("sqlite_code", code)
            .caused_by(SqliteError(code)),
        None => of_driver(error, phase),
    }
}

fn primary(code: i32) -> i32 {
    code & 0xff
}

fn of_code(code: i32, phase: Phase) -> Error {
    use ErrorKind as K;
    match (code, primary(code)) {
        (ffi::SQLITE_IOERR_CORRUPTFS | ffi::SQLITE_IOERR_DATA, _)
        | (_, ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB) => Error::new(
            K::Corrupt,
            "the file is damaged or is no SQLite database; it was left as it is: keep a copy and restore a backup",
        ),
        (ffi::SQLITE_IOERR_NOMEM, _) | (_, ffi::SQLITE_NOMEM) => {
            Error::new(K::Busy, "out of memory; rolled back")
        }
        (_, ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_PROTOCOL) => {
            Error::new(K::Busy, "another connection held the file's lock for too long")
        }
        (_, ffi::SQLITE_FULL) => Error::new(K::Full, "the disk is full; rolled back"),
        (_, ffi::SQLITE_IOERR) if phase == Phase::Commit => Error::new(
            K::OutcomeUnknown,
            "reading or writing the file failed during the commit",
        ),
        (_, ffi::SQLITE_IOERR) => Error::new(K::Unavailable, "reading or writing the file failed"),
        (_, ffi::SQLITE_CANTOPEN) if phase == Phase::Open => Error::new(
            K::InvalidUrl,
            "the file can't be opened; check the path, and the rights on the file and its folder",
        ),
        (_, ffi::SQLITE_CANTOPEN) => Error::new(
            K::Unavailable,
            "a file of the database can't be opened; check the rights on its folder and the limit of open files",
        ),
        (ffi::SQLITE_READONLY_DBMOVED, _) => Error::new(
            K::ReadOnly,
            "the file was moved or replaced while it was open; open it again",
        ),
        (_, ffi::SQLITE_READONLY) => Error::new(
            K::ReadOnly,
            "the file or its folder can't be written; check the rights, or open it with mode=ro",
        ),
        (_, ffi::SQLITE_PERM | ffi::SQLITE_AUTH) => Error::new(K::Auth, "access to the file was denied"),
        (_, ffi::SQLITE_INTERRUPT) => {
            Error::new(K::Timeout, "its time was up; rolled back").outcome_as(UpdateOutcome::NotApplied)
        }
        (_, ffi::SQLITE_SCHEMA) => Error::new(
            K::SchemaMismatch,
            "the schema keeps changing; run persist migrate up",
        ),
        (
            ffi::SQLITE_CONSTRAINT_CHECK
            | ffi::SQLITE_CONSTRAINT_NOTNULL
            | ffi::SQLITE_CONSTRAINT_DATATYPE
            | ffi::SQLITE_CONSTRAINT_TRIGGER,
            _,
        )
        | (_, ffi::SQLITE_TOOBIG | ffi::SQLITE_MISMATCH) => {
            Error::new(K::InvalidInput, "the database refuses a value")
        }
        // A commit that a constraint forbids leaves the transaction open, to be rolled back.
        (_, ffi::SQLITE_CONSTRAINT) => {
            internal("a constraint that is not ours was violated", Phase::Statement)
        }
        _ => internal("SQLite failed in a way that is not known here", phase),
    }
}

fn of_driver(error: &rusqlite::Error, phase: Phase) -> Error {
    use rusqlite::Error as E;
    match error {
        E::FromSqlConversionFailure(..)
        | E::IntegralValueOutOfRange(..)
        | E::Utf8Error(..)
        | E::InvalidColumnType(..) => Error::new(
            ErrorKind::Corrupt,
            "a column holds what its type does not allow; the file is damaged or was edited",
        ),
        E::InvalidPath(_) | E::NulError(_) => Error::new(ErrorKind::InvalidUrl, "the path can't be used"),
        _ => internal("the driver was used in a wrong way", phase),
    }
}

/// Outside of the commit everything is rolled back, so that much is known.
fn internal(what: &'static str, phase: Phase) -> Error {
    let error = Error::new(ErrorKind::Internal, what);
    if phase == Phase::Commit {
        error
    } else {
        error.outcome_as(UpdateOutcome::NotApplied)
    }
}

#[cfg(test)]
mod tests;
