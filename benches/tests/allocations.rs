//! How many allocations an update costs in the writer: they do not depend on how fast the machine is.

use std::alloc::System;

use persist_benches::writer::{self, ALLOCATIONS};
use persist_benches::{Options, Suite};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn allocations() -> u64 {
    let stats = COUNTED.stats();
    (stats.allocations + stats.reallocations) as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_costs_the_writer_few_allocations() {
    let options = Options {
        allocations: Some(allocations),
        // Long enough for what callers cost at their beginning to be little.
        slice_ms: 300,
        ..Options::smoke()
    };
    assert_eq!(options.suites(), [Suite::Writer], "counting slows the others");
    for verdict in writer::run(&options).await {
        for one in &verdict.contenders {
            let each = one.extras[ALLOCATIONS];
            assert!(
                each <= 10.0,
                "{each} allocations an update, {} callers",
                one.callers
            );
        }
    }
}
