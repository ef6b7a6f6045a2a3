//! The process of the tests that uses persist as an orchestrator does.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use persist_tests::process;

/// A peer with these arguments, and without any setting of the tester's own.
pub(crate) fn peer<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_persist-test-peer"));
    command.args(arguments).stdin(Stdio::null());
    process::without_settings(&mut command);
    command
}
