//! What a store of persist holds, as web pages that follow it live, as JSON, and as probes. `persist serve` is this with flags; an
//! orchestrator can have it inside:
//!
//! ```
//! use persist_page::{LOOPBACK, Options};
//! # async fn example(persist: persist::Persist) -> std::io::Result<()> {
//! // Live streams have no end of their own: they end as the server stops.
//! let (ending, ended) = tokio::sync::watch::channel(false);
//! let options = Options::default().hosts(LOOPBACK).ending(ended);
//! let pages = persist_page::router(persist, options);
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! let stop = async move {
//!     tokio::signal::ctrl_c().await.unwrap_or_default();
//!     ending.send_replace(true);
//! };
//! persist_page::serve(listener, pages, stop).await
//! # }
//! ```
//!
//! It only reads. Nothing asks who comes: whoever reaches the address sees everything but credentials, which the store does not
//! hold. Put something that asks before it, or keep it on a loopback address.
//!
//! | path | what |
//! |---|---|
//! | `/`, `/jobs/{id}`, `/vms`, `/orphans`, `/stats`, `/health` | pages; they work without scripts |
//! | `/api/v1/jobs`, `/jobs/{id}`, `/vms`, `/orphans`, `/refusals`, `/stats`, `/health` | the JSON of `persist --format json`, with its flags as parameters |
//! | `/api/v1/events` | what changes, as server-sent events with the lines of `persist watch`; `Last-Event-ID` goes on |
//! | `/healthz`, `/readyz`, `/metrics` | the process lives; the store can be read; Prometheus, if [`Options::metrics`] is set |
//!
//! Every answer is bounded: by a page of rows, a number of slots or jobs, and the deadlines of the store. A store that can't be read
//! is a 503 with the cause, and never an empty list.

mod api;
mod app;
mod assets;
mod chart;
mod escape;
mod failure;
mod filter;
mod guard;
mod hosts;
mod live;
mod options;
mod pages;
mod params;
mod patient;
mod probes;
mod router;
mod serve;
mod shown;
mod walk;

pub use hosts::LOOPBACK;
pub use options::Options;
pub use router::router;
pub use serve::{Connections, serve, serve_with};
