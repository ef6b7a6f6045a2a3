//! Layers: backends over a backend.

mod coalesce;
mod counts;
mod deadline;
mod fault;
mod observe;
mod once_per;
mod retry;
#[cfg(test)]
mod tests;
mod ticket;

pub use coalesce::{Coalesce, Coalescing, Sink, Writer};
pub use counts::Counts;
pub use deadline::Deadlined;
pub use fault::{Fault, Faults, Faulty};
pub use observe::Observed;
pub use once_per::OncePer;
pub use retry::Retrying;
pub use ticket::Ticket;
