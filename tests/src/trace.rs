//! The `persist` program under strace: what it asks the kernel for, and calls that are made to fail.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::process;

/// Whether system calls can be traced here; says so if not.
pub fn is_possible() -> bool {
    let mut strace = Command::new("strace");
    let traced = strace.args(["-f", "-o", "/dev/null", "true"]).output();
    let can = traced.is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("not asked: there is no strace here, or it may not trace");
    }
    can
}

/// A `persist` command under strace with these options, its trace in a file, each call with the file that it is about.
pub fn traced<O: AsRef<OsStr>>(
    persist: &Command,
    trace: &Path,
    options: impl IntoIterator<Item = O>,
) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-y"]).args(options);
    strace.arg("-o").arg(trace);
    strace.arg(persist.get_program()).args(persist.get_args());
    process::without_settings(&mut strace);
    strace
}

/// What was asked of the kernel, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// To write to the log of a SQLite file.
    Log,
    /// To sync that log.
    Sync,
    /// The same, made to fail.
    FailedSync,
    /// To write to the pipe that is stdout.
    Tell,
}

/// The calls of a trace that say something about what was told and what was synced.
///
/// # Panics
/// If there is no such file.
pub fn asked(trace: &Path) -> Vec<Asked> {
    let text = std::fs::read_to_string(trace).expect("there is a trace");
    // The second half of a call that was interrupted tells no file, and is not counted twice.
    let call = |line: &str| {
        let (_, call) = line.split_once(' ')?;
        let call = call.trim_start();
        let (name, arguments) = call.split_once('(')?;
        let file = arguments.split_once('<')?.1.split_once('>')?.0;
        let is_log = file.ends_with("-wal");
        match name {
            "fsync" | "fdatasync" if is_log && line.contains("INJECTED") => Some(Asked::FailedSync),
            "fsync" | "fdatasync" if is_log => Some(Asked::Sync),
            "write" | "pwrite64" | "pwritev" if is_log => Some(Asked::Log),
            "write" if arguments.starts_with("1<") => Some(Asked::Tell),
            _ => None,
        }
    };
    text.lines().filter_map(call).collect()
}
