//! Watching from end to end: the program, and many who watch while writers' and watchers' connections are killed.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

#[path = "watch/cli.rs"]
mod cli;
#[path = "watch/killed.rs"]
mod killed;
