//! Layers: backends over a backend.

mod coalesce;
mod counts;
mod retry;
mod ticket;

pub use coalesce::{Coalesce, Coalescing, Sink, Writer};
pub use counts::Counts;
pub use retry::Retrying;
pub use ticket::Ticket;
