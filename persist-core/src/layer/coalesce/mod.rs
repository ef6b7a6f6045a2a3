//! Many callers, one flush: updates that wait together are applied together, and answered after the commit.
//!
//! Whoever comes while a flush is in the air goes into the next one, without a timer to fill it, and a lone caller
//! waits for nobody. `writer` is where callers stand, `queue` what waits, `flusher` the one task that decides what goes
//! out, and `backend` the layer that other backends get it by.

mod backend;
mod flusher;
mod queue;
mod settings;
#[cfg(test)]
mod tests;
mod writer;

pub use backend::Coalescing;
pub use settings::Coalesce;
pub use writer::{Sink, Writer};
