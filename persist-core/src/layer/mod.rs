//! Layers: backends over a backend.

mod coalesce;
mod counts;
mod retry;

pub use coalesce::{Coalesce, Coalescing, Sink, Writer};
pub use counts::Counts;
pub use retry::Retrying;
