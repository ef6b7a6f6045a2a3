//! `cargo bench -p persist-benches`, and with `-- --help` what it takes.

use std::process::ExitCode;

fn main() -> ExitCode {
    persist_benches::main(None)
}
