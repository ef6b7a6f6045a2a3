//! Prints the SQL of every migration, for those who apply or review it by hand: `persist-migration postgres|sqlite`.

use std::io::Write as _;
use std::process::ExitCode;

use persist_core::sql::Dialect;

fn main() -> ExitCode {
    let dialect = match std::env::args().nth(1).as_deref() {
        Some("postgres") => Dialect::Postgres,
        Some("sqlite") => Dialect::Sqlite,
        _ => {
            eprintln!("usage: persist-migration postgres|sqlite");
            return ExitCode::from(2);
        }
    };
    let mut out = std::io::stdout().lock();
    for migration in persist_migration::list(dialect) {
        let text = migration.statements(false).join(";\n");
        // A reader that went away has seen enough.
        if writeln!(out, "-- {}\n{text};\n", migration.name).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}
