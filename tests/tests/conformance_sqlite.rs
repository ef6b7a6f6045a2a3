//! The suite on SQLite, in files and without.

use std::process::ExitCode;

use persist_tests::stores::{Kind, Stores};

fn main() -> ExitCode {
    let kinds = [Kind::SqliteFile, Kind::SqliteMemory];
    persist_tests::run_all(kinds.into_iter().flat_map(Stores::all).collect())
}
