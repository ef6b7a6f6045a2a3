//! The writer again, with its allocations counted. A program of its own: counting costs every allocation time.

use std::alloc::System;
use std::process::ExitCode;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn allocations() -> u64 {
    let stats = COUNTED.stats();
    (stats.allocations + stats.reallocations) as u64
}

fn main() -> ExitCode {
    persist_benches::main(Some(allocations))
}
