//! The one public error type.
//!
//! A kind says what the caller can do, [`Error::outcome`] whether the update may have happened, and the
//! cause stays reachable through [`std::error::Error::source`]. Texts are lower case and hold no value
//! that may be secret: a driver's own text goes only into the source when the backend knows it is clean.

use std::sync::Arc;
use std::{fmt, io};

/// The result of every fallible call of persist.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, seen from the caller: one kind for each thing that a caller does differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value is outside its limit, or a batch entry is refused by the database. Yours to fix.
    InvalidInput,
    /// The database URL can't be used. Yours to fix.
    InvalidUrl,
    /// Credentials, database name or rights. Retrying does not help.
    Auth,
    /// Not sent, or certainly not applied. Retry.
    Unavailable,
    /// Sent, but no answer came. Send it again: slots make that safe.
    OutcomeUnknown,
    /// The deadline ran out. Retry later.
    Timeout,
    /// A lock, a full pool or a full queue. Retry later.
    Busy,
    /// The database's schema is not the one that this binary needs. Migrate or upgrade.
    SchemaMismatch,
    /// The database takes no writes.
    ReadOnly,
    /// The disk is full.
    Full,
    /// The database is damaged.
    Corrupt,
    /// What was asked for is gone, pruned or not kept, since it was last looked at. Begin anew.
    Lagged,
    /// Used after `close`. A bug in the caller.
    Closed,
    /// The backend has no such power.
    Unsupported,
    /// A bug in persist, or an answer from the database that it does not know.
    Internal,
}

impl ErrorKind {
    /// Every kind, for exhaustive tables.
    pub const ALL: [ErrorKind; 15] = [
        Self::InvalidInput,
        Self::InvalidUrl,
        Self::Auth,
        Self::Unavailable,
        Self::OutcomeUnknown,
        Self::Timeout,
        Self::Busy,
        Self::SchemaMismatch,
        Self::ReadOnly,
        Self::Full,
        Self::Corrupt,
        Self::Lagged,
        Self::Closed,
        Self::Unsupported,
        Self::Internal,
    ];

    /// The stable snake-case word for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::InvalidUrl => "invalid_url",
            Self::Auth => "auth",
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::SchemaMismatch => "schema_mismatch",
            Self::ReadOnly => "read_only",
            Self::Full => "full",
            Self::Corrupt => "corrupt",
            Self::Lagged => "lagged",
            Self::Closed => "closed",
            Self::Unsupported => "unsupported",
            Self::Internal => "internal",
        }
    }

    fn default_retry(self) -> Retry {
        match self {
            Self::Unavailable | Self::OutcomeUnknown | Self::Timeout | Self::Busy => Retry::Later,
            Self::InvalidInput
            | Self::InvalidUrl
            | Self::Auth
            | Self::SchemaMismatch
            | Self::ReadOnly
            | Self::Full
            | Self::Corrupt
            | Self::Lagged
            | Self::Closed
            | Self::Unsupported
            | Self::Internal => Retry::Never,
        }
    }

    fn default_outcome(self) -> UpdateOutcome {
        match self {
            Self::OutcomeUnknown | Self::Timeout | Self::Internal => UpdateOutcome::Unknown,
            Self::InvalidInput
            | Self::InvalidUrl
            | Self::Auth
            | Self::Unavailable
            | Self::Busy
            | Self::SchemaMismatch
            | Self::ReadOnly
            | Self::Full
            | Self::Corrupt
            | Self::Lagged
            | Self::Closed
            | Self::Unsupported => UpdateOutcome::NotApplied,
        }
    }
}

/// Whether the same call may succeed when it is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// At once, with a short jitter: a serialization failure or a deadlock.
    Now,
    /// With back-off.
    Later,
    /// Not without somebody's doing.
    Never,
}

/// Whether an update that ended in an error may stand in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpdateOutcome {
    /// It certainly does not.
    NotApplied,
    /// It may. Sending it again is safe and tells.
    Unknown,
}

/// An error with its kind, the operation that failed, and what is known about it.
///
/// ```
/// use persist_core::{Error, ErrorKind, UpdateOutcome};
/// let error = Error::new(ErrorKind::OutcomeUnknown, "connection lost after sending").during("apply");
/// assert_eq!(error.to_string(), "apply: connection lost after sending");
/// assert_eq!(error.outcome(), UpdateOutcome::Unknown);
/// assert!(error.is_retryable());
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    operation: Option<&'static str>,
    message: String,
    context: Vec<(&'static str, String)>,
    retry: Retry,
    outcome: UpdateOutcome,
    /// Shared, so that all callers of one flush hear the same cause.
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of this kind. `message` is lower case, without a full stop, and holds no secret.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            operation: None,
            message: message.into(),
            context: Vec::new(),
            retry: kind.default_retry(),
            outcome: kind.default_outcome(),
            source: None,
        }))
    }

    /// `InvalidInput` for one field: `field: what`.
    pub fn invalid(field: &'static str, what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::InvalidInput, format!("{field}: {what}")).with("field", field)
    }

    /// Names the operation. The innermost name stays.
    #[must_use]
    pub fn during(mut self, operation: &'static str) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// Adds a fact, such as the field, the index in the batch or the table.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Keeps the cause. Its text is shown to users: pass none that may hold row values or credentials.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Overrides the kind's usual retry status.
    #[must_use]
    pub fn retry_as(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Overrides the kind's usual [`UpdateOutcome`]: a deadline that ran out in the queue is `NotApplied`.
    #[must_use]
    pub fn outcome_as(mut self, outcome: UpdateOutcome) -> Self {
        self.0.outcome = outcome;
        self
    }

    /// The error of a chunk, by its number from 0: behind the first, those before it stand, so that it never says that
    /// nothing was applied.
    ///
    /// ```
    /// use persist_core::{Error, ErrorKind, UpdateOutcome};
    /// let full = || Error::new(ErrorKind::Full, "no room");
    /// assert_eq!(full().of_chunk(0).outcome(), UpdateOutcome::NotApplied);
    /// assert_eq!(full().of_chunk(1).outcome(), UpdateOutcome::Unknown);
    /// ```
    #[must_use]
    pub fn of_chunk(self, number: usize) -> Self {
        if number == 0 {
            self
        } else {
            self.outcome_as(UpdateOutcome::Unknown)
        }
    }

    /// The error of what could not be opened for want of a file descriptor, in this process or on this machine; `None` for
    /// any other cause. `Unavailable`: others may close theirs.
    pub fn out_of_files(cause: &io::Error) -> Option<Self> {
        // Both have had these numbers since the first Unix; Rust has no kind for them.
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        let is_it = matches!(cause.raw_os_error(), Some(ENFILE | EMFILE));
        let what = "no more files or connections can be opened; raise the limit of open files (ulimit -n)";
        is_it.then(|| Self::new(ErrorKind::Unavailable, what))
    }

    /// What went wrong, seen from the caller.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation that failed, such as `apply` or `jobs`.
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// The fact of this name, if the error carries it. `field` and `index` are the usual ones.
    pub fn context(&self, key: &str) -> Option<&str> {
        self.0
            .context
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value.as_str())
    }

    /// Whether and how to try again.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// Shorthand for `retry() != Never`.
    pub fn is_retryable(&self) -> bool {
        self.0.retry != Retry::Never
    }

    /// Whether the update may stand in the store all the same.
    pub fn outcome(&self) -> UpdateOutcome {
        self.0.outcome
    }

    /// Whether it is about one claim, or the row that one is about, and says nothing of others beside it: an
    /// invalid value, or a row that can't be read, which carries its `request_id`. Those others may be sent again.
    pub fn is_of_one_claim(&self) -> bool {
        self.0.kind == ErrorKind::InvalidInput || self.context("request_id").is_some()
    }

    /// The message alone, without the operation.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(operation) = self.0.operation {
            write!(f, "{operation}: ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug
            .field("kind", &self.0.kind)
            .field("message", &self.to_string());
        for (key, value) in &self.0.context {
            debug.field(key, value);
        }
        if let Some(source) = &self.0.source {
            debug.field("source", &source.to_string());
        }
        debug.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
