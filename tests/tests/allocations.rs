//! Allocations of the write path, by an allocator that counts: it is of the whole program, so this is one of its own.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::alloc::System;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use persist_core::layer::{Coalesce, Sink, Writer};
use persist_core::{Claim, JobState, Outcome, Result};
use persist_tests::sample;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CALLERS: u64 = 64;
const UPDATES_OF_EACH: u64 = 200;

/// Most allocations for an update, and most bytes of them: twice what was seen, 5.56 and 276 (2026-11-26). The
/// vector of claims, the channel of the answer, the ticket and the vector of outcomes are one each.
const MOST: f64 = 11.0;
const MOST_BYTES: f64 = 550.0;

/// Answers at once.
struct Null;

#[async_trait]
impl Sink for Null {
    async fn flush(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        Ok(vec![sample::CREATED; claims.len()])
    }
}

/// Every caller sends an update of its own again and again.
async fn load(writer: &Arc<Writer>) {
    let caller = |caller: u64| {
        let writer = Arc::clone(writer);
        let update = sample::job(caller + 1, JobState::Queued)
            .repo_url("https://example.org/acme/app.git")
            .commit_sha("3f2a9c0d3f2a9c0d3f2a9c0d3f2a9c0d3f2a9c0d")
            .runs_on("ubuntu-24.04")
            .actor("webhook");
        let claims = sample::claims([update]).unwrap();
        tokio::spawn(async move {
            for _ in 0..UPDATES_OF_EACH {
                writer.apply(&claims).await.unwrap();
            }
        })
    };
    for ended in join_all((0..CALLERS).map(caller)).await {
        ended.unwrap();
    }
}

/// On one thread, where the same happens in each run.
#[tokio::test]
async fn an_update_costs_the_writer_few_allocations() {
    let writer = Arc::new(Writer::new(Arc::new(Null), Coalesce::default()));
    // Queues grow to their size.
    load(&writer).await;
    let before = writer.flushed();
    let region = Region::new(ALLOCATOR);
    load(&writer).await;
    let change = region.change();
    let after = writer.flushed();
    let updates = after.1 - before.1;
    assert_eq!(updates, CALLERS * UPDATES_OF_EACH);
    let each = |count: usize| count as f64 / updates as f64;
    let allocations = each(change.allocations + change.reallocations);
    let bytes = each(change.bytes_allocated);
    assert!(allocations <= MOST, "{allocations} allocations per update");
    assert!(bytes <= MOST_BYTES, "{bytes} bytes allocated per update");
    // The claim is copied into the queue: nothing would mean that nothing is counted.
    assert!(allocations >= 1.0, "{allocations} allocations per update");
}
