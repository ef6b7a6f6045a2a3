//! The suite on Postgres through PgBouncer in transaction mode (C14), migrations included (M6).

use std::process::ExitCode;

use persist_tests::soak;
use persist_tests::stores::{Kind, Stores, Through};

fn main() -> ExitCode {
    // What the facade adds does not know what is under it.
    let ways: &[Through] = soak::or(
        &[Through::Driver],
        &[Through::Driver, Through::Retry, Through::Faults],
    );
    persist_tests::run_all(Stores::through(Kind::Pooler, ways))
}
