//! What a run tells.

use persist::Health;
use serde::Serialize;

use super::load::{Load, Measured};

/// The figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    callers: u32,
    seconds: f64,
    updates: u64,
    updates_per_second: f64,
    p50_us: u64,
    p90_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
    /// Of the whole run, with its warm-up.
    flushes: u64,
    mean_batch: f64,
    commits_per_update: f64,
    errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reads_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_p50_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_p99_us: Option<u64>,
}

impl Run {
    pub(crate) const HEADINGS: &'static str =
        "callers  updates/s     p50 ms    p99 ms  p99.9 ms    max ms  batch  commits/update  errors";

    pub(crate) fn new(load: &Load, measured: &Measured, [before, after]: [&Health; 2]) -> Self {
        let seconds = measured.took.as_secs_f64().max(f64::EPSILON);
        let updates = measured.updates.len();
        let flushes = after.flushes.saturating_sub(before.flushes);
        let flushed = after.flushed.saturating_sub(before.flushed);
        let ratio = |over: u64, under: u64| {
            if under == 0 {
                0.0
            } else {
                rounded(over as f64 / under as f64)
            }
        };
        let reads = Some(&measured.reads).filter(|reads| !reads.is_empty());
        Self {
            callers: load.callers,
            seconds: rounded(seconds),
            updates,
            updates_per_second: rounded(updates as f64 / seconds),
            p50_us: measured.updates.value_at_quantile(0.5),
            p90_us: measured.updates.value_at_quantile(0.9),
            p99_us: measured.updates.value_at_quantile(0.99),
            p999_us: measured.updates.value_at_quantile(0.999),
            max_us: measured.updates.max(),
            flushes,
            mean_batch: ratio(flushed, flushes),
            commits_per_update: ratio(flushes, flushed),
            errors: measured.tally.errors,
            reads_per_second: reads.map(|reads| rounded(reads.len() as f64 / seconds)),
            read_p50_us: reads.map(|reads| reads.value_at_quantile(0.5)),
            read_p99_us: reads.map(|reads| reads.value_at_quantile(0.99)),
        }
    }

    pub(crate) fn line(&self) -> String {
        let ms = |us: u64| us as f64 / 1_000.0;
        let mut line = format!(
            "{:>7}  {:>9.0}  {:>9.2} {:>9.2} {:>9.2} {:>9.2}  {:>5.0}  {:>14.3}  {:>6}",
            self.callers,
            self.updates_per_second,
            ms(self.p50_us),
            ms(self.p99_us),
            ms(self.p999_us),
            ms(self.max_us),
            self.mean_batch,
            self.commits_per_update,
            self.errors,
        );
        if let (Some(reads), Some(p99)) = (self.reads_per_second, self.read_p99_us) {
            line.push_str(&format!("  reads/s {reads:.0}, p99 {:.2} ms", ms(p99)));
        }
        line
    }
}

/// To three places behind the point.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
