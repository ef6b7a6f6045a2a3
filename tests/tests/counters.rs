//! Counters of the write and read paths that do not depend on how fast the machine is, and `persist bench` from end
//! to end.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

#[path = "counters/bench.rs"]
mod bench;
#[path = "counters/commits.rs"]
mod commits;
#[path = "counters/listings.rs"]
mod listings;
#[path = "counters/load.rs"]
mod load;
#[path = "counters/log.rs"]
mod log;
#[path = "counters/orphans.rs"]
mod orphans;
#[path = "counters/plans_postgres.rs"]
mod plans_postgres;
#[path = "counters/plans_sqlite.rs"]
mod plans_sqlite;
#[path = "counters/prune.rs"]
mod prune;
#[path = "counters/refusals.rs"]
mod refusals;
#[path = "counters/syncs.rs"]
mod syncs;
#[path = "counters/wire.rs"]
mod wire;
