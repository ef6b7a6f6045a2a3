//! What waits in a spool.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use metrics::{Gauge, gauge};

use super::{SPOOL_AGE, SPOOL_BYTES, SPOOL_DEAD, SPOOL_UPDATES};
use crate::health::SpoolHealth;

/// The metrics of a spool.
pub struct SpoolMeter {
    updates: Gauge,
    bytes: Gauge,
    age: Gauge,
    dead: Gauge,
    /// Held while the gauges are set: what tells late must not come after the end.
    closed: Mutex<bool>,
}

impl SpoolMeter {
    /// Of a spool that was just opened.
    #[expect(
        clippy::new_without_default,
        reason = "it takes part in the process's metrics at once"
    )]
    pub fn new() -> Self {
        Self {
            updates: gauge!(SPOOL_UPDATES.name),
            bytes: gauge!(SPOOL_BYTES.name),
            age: gauge!(SPOOL_AGE.name),
            dead: gauge!(SPOOL_DEAD.name),
            closed: Mutex::new(false),
        }
    }

    /// Takes it out of the process's metrics, once: before its file is let go, as the next one may tell of the same.
    pub fn close(&self) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *closed, true) {
            for gauge in [&self.updates, &self.bytes, &self.age, &self.dead] {
                gauge.set(0.0);
            }
        }
    }

    /// Tells what it holds now.
    pub fn tell(&self, spool: &SpoolHealth) {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if *closed {
            return;
        }
        self.updates.set(spool.held.waiting as f64);
        self.bytes.set(spool.held.bytes as f64);
        self.age.set(spool.oldest_age_us.unwrap_or_default() as f64 / 1e6);
        self.dead.set(spool.held.dead as f64);
    }
}

impl Drop for SpoolMeter {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for SpoolMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpoolMeter").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use super::*;

    #[test]
    fn what_is_told_after_the_end_is_of_no_spool() {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let _guard = ::metrics::set_default_local_recorder(&recorder);
        let told = || -> Vec<f64> {
            let series = snapshotter.snapshot().into_vec().into_iter();
            series
                .map(|(.., value)| match value {
                    DebugValue::Gauge(level) => level.0,
                    other => panic!("{other:?} is no gauge"),
                })
                .collect()
        };
        let meter = SpoolMeter::new();
        let mut health = SpoolHealth::default();
        (health.held.waiting, health.held.bytes, health.held.dead) = (3, 300, 1);
        health.oldest_age_us = Some(2_000_000);
        meter.tell(&health);
        let mut levels = told();
        levels.sort_by(f64::total_cmp);
        assert_eq!(levels, [1.0, 2.0, 3.0, 300.0]);
        // A look sets a gauge to 0 here: told once more, so that the end has something to take away.
        meter.tell(&health);
        meter.close();
        assert_eq!(told(), [0.0; 4]);
        meter.tell(&health);
        assert_eq!(told(), [0.0; 4], "late");
        // The next spool on the same gauges, before the last of the one that ended goes.
        let next = SpoolMeter::new();
        next.tell(&health);
        drop(meter);
        assert!(told().into_iter().all(|level| level > 0.0), "it ended once");
    }
}
