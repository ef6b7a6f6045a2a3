//! Watching from end to end: the program, many who watch while writers' and watchers' connections are killed, and what is to
//! be minded on Postgres.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

#[path = "watch/cli.rs"]
mod cli;
#[path = "watch/killed.rs"]
mod killed;
#[path = "watch/postgres.rs"]
mod postgres;
