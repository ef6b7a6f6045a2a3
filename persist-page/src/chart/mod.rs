//! Charts, as numbers that the templates put into SVG: places are in hundredths of the width, so that a chart is as wide as its
//! window without a script.

mod gantt;
mod times;

pub(crate) use gantt::Gantt;
pub(crate) use times::{Measured, TimesChart};

/// A share of a whole, in hundredths with two digits.
fn share(part: i64, whole: i64) -> f64 {
    let hundredths = i128::from(part.max(0)) * 10_000 / i128::from(whole.max(1));
    // Below 2^53 in any case.
    f64::from(u32::try_from(hundredths.min(10_000)).unwrap_or(10_000)) / 100.0
}
