//! Whether the file of a store is still the one at its path.
//!
//! A file that was moved away, deleted or replaced while it is open goes on taking updates that nobody finds again; SQLite
//! looks for that only where it uses a rollback journal. Nothing is opened in its place: SQLite would recover the
//! log beside it, which belongs to the file that went, into whatever is at the path now.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use persist_core::{Error, ErrorKind};

/// Device and inode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

/// The place of a store's file; shared by all connections, as the first one that opens it says which file it is.
#[derive(Debug, Clone)]
pub(crate) struct Anchor {
    path: PathBuf,
    log: PathBuf,
    file: Arc<OnceLock<Identity>>,
}

impl Anchor {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self {
            log: log_of(&path),
            path,
            file: Arc::default(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Notes which file was opened. After it was opened: an overlay file system gives a file another inode when it is
    /// opened to write for the first time.
    pub(crate) fn note(&self) {
        if let Ok(Some(file)) = identity(&self.path) {
            self.file.get_or_init(|| file);
        }
    }

    /// The log as it is now; `None` where there is none, as with a rollback journal.
    pub(crate) fn log(&self) -> Option<Identity> {
        identity(&self.log).ok().flatten()
    }

    /// # Errors
    /// `Unavailable` while the path holds no file or another one than it did. The file may come back.
    pub(crate) fn check_file(&self) -> Result<(), Error> {
        let (Some(opened), Ok(found)) = (self.file.get(), identity(&self.path)) else {
            // Nothing was opened yet; or it can't be looked at now, which says nothing of where it is.
            return Ok(());
        };
        let what = match found {
            Some(found) if found == *opened => return Ok(()),
            Some(_) => "another file is at the path of the store",
            None => "the file of the store was moved or deleted",
        };
        let what = format!(
            "{what}, while it is open; nothing is read or written until the file is back: {}",
            self.path.display()
        );
        Err(Error::new(ErrorKind::Unavailable, what))
    }

    /// # Errors
    /// `Unavailable` where the log is not the one that was seen.
    pub(crate) fn check_log(&self, seen: Identity) -> Result<(), Error> {
        match identity(&self.log) {
            Ok(found) if found != Some(seen) => Err(self.without_log()),
            _ => Ok(()),
        }
    }

    /// The error of a store whose log went.
    pub(crate) fn without_log(&self) -> Error {
        let what = format!(
            "the log of the store was removed or replaced while it is open; what it held was moved into the file; stop all \
             programs that use the store and start them again: {}",
            self.log.display()
        );
        Error::new(ErrorKind::Unavailable, what)
    }
}

/// The log that SQLite keeps beside a file.
pub(crate) fn log_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push("-wal");
    name.into()
}

fn identity(path: &Path) -> io::Result<Option<Identity>> {
    match fs::symlink_metadata(path) {
        Ok(file) => Ok(Some(Identity(file.dev(), file.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
