//! The suite on Postgres through PgBouncer in transaction mode (C14), migrations included (M6).

use std::process::ExitCode;

use persist_tests::stores::{Kind, Stores, Through};

fn main() -> ExitCode {
    // Of the facade's two policies one: what they add does not know what is under it.
    persist_tests::run_all(Stores::through(Kind::Pooler, &[Through::Driver, Through::Retry]))
}
