//! Percentiles of times over an axis of powers: most waits take seconds and a few take hours.

use chrono::TimeDelta;
use persist::Times;
use persist::shown::span::human;

/// The axis goes from here, milliseconds.
const FROM: f64 = 100.0;
/// As far as this at least.
const UNTIL: f64 = 60_000.0;

/// Times of some groups over one axis.
#[derive(Debug)]
pub(crate) struct TimesChart {
    pub(crate) marks: Vec<Mark>,
}

/// Percentiles of one time.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) count: u64,
    pub(crate) p50: String,
    pub(crate) p90: String,
    pub(crate) p99: String,
    pub(crate) longest: String,
    /// Their places.
    pub(crate) x50: f64,
    pub(crate) x90: f64,
    pub(crate) x99: f64,
}

/// A time of the axis.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) x: f64,
    pub(crate) text: &'static str,
}

/// A place on the axis.
fn place(millis: u64, until: f64) -> f64 {
    // A chart shows three digits of it.
    let millis = f64::from(u32::try_from(millis).unwrap_or(u32::MAX));
    let place = (millis.max(FROM) / FROM).ln() / (until / FROM).ln();
    (place * 10_000.0).round().clamp(0.0, 10_000.0) / 100.0
}

impl TimesChart {
    /// The axis for these, and each of them on it.
    pub(crate) fn of<'t>(times: impl Iterator<Item = &'t Times>) -> (Self, Vec<Option<Measured>>) {
        let times: Vec<_> = times.collect();
        let longest = times.iter().map(|times| times.p99_ms).max().unwrap_or_default();
        let until = f64::from(u32::try_from(longest).unwrap_or(u32::MAX)).max(UNTIL) * 1.2;
        let marks: [(u32, &str); 7] = [
            (1_000, "1 s"),
            (10_000, "10 s"),
            (60_000, "1 min"),
            (600_000, "10 min"),
            (3_600_000, "1 h"),
            (86_400_000, "1 d"),
            (864_000_000, "10 d"),
        ];
        let marks = marks.into_iter().filter(|(millis, _)| f64::from(*millis) < until);
        let marks = marks.map(|(millis, text)| Mark {
            x: place(u64::from(millis), until),
            text,
        });
        let measured = times.iter().map(|times| measured(times, until));
        (
            Self {
                marks: marks.collect(),
            },
            measured.collect(),
        )
    }
}

fn measured(times: &Times, until: f64) -> Option<Measured> {
    if times.count == 0 {
        return None;
    }
    let told = |millis| human(i64::try_from(millis).map_or(TimeDelta::MAX, TimeDelta::milliseconds));
    Some(Measured {
        count: times.count,
        p50: told(times.p50_ms),
        p90: told(times.p90_ms),
        p99: told(times.p99_ms),
        longest: told(times.max_ms),
        x50: place(times.p50_ms, until),
        x90: place(times.p90_ms, until),
        x99: place(times.p99_ms, until),
    })
}
