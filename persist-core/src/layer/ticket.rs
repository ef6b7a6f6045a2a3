//! Who has a queued call: the caller that waits for it, or whoever works on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Shared between a caller and the writer that it queues at. The caller may take its call back only while nobody
/// works on it, so that "not applied" is never said of what was sent.
#[derive(Debug, Clone, Default)]
pub struct Ticket(Arc<AtomicU8>);

const QUEUED: u8 = 0;
const TAKEN: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Ticket {
    /// The writer's: from now on the outcome is what the database says. False where it was withdrawn.
    pub fn take(&self) -> bool {
        self.moves_to(TAKEN)
    }

    /// The caller's: nothing of it will be done. False where the writer has it.
    pub fn withdraw(&self) -> bool {
        self.moves_to(WITHDRAWN)
    }

    /// Whether the caller took it back.
    pub fn is_withdrawn(&self) -> bool {
        self.0.load(Ordering::Acquire) == WITHDRAWN
    }

    fn moves_to(&self, state: u8) -> bool {
        self.0
            .compare_exchange(QUEUED, state, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}
