//! `persist doctor` over stores that somebody edited by hand.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

#[path = "doctor/catalogue.rs"]
mod catalogue;
