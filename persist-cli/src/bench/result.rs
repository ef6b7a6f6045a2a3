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
    /// Callers over the rate of all calls: what a call takes on average by Little's law, in a closed loop. A p99 below
    /// twice this means a fair queue; 0 where no call was measured.
    littles_law_us: f64,
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
    pub(crate) const HEADINGS: &'static str = "callers  updates/s  little ms    p50 ms    p99 ms  p99.9 ms    max ms  batch  commits/update  errors";

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
        let calls = updates + measured.reads.len();
        let littles_law_us = match calls {
            0 => 0.0,
            _ => f64::from(load.callers) * seconds * 1e6 / calls as f64,
        };
        let reads = Some(&measured.reads).filter(|reads| !reads.is_empty());
        Self {
            callers: load.callers,
            seconds: rounded(seconds),
            updates,
            updates_per_second: rounded(updates as f64 / seconds),
            littles_law_us: rounded(littles_law_us),
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
            "{:>7}  {:>9.0}  {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}  {:>5.0}  {:>14.3}  {:>6}",
            self.callers,
            self.updates_per_second,
            self.littles_law_us / 1_000.0,
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use persist::Mode;

    use super::super::Mix;
    use super::super::latencies::Latencies;
    use super::super::load::Tally;
    use super::*;

    /// Of so many updates and reads in two seconds, by ten callers.
    fn run(updates: u64, reads: u64) -> Run {
        let load = Load {
            callers: 10,
            length: Duration::from_secs(2),
            hot: None,
            mix: Mix::Jobs,
            read_share: 0.0,
            outcomes: false,
        };
        let of = |calls| {
            let latencies = Latencies::new();
            (1..=calls).for_each(|us| latencies.record(us, Duration::from_micros(us)));
            latencies.of_all()
        };
        let measured = Measured {
            updates: of(updates),
            reads: of(reads),
            took: load.length,
            tally: Tally::default(),
        };
        let mut health = [
            Health::new("memory", Mode::Ready),
            Health::new("memory", Mode::Ready),
        ];
        (health[1].flushes, health[1].flushed) = (5, updates);
        Run::new(&load, &measured, [&health[0], &health[1]])
    }

    #[test]
    fn figures_are_of_the_measured_time_and_names_are_kept() {
        let json = serde_json::to_string(&run(1_000, 0)).unwrap();
        let expected = concat!(
            r#"{"callers":10,"seconds":2.0,"updates":1000,"updates_per_second":500.0,"littles_law_us":20000.0,"#,
            r#""p50_us":500,"p90_us":900,"p99_us":990,"p999_us":999,"max_us":1000,"flushes":5,"mean_batch":200.0,"#,
            r#""commits_per_update":0.005,"errors":0}"#
        );
        assert_eq!(json, expected);
    }

    #[test]
    fn reads_are_calls_too_and_none_at_all_is_no_division_by_nothing() {
        let both = run(1_000, 3_000);
        assert_eq!(
            (both.littles_law_us, both.reads_per_second),
            (5_000.0, Some(1_500.0))
        );
        let none = run(0, 0);
        assert_eq!((none.littles_law_us, none.max_us, none.p99_us), (0.0, 0, 0));
    }

    #[test]
    fn columns_stand_under_their_headings() {
        let line = run(1_000, 0).line();
        assert_eq!(Run::HEADINGS.len(), line.len(), "{}\n{line}", Run::HEADINGS);
        let ends = |text: &str| -> Vec<_> {
            let words = text
                .match_indices(|c: char| !c.is_whitespace())
                .map(|(at, _)| at + 1);
            words
                .filter(|end| text[*end..].starts_with("  ") || *end == text.len())
                .collect()
        };
        let (headings, line) = (ends(Run::HEADINGS), ends(&line));
        assert!(
            line.iter().all(|end| headings.contains(end)),
            "{headings:?} {line:?}"
        );
    }
}
