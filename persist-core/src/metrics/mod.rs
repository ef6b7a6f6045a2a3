//! Every metric of persist: its name, kind, unit, labels and meaning, declared once.
//!
//! They go to whatever recorder of the `metrics` facade the process has; without one they cost next to nothing. A
//! store takes its handles when it is opened: install the recorder before that, or nothing is recorded. No label
//! holds a value of a row, a URL or a text of an error.
//!
//! | label | words |
//! |---|---|
//! | `backend` | `postgres`, `sqlite`, `memory`, `none`, or the name of a backend of your own; of the writer also `spool`, whose updates come again as the backend's |
//! | `operation` | `apply`, `job`, `vm`, `jobs`, `vms`, `events`, `prune`, `health`, `close` |
//! | `outcome` | of an operation: `ok`, `cancelled` (its future was dropped), or the [kind](crate::ErrorKind) of its error; of an update: the [`Outcome`](crate::Outcome), or for an update that ended in an error `not_applied` or `unknown`; of a flush: `ok` or `error` |
//! | `reason` | the [kind](crate::ErrorKind) of the error that was met |
//! | `mode` | a [`Mode`](crate::Mode) |
//! | `sent` | `no`: certainly not sent; `unknown`: sent without an answer |
//! | `lane` | what the connections are for: `reads` (and all that writes no updates), `updates` |

mod handle;
mod pool;
mod spool;
mod writer;

pub use ::metrics::Unit;
use ::metrics::{describe_counter, describe_gauge, describe_histogram};

use crate::error::ErrorKind;

pub use handle::HandleMeter;
pub use pool::{InUse, PoolMeter, Waiter};
pub use spool::SpoolMeter;
pub use writer::{Queued, WriterMeter};

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// A metric, as it is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// What it is called. Stable.
    pub name: &'static str,
    /// How it behaves.
    pub kind: MetricKind,
    /// What it counts in.
    pub unit: Unit,
    /// The labels of each of its series.
    pub labels: &'static [&'static str],
    /// What it means, in a sentence or two.
    pub help: &'static str,
}

macro_rules! declare {
    ($($(#[doc = $help:literal])+ $constant:ident = $name:literal, $kind:ident, $unit:ident, [$($label:literal),*];)+) => {
        $(
            $(#[doc = $help])+
            #[doc = concat!("\n\n`", $name, "`, a ", stringify!($kind), " in ", stringify!($unit), ".")]
            pub const $constant: Metric = Metric {
                name: $name,
                kind: MetricKind::$kind,
                unit: Unit::$unit,
                labels: &[$($label),*],
                help: concat!($($help),+),
            };
        )+
        /// Every metric.
        pub const ALL: &[Metric] = &[$($constant),+];
    };
}

declare! {
    /// Calls that ended, as their callers saw them: with their waiting and their retries.
    OPERATIONS = "persist_operations_total", Counter, Count, ["backend", "operation", "outcome"];
    /// How long a call took its caller, with its waiting and its retries.
    OPERATION_DURATION = "persist_operation_duration_seconds", Histogram, Seconds, ["backend", "operation"];
    /// Calls that took longer than the threshold of the log of slow operations.
    SLOW_OPERATIONS = "persist_slow_operations_total", Counter, Count, ["backend", "operation"];
    /// Updates by what became of them. `refused` is a second ending of one attempt.
    /// Those of a call that was cancelled are in none.
    UPDATES = "persist_updates_total", Counter, Count, ["backend", "outcome"];
    /// Updates that were given up because persistence is off or its database away; `health` tells the same.
    DROPPED_UPDATES = "persist_dropped_updates_total", Counter, Count, ["backend", "sent"];
    /// Tries that failed in passing and were made again, by the retrying layer or inside of a driver.
    RETRIES = "persist_retries_total", Counter, Count, ["backend", "reason"];
    /// Handles that are in this mode: 0 or 1 each in a process that opens one store.
    MODE = "persist_mode", Gauge, Count, ["backend", "mode"];
    /// Updates that wait in the writer's queue or are in the air.
    QUEUE_UPDATES = "persist_queue_updates", Gauge, Count, ["backend"];
    /// How long the oldest update of each flush had waited in the writer's queue when it went out, or was given up.
    QUEUE_AGE = "persist_queue_age_seconds", Histogram, Seconds, ["backend"];
    /// Updates in a flush, which is one commit.
    FLUSH_UPDATES = "persist_flush_updates", Histogram, Count, ["backend"];
    /// How long a flush took, from its going out to the answer of the database: what the database makes of the time.
    FLUSH_DURATION = "persist_flush_duration_seconds", Histogram, Seconds, ["backend", "outcome"];
    /// Connections that there may be.
    POOL_SIZE = "persist_pool_size", Gauge, Count, ["backend", "lane"];
    /// Connections that a call has.
    POOL_IN_USE = "persist_pool_in_use", Gauge, Count, ["backend", "lane"];
    /// Calls that wait for a connection; reads by key that go together are one.
    POOL_WAITING = "persist_pool_waiting", Gauge, Count, ["backend", "lane"];
    /// Updates that wait in the spool for the database; of the spool that told last, as the three below.
    SPOOL_UPDATES = "persist_spool_updates", Gauge, Count, [];
    /// Bytes of what waits in the spool, and of what was put aside.
    SPOOL_BYTES = "persist_spool_bytes", Gauge, Bytes, [];
    /// How long the oldest update of the spool has waited. Told at every change, and once a minute.
    SPOOL_AGE = "persist_spool_oldest_age_seconds", Gauge, Seconds, [];
    /// Updates that no database takes, put aside for a person: `persist spool list --dead`.
    SPOOL_DEAD = "persist_spool_dead_updates", Gauge, Count, [];
}

/// Tells the recorder what each metric means. Opening a store by the facade does it.
pub fn describe() {
    for metric in ALL {
        let Metric { name, unit, help, .. } = *metric;
        match metric.kind {
            MetricKind::Counter => describe_counter!(name, unit, help.trim()),
            MetricKind::Gauge => describe_gauge!(name, unit, help.trim()),
            MetricKind::Histogram => describe_histogram!(name, unit, help.trim()),
        }
    }
}

/// Notes that a call is made again for an error of this kind. For backends and layers.
pub fn retried(backend: &'static str, reason: ErrorKind) {
    ::metrics::counter!(RETRIES.name, "backend" => backend, "reason" => reason.name()).increment(1);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_say_their_unit() {
        let names: HashSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            let name = metric.name;
            assert!(
                name.starts_with("persist_") && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'),
                "{name}"
            );
            assert_eq!(name.ends_with("_seconds"), metric.unit == Unit::Seconds, "{name}");
            assert_eq!(
                name.ends_with("_total"),
                metric.kind == MetricKind::Counter,
                "{name}"
            );
            // A spool stands before any backend.
            let is_labelled = metric.labels.contains(&"backend") || name.starts_with("persist_spool_");
            assert!(is_labelled && metric.help.trim().ends_with('.'), "{name}");
        }
    }
}
