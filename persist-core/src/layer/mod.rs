//! Layers: backends over a backend.

mod retry;

pub use retry::Retrying;
