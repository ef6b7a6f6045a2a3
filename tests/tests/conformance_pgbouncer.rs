//! The suite on Postgres through PgBouncer in transaction mode (C14), migrations included (M6).

use std::process::ExitCode;

use persist_tests::stores::{Kind, Stores};

fn main() -> ExitCode {
    persist_tests::run_all(Stores::all(Kind::Pooler))
}
