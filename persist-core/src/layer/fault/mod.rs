//! Faults on purpose: what a caller must live with, by chance from a seed or at a call of one's choice.

mod backend;
mod plan;

pub use backend::Faulty;
pub use plan::{Fault, Faults};
