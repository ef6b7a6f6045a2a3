//! Time: the injected clock, the range and precision of `at`, and its one spelling.

use std::fmt;

use chrono::{DateTime, SecondsFormat, TimeZone, Utc};

use crate::error::{Error, Result};

/// A point in time, UTC, with microseconds.
pub type Timestamp = DateTime<Utc>;

/// Where the time comes from. Inject a fixed one in tests.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The present time.
    fn now(&self) -> Timestamp;
}

/// The operating system's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the time enters")]
    fn now(&self) -> Timestamp {
        Utc::now()
    }
}

/// A clock that stands still at one time.
#[derive(Debug, Clone, Copy)]
pub struct FixedClock(pub Timestamp);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// 9999-12-31T23:59:59.999999Z in microseconds since 1970.
const MAX_MICROS: i64 = 253_402_300_799_999_999;

/// Cuts a time to microseconds and checks its range, 1970 to 9999.
///
/// # Errors
/// `InvalidInput` naming `field` outside that range.
pub fn normalize(field: &'static str, at: Timestamp) -> Result<Timestamp> {
    let micros = at.timestamp_micros();
    if at < DateTime::UNIX_EPOCH || micros > MAX_MICROS {
        return Err(Error::invalid(field, "must lie in the years 1970 to 9999"));
    }
    Ok(from_micros(micros).expect("inside the range"))
}

/// The last microsecond of 9999.
#[cfg(feature = "sql")]
pub(crate) fn latest() -> Timestamp {
    from_micros(MAX_MICROS).unwrap_or(Timestamp::MAX_UTC)
}

/// The time of a number of microseconds since 1970, or `None` outside 1970 to 9999.
pub fn from_micros(micros: i64) -> Option<Timestamp> {
    if !(0..=MAX_MICROS).contains(&micros) {
        return None;
    }
    Utc.timestamp_micros(micros).single()
}

/// The one spelling of a time: RFC 3339, UTC, six digits, `Z`.
///
/// ```
/// use persist_core::time::{format, from_micros};
/// assert_eq!(format(from_micros(1).unwrap()), "1970-01-01T00:00:00.000001Z");
/// ```
pub fn format(at: Timestamp) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Reads an RFC 3339 time with any offset and any number of digits.
///
/// # Errors
/// `InvalidInput` naming `field`.
pub fn parse(field: &'static str, text: &str) -> Result<Timestamp> {
    match DateTime::parse_from_rfc3339(text) {
        Ok(at) => normalize(field, at.with_timezone(&Utc)),
        Err(error) => Err(
            Error::invalid(field, "is not an RFC 3339 time such as 2026-11-01T08:00:00Z").caused_by(error),
        ),
    }
}

/// `#[serde(with = "…")]` for a [`Timestamp`] in its one spelling.
pub mod rfc3339 {
    use super::{Timestamp, format, parse};
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes six digits and `Z`.
    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format(*at))
    }

    /// Reads any RFC 3339 time in range.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        parse("at", &text).map_err(serde::de::Error::custom)
    }

    /// The same for a time that may be absent.
    pub mod option {
        use super::{Timestamp, format, parse};
        use serde::{Deserialize, Deserializer, Serializer};

        /// Writes six digits and `Z`, or null.
        pub fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
            match at {
                Some(at) => serializer.serialize_some(&format(*at)),
                None => serializer.serialize_none(),
            }
        }

        /// Reads any RFC 3339 time in range, or null.
        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Timestamp>, D::Error> {
            let text = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
            text.map(|text| parse("at", &text))
                .transpose()
                .map_err(serde::de::Error::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k3_nanoseconds_are_cut_not_rounded() {
        let at = Utc.timestamp_opt(1, 999_999_999).single().unwrap();
        assert_eq!(
            format(normalize("at", at).unwrap()),
            "1970-01-01T00:00:01.999999Z"
        );
    }

    #[test]
    fn k4_far_dates_are_refused() {
        for text in ["1969-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-00:01"] {
            assert_eq!(
                parse("at", text).unwrap_err().context("field"),
                Some("at"),
                "{text}"
            );
        }
        assert!(normalize("at", DateTime::<Utc>::MAX_UTC).is_err());
        assert!(normalize("at", DateTime::<Utc>::MIN_UTC).is_err());
        assert!(parse("at", "9999-12-31T23:59:59.999999Z").is_ok());
        assert!(parse("at", "1970-01-01T00:00:00Z").is_ok());
    }

    #[test]
    fn k5_any_offset_becomes_utc() {
        let at = parse("at", "2026-11-01T10:00:00.5+02:00").unwrap();
        assert_eq!(format(at), "2026-11-01T08:00:00.500000Z");
    }
}
