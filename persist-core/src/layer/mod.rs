//! Layers: backends over a backend.

mod coalesce;
mod counts;
mod fault;
mod retry;
mod ticket;

pub use coalesce::{Coalesce, Coalescing, Sink, Writer};
pub use counts::Counts;
pub use fault::{Fault, Faults, Faulty};
pub use retry::Retrying;
pub use ticket::Ticket;
