//! Spans of time: how they are shown, and how they are typed.

use std::time::Duration;

use chrono::TimeDelta;
use persist_core::{Clock, Error, Result, SystemClock, Timestamp, time};

/// A span in the two largest units that tell something: `850 ms`, `4.2 s`, `3 min 5 s`, `2 h 3 min`, `4 d 2 h`.
pub fn human(span: TimeDelta) -> String {
    let micros = span.num_microseconds().unwrap_or(i64::MAX).max(0);
    let seconds = micros / 1_000_000;
    match seconds {
        0 if micros == 0 => "0 s".to_owned(),
        0 if micros < 1_000 => format!("{micros} µs"),
        0 => format!("{} ms", micros / 1_000),
        1..60 => format!("{seconds}.{} s", micros % 1_000_000 / 100_000),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

fn two(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large} {large_unit}")
    } else {
        format!("{large} {large_unit} {small} {small_unit}")
    }
}

/// An RFC 3339 time, or an age: `90s`, `30m`, `2h`, `7d`. By the system's clock.
///
/// # Errors
/// `InvalidInput` for any other text, and for a time that can't be stored.
pub fn parse_moment(text: &str) -> Result<Timestamp> {
    moment(text, &SystemClock)
}

/// The same by another clock.
///
/// # Errors
/// As [`parse_moment`].
pub fn moment(text: &str, clock: &dyn Clock) -> Result<Timestamp> {
    match age(text) {
        Some(age) => time::normalize(
            "time",
            clock.now().checked_sub_signed(age).unwrap_or(Timestamp::MIN_UTC),
        ),
        None => time::parse("time", text),
    }
}

/// A span: `90s`, `30m`, `2h`, `7d`.
///
/// # Errors
/// `InvalidInput` for any other text.
pub fn parse_span(text: &str) -> Result<Duration> {
    let span = age(text).and_then(|age| age.to_std().ok());
    span.ok_or_else(|| Error::invalid("span", "is no span such as 90s, 30m, 2h or 7d"))
}

fn age(text: &str) -> Option<TimeDelta> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    TimeDelta::try_seconds(i64::from(number.parse::<u32>().ok()?) * seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use persist_core::FixedClock;

    #[test]
    fn spans_are_shown_in_two_units() {
        let shown = [
            (0, "0 s"),
            (999, "999 µs"),
            (850_000, "850 ms"),
            (4_290_000, "4.2 s"),
            (60_000_000, "1 min"),
            (185_000_000, "3 min 5 s"),
            (7_380_000_000, "2 h 3 min"),
            (352_800_000_000, "4 d 2 h"),
        ];
        for (micros, text) in shown {
            assert_eq!(human(TimeDelta::microseconds(micros)), text);
        }
        assert_eq!(human(TimeDelta::MAX), "106751991 d 4 h");
        assert_eq!(human(TimeDelta::seconds(-5)), "0 s");
    }

    #[test]
    fn moments_are_times_or_ages() {
        let now = time::parse("now", "2026-11-08T08:00:00Z").unwrap();
        let of = |text| moment(text, &FixedClock(now)).map(time::format);
        assert_eq!(of("7d").unwrap(), "2026-11-01T08:00:00.000000Z");
        assert_eq!(of("90s").unwrap(), "2026-11-08T07:58:30.000000Z");
        assert_eq!(
            of("2026-11-01T10:00:00+02:00").unwrap(),
            "2026-11-01T08:00:00.000000Z"
        );
        for wrong in ["", "h", "-1h", "1w", "4294967295d", "yesterday", "1é"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn spans_are_ages() {
        assert_eq!(parse_span("90s").unwrap(), Duration::from_secs(90));
        assert_eq!(parse_span("0s").unwrap(), Duration::ZERO);
        for wrong in ["", "60", "-1s", "1.5h", "2026-11-01T10:00:00Z"] {
            assert!(parse_span(wrong).is_err(), "{wrong}");
        }
    }
}
