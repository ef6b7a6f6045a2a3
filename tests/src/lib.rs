//! Stub.

pub mod cluster;
pub mod process;
pub mod contention;
pub mod lines;
pub mod place;
pub mod seed;
pub mod shape;
pub mod sample;
pub mod case;
pub mod factory;
pub mod walk;
mod server;
pub mod proxy;
