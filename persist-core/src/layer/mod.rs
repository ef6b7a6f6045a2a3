//! Layers: backends over a backend.

mod coalesce;
mod retry;

pub use coalesce::{Coalesce, Coalescing, Sink, Writer};
pub use retry::Retrying;
