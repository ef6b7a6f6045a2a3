//! Import as `persist import` does it: lanes that apply one chunk after the other, each job's updates adjacent.
//!
//! Without its reader: no file, no JSON.

use std::sync::Arc;
use std::time::Duration;

use persist::{Claim, Outcome, Persist, SystemClock};

use crate::slice::{Slice, closed_loop};
use crate::workload;

/// Chunks in the air at once.
pub(crate) const LANES: u64 = 16;
/// Updates of a chunk, three of each job: what is dealt to a lane at a time, four fifths of a flush.
pub(crate) const UPDATES: u64 = 408;

/// Applies chunks for so long. Latencies are those of chunks.
pub(crate) async fn import(persist: &Persist, length: Duration) -> Slice {
    let backend = persist.backend();
    let mut slice = closed_loop(LANES, length, move |lane, nth| {
        let backend = Arc::clone(&backend);
        async move {
            let updates = nth * UPDATES..(nth + 1) * UPDATES;
            let claims = updates.map(|nth| workload::life(lane, nth).check(&SystemClock));
            let claims: Vec<Claim> = claims.collect::<persist::Result<_>>().expect("they are valid");
            for outcome in backend.apply(&claims).await.expect("they are applied") {
                assert!(
                    matches!(outcome, Outcome::Applied { .. }),
                    "a new slot, and the answer is {outcome}"
                );
            }
        }
    })
    .await;
    slice.done *= UPDATES;
    slice
}
