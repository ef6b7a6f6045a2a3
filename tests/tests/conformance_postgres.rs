//! The suite on Postgres, each case in a schema of its own.

use std::process::ExitCode;

use persist_tests::stores::{Kind, Stores};

fn main() -> ExitCode {
    persist_tests::run_all(Stores::all(Kind::Postgres))
}
