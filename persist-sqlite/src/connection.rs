//! Opening: which file, how it is set up, and whether it is ours.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use persist_core::{Error, ErrorKind, Retry, SqliteMode, SqliteUrl};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::anchor::{self, Anchor};
use crate::error::{self, Failed};

/// What a file of ours holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    /// The tables of a store.
    Store,
    /// Updates that wait for a database.
    Outbox,
}

impl Holds {
    /// Tells our files from those of other programs, and from each other: "prst", "prso".
    pub(crate) const fn application_id(self) -> i32 {
        match self {
            Self::Store => 0x7072_7374,
            Self::Outbox => 0x7072_736f,
        }
    }

    /// How many pages the log may grow to before it is moved into the file. A store's checkpoint rewrites pages that
    /// changed often only once; an outbox is to be small on the disk.
    fn pages_before_checkpoint(self) -> u32 {
        match self {
            Self::Store => 16_000,
            Self::Outbox => 1_000,
        }
    }

    /// What the log keeps of the disk after a long reader had let it grow.
    fn largest_idle_log(self) -> u32 {
        match self {
            Self::Store => 64 << 20,
            Self::Outbox => 4 << 20,
        }
    }
}

const CACHED_STATEMENTS: usize = 128;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Writes; sets up the journal.
    Writer,
    /// Reads; can't write.
    Reader,
}

impl Role {
    /// Size of the page cache, in the pragma's own unit of −1 KiB. SQLite's 2 MiB make a writer read and write
    /// most pages several times a transaction once the file has some 10^5 rows with random ids (2026-11).
    fn cache(self) -> i32 {
        match self {
            Self::Writer => -24 * 1024,
            Self::Reader => -4 * 1024,
        }
    }
}

/// The file of a store, found; or no file.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// With its folder resolved, so that only the file's own name may not be a link; `None` for `:memory:`.
    pub(crate) anchor: Option<Anchor>,
    /// Whether nothing may be written.
    pub(crate) is_read_only: bool,
    pub(crate) holds: Holds,
}

impl Source {
    /// Finds the file, and makes it where that is wanted: with mode 0600 from its first byte, which `-wal` and
    /// `-shm` take from it.
    ///
    /// # Errors
    /// `Unavailable` for a missing file that may not be made; `InvalidUrl` for a missing folder.
    pub(crate) fn find(url: &SqliteUrl) -> Result<Self, Error> {
        match &url.path {
            Some(path) => Self::locate(path, url.mode, Holds::Store),
            None => Ok(Self {
                anchor: None,
                is_read_only: url.mode == SqliteMode::ReadOnly,
                holds: Holds::Store,
            }),
        }
    }

    /// The same for a file.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub(crate) fn locate(path: &Path, mode: SqliteMode, holds: Holds) -> Result<Self, Error> {
        let missing = || {
            let path = path.display();
            let what = match holds {
                Holds::Store => {
                    format!("there is no file {path}; mode=rwc makes one, persist migrate up its tables")
                }
                Holds::Outbox => format!("there is no spool {path}"),
            };
            // A name mistyped does not heal by waiting; whoever heals in the background looks again all the same.
            Error::new(ErrorKind::Unavailable, what).retry_as(Retry::Never)
        };
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let folder = match folder.canonicalize() {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound && mode == SqliteMode::Create => {
                let what = format!("there is no folder {}; make it first", folder.display());
                return Err(Error::new(ErrorKind::InvalidUrl, what));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            Err(error) => return Err(error::of_io(&error)),
        };
        let name = path
            .file_name()
            .ok_or_else(|| Error::new(ErrorKind::InvalidUrl, "the path names no file"))?;
        let file = folder.join(name);
        let is_read_only = mode == SqliteMode::ReadOnly;
        if !is_read_only {
            refuse_orphaned_log(&file)?;
        }
        if mode == SqliteMode::Create {
            let mut options = fs::OpenOptions::new();
            match options.write(true).create_new(true).mode(0o600).open(&file) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error::of_io(&error));
                }
                _ => {}
            }
        } else if matches!(fs::symlink_metadata(&file), Err(error) if error.kind() == io::ErrorKind::NotFound)
        {
            return Err(missing());
        }
        Ok(Self {
            anchor: Some(Anchor::at(file)),
            is_read_only,
            holds,
        })
    }

    /// The file; `None` for `:memory:`.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.anchor.as_ref().map(Anchor::path)
    }

    /// Whether it is `:memory:`, which lives in its one connection.
    pub(crate) fn is_memory(&self) -> bool {
        self.anchor.is_none()
    }
}

/// SQLite deletes the log of an empty file: that which a lost file left behind would be gone with what was
/// acknowledged and is in it alone.
fn refuse_orphaned_log(file: &Path) -> Result<(), Error> {
    let log = anchor::log_of(file);
    let holds = |path: &Path| fs::metadata(path).is_ok_and(|file| file.len() > 0);
    if !holds(&log) || holds(file) {
        return Ok(());
    }
    let what = format!(
        "there is a log {} without its file; bring the file back, or move the log away",
        log.display()
    );
    Err(Error::new(ErrorKind::Unavailable, what).retry_as(Retry::Never))
}

/// Opens a connection that waits so long for locks. A file that is not ours is left as it is, to the byte.
pub(crate) fn open(source: &Source, role: Role, wait: Duration) -> Result<Connection, Failed> {
    let mut flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags |= match (&source.anchor, role) {
        (None, _) => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        (Some(_), Role::Writer) => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NOFOLLOW,
        (Some(_), Role::Reader) => OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NOFOLLOW,
    };
    let path = source.anchor.as_ref().map_or(Path::new(":memory:"), Anchor::path);
    let connection = Connection::open_with_flags(path, flags)?;
    // Before anything else: everything else may meet a lock.
    connection.busy_timeout(wait)?;
    // A stranger's log must not be moved into the file when this connection closes.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // Or the quoted name of a column that is gone would be a text, and the answer of every row.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "cache_size", role.cache())?;
    check_owner(&connection, source.holds)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    if role == Role::Writer && !source.is_memory() {
        // Without the right to write SQLite opens to read, and says nothing.
        if connection.is_readonly(rusqlite::MAIN_DB)? {
            let what = "the file can't be written; check its rights, or open it with mode=ro";
            return Err(Error::new(ErrorKind::ReadOnly, what).into());
        }
        if source.holds == Holds::Store {
            give_back_pages(&connection)?;
        }
        set_up_journal(&connection, source.holds)?;
    }
    Ok(connection)
}

/// Lets a prune give free pages back, step by step. That is a matter of a file's first page: one that has any stays as it is.
fn give_back_pages(connection: &Connection) -> Result<(), Failed> {
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    if pages == 0 {
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    Ok(())
}

/// Whether the file is ours, or nobody's yet.
///
/// # Errors
/// `SchemaMismatch` for another program's.
pub(crate) fn check_owner(connection: &Connection, holds: Holds) -> Result<(), Failed> {
    // In this order: whoever makes our first table signs the file in the same transaction, perhaps just now.
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema)";
    let in_use: bool = connection.query_row(sql, [], |row| row.get(0))?;
    let owner: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if owner == holds.application_id() || (owner == 0 && !in_use) {
        return Ok(());
    }
    let what = match owner {
        _ if owner == Holds::Outbox.application_id() => {
            "the file is a spool of persist, and no store; nothing was changed; name another file"
        }
        _ if owner == Holds::Store.application_id() => {
            "the file is a store of persist, and no spool; nothing was changed; name another file"
        }
        _ => "the file is another program's database; nothing was changed; name another file",
    };
    Err(Error::new(ErrorKind::SchemaMismatch, what)
        .with("application_id", owner)
        .into())
}

/// Write-ahead log with a sync for each commit; where that is impossible a rollback journal, whose deletion
/// must be synced too.
pub(crate) fn set_up_journal(connection: &Connection, holds: Holds) -> Result<(), Failed> {
    let set = |mode: &str| {
        connection.pragma_update_and_check(None, "journal_mode", mode, |row| row.get::<_, String>(0))
    };
    let is_log = match set("WAL") {
        Ok(mode) => mode == "wal",
        Err(error) if error::lacks_shared_memory(&error) => false,
        Err(error) => return Err(error.into()),
    };
    if is_log {
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", holds.pages_before_checkpoint())?;
        connection
            .pragma_update_and_check(None, "journal_size_limit", holds.largest_idle_log(), |_| Ok(()))?;
    } else {
        tracing::warn!(
            "no write-ahead log is possible here, as on a network file system: a rollback journal is used, \
             writes are slower, and readers and writers wait for each other"
        );
        set("DELETE")?;
        connection.pragma_update(None, "synchronous", "EXTRA")?;
    }
    Ok(())
}
