//! A connection in use: its deadlines, its transactions, and what its errors mean.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use persist_core::sql::Dialect;
use persist_core::{Error, ErrorKind, Result, UpdateOutcome};
use rusqlite::Connection;

use crate::anchor::{Anchor, Identity};
use crate::connection::{self, Holds, Role, Source};
use crate::error::{self, Failed, Phase};
use crate::records;

/// How many steps of its machine SQLite takes between two looks at the clock: some 10 µs of work.
const STEPS: i32 = 1_000;

/// A connection, owned by whoever works on it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) connection: Connection,
    holds: Holds,
    born: Instant,
    /// When a statement is interrupted, in microseconds since `born`.
    limit: Arc<AtomicU64>,
    /// Whether another connection should take its place.
    pub(crate) is_spoiled: bool,
    anchor: Option<Anchor>,
    /// Its log, where it has one. As long as the connection is open nobody may take that away.
    log: Option<Identity>,
}

impl Session {
    /// Opens one, waiting for locks until then.
    pub(crate) fn open(source: &Source, role: Role, until: Instant) -> Result<Self, Failed> {
        let anchor = source.anchor.clone();
        if let Some(anchor) = &anchor {
            anchor.check_file()?;
        }
        let connection = connection::open(source, role, left(until))?;
        let log = match &anchor {
            Some(anchor) => {
                anchor.note();
                log_of(&connection, anchor, role)?
            }
            None => None,
        };
        let born = Instant::now();
        let limit = Arc::new(AtomicU64::new(u64::MAX));
        let seen = Arc::clone(&limit);
        connection.progress_handler(
            STEPS,
            Some(move || {
                let limit = seen.load(Ordering::Relaxed);
                limit != u64::MAX && born.elapsed().as_micros() >= u128::from(limit)
            }),
        )?;
        Ok(Self {
            connection,
            holds: source.holds,
            born,
            limit,
            is_spoiled: false,
            anchor,
            log,
        })
    }

    /// Runs work outside of a transaction. It is interrupted when its time is up.
    pub(crate) fn read<T>(
        &mut self,
        until: Instant,
        work: impl FnOnce(&Connection) -> Result<T, Failed>,
    ) -> Result<T> {
        self.check_place()?;
        self.wait_until(until)?;
        self.limited(until, |session| work(&session.connection))
            .map_err(|failed| self.judge(failed, Phase::Statement))
    }

    /// Runs work in a transaction that has the right to write from its beginning, and commits it. Waits for the
    /// lock no longer than `lock`; the work is interrupted when its time is up.
    pub(crate) fn write<T>(
        &mut self,
        lock: Instant,
        until: Instant,
        work: impl FnOnce(&Connection) -> Result<T, Failed>,
    ) -> Result<T> {
        self.begin(lock)
            .map_err(|failed| self.judge(failed, Phase::Statement))?;
        match self.limited(until, |session| work(&session.connection)) {
            Ok(value) => self.commit().map(|()| value),
            Err(failed) => {
                let error = self.judge(failed, Phase::Statement);
                self.roll_back();
                Err(error)
            }
        }
    }

    /// Takes the lock at once, never by the way: a read that becomes a write does not wait.
    pub(crate) fn begin(&mut self, lock: Instant) -> Result<(), Failed> {
        self.check_place()?;
        self.connection.busy_timeout(left(lock))?;
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        Ok(())
    }

    pub(crate) fn commit(&mut self) -> Result<()> {
        self.connection.execute_batch("COMMIT").map_err(|error| {
            let error = self.judge(error.into(), Phase::Commit);
            self.roll_back();
            error
        })?;
        // Once more: what was committed to a file that went meanwhile is in that file, wherever it is.
        self.check_place()
            .map_err(|error| error.outcome_as(UpdateOutcome::Unknown))
    }

    /// # Errors
    /// `Unavailable` while the file, or the log that this connection writes to, is not at its path.
    fn check_place(&self) -> Result<()> {
        let Some(anchor) = &self.anchor else {
            return Ok(());
        };
        anchor.check_file()?;
        let Some(log) = self.log else { return Ok(()) };
        anchor.check_log(log).inspect_err(|_| {
            // This connection still has the log, which nobody else can open any more. What of it does not get into the
            // file now gets there at the next call, or when it closes.
            let _ = self.connection.execute_batch("PRAGMA wal_checkpoint(PASSIVE)");
        })
    }

    /// Ends what a failure left open.
    pub(crate) fn roll_back(&mut self) {
        if !self.connection.is_autocommit() && self.connection.execute_batch("ROLLBACK").is_err() {
            self.is_spoiled = true;
        }
    }

    /// What a failure means for the caller, and for this connection.
    pub(crate) fn judge(&mut self, failed: Failed, phase: Phase) -> Error {
        let error = match failed {
            Failed::Ours(error) => return error,
            Failed::Driver(error) => error,
        };
        self.is_spoiled |= error::spoils_connection(&error);
        if self.holds == Holds::Store
            && error::may_be_schema(&error)
            && let Ok(records) = records::read(&self.connection)
        {
            if let Err(mismatch) = records.check(&persist_migration::list(Dialect::Sqlite)) {
                return mismatch;
            }
            if let Ok(missing) = records::missing(&self.connection)
                && !missing.is_empty()
            {
                return edited(&missing);
            }
        }
        error::classify(&error, phase)
    }

    fn wait_until(&mut self, until: Instant) -> Result<()> {
        self.connection
            .busy_timeout(left(until))
            .map_err(|error| self.judge(error.into(), Phase::Statement))
    }

    fn limited<T>(&mut self, until: Instant, work: impl FnOnce(&mut Self) -> T) -> T {
        let limit = until.saturating_duration_since(self.born).as_micros();
        self.limit
            .store(u64::try_from(limit).unwrap_or(u64::MAX), Ordering::Relaxed);
        let done = work(self);
        self.limit.store(u64::MAX, Ordering::Relaxed);
        done
    }
}

fn edited(missing: &[String]) -> Error {
    let what = format!(
        "the schema was changed by hand: {} is missing; bring it back, or restore a backup",
        missing.join(", ")
    );
    Error::new(ErrorKind::SchemaMismatch, what)
}

/// The log of a connection: none with a rollback journal.
///
/// # Errors
/// `Unavailable` where it was taken away already.
fn log_of(connection: &Connection, anchor: &Anchor, role: Role) -> Result<Option<Identity>, Failed> {
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if mode != "wal" {
        return Ok(None);
    }
    // The first read opens the log, or makes it.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    match anchor.log() {
        None if role == Role::Writer => Err(anchor.without_log().into()),
        // Who reads where nothing may be made can do without.
        log => Ok(log),
    }
}

/// When a call that begins now ends. A deadline of for ever is a long one.
pub(crate) fn end_of(deadline: Duration) -> Instant {
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3_600);
    Instant::now() + deadline.min(LONGEST)
}

/// What is left until then; SQLite counts it in milliseconds, up to some weeks.
fn left(until: Instant) -> Duration {
    const LONGEST: Duration = Duration::from_secs(24 * 3_600);
    until.saturating_duration_since(Instant::now()).min(LONGEST)
}
