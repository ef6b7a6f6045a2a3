//! One process at a time: a locked file beside the spool, which says who has it.
//!
//! SQLite's own lock would do, but neither tell who holds it nor let anybody look at the spool meanwhile.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use persist_core::{Error, ErrorKind, Result, Retry};

use super::PATIENCE;
use crate::error;

const PAUSE: Duration = Duration::from_millis(20);
/// More than a process id and the name of a program.
const LONGEST: u64 = 512;

/// Let go when it is dropped, and when the process ends, however it does.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held, never used")] File);

impl Lock {
    /// Takes the lock of this file, and writes down who has it.
    ///
    /// # Errors
    /// `Busy` naming who has it.
    pub(super) fn take(file: &Path) -> Result<Self> {
        let mut lock = open(&beside(file)).map_err(|error| error::of_io(&error))?;
        let end = Instant::now() + PATIENCE;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < end => thread::park_timeout(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    let (file, holder) = (file.display(), who(&mut lock));
                    let what = format!(
                        "the spool {file} is in use by {holder}; one process at a time has it, so give each its own file"
                    );
                    return Err(Error::new(ErrorKind::Busy, what).retry_as(Retry::Never));
                }
                Err(TryLockError::Error(error)) => return Err(error::of_io(&error)),
            }
        }
        // Who has it is good to know, and no more.
        let _ = sign(&mut lock);
        Ok(Self(lock))
    }

    /// The words for the process that has this file, if one has.
    pub(super) fn holder(file: &Path) -> Result<Option<String>> {
        let mut lock = match File::open(beside(file)) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error::of_io(&error)),
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(who(&mut lock))),
            Err(TryLockError::Error(error)) => Err(error::of_io(&error)),
        }
    }
}

fn beside(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push("-lock");
    name.into()
}

/// Never through a link, which somebody else may have laid.
fn open(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true);
    match options.clone().create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::symlink_metadata(path)?.is_file() {
                options.open(path)
            } else {
                Err(error)
            }
        }
        opened => opened,
    }
}

fn sign(lock: &mut File) -> io::Result<()> {
    let program = std::env::current_exe().ok();
    let program = program.as_deref().and_then(Path::file_name).unwrap_or_default();
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "process {} ({})", std::process::id(), program.display())
}

/// Who signed it; it is signed a moment after it is taken.
fn who(lock: &mut File) -> String {
    let mut text = String::new();
    let _ = lock.rewind();
    let _ = lock.take(LONGEST).read_to_string(&mut text);
    let text: String = text.trim().chars().filter(|part| !part.is_control()).collect();
    if text.is_empty() {
        "another process".to_owned()
    } else {
        text
    }
}
