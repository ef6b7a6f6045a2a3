//! The suite on the memory backend.

use std::process::ExitCode;

use persist_tests::stores::{Kind, Stores};

fn main() -> ExitCode {
    persist_tests::run_all(Stores::all(Kind::Memory))
}
