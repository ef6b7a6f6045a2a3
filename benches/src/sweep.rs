//! How it goes with more and more callers: no collapse, and no waiting beyond what the rate explains.

use crate::Options;
use crate::contest::{Contender, play};
use crate::verdict::Verdict;

/// Callers of a sweep, ours.
pub const CALLERS: [u64; 6] = [1, 8, 64, 256, 1_024, 4_096];
/// The rate as a share of the best with as many callers or fewer.
pub const SHARE: &str = "share of the best rate so far";
/// The 99th percentile of latencies over the time that callers divided by rate make (Little's law).
pub const LITTLE: &str = "p99 over callers / rate";

/// A contest in which contenders of our name come by growing numbers of callers, with both figures told.
pub(crate) async fn sweep(
    options: &Options,
    workload: &str,
    contenders: Vec<Box<dyn Contender>>,
) -> Option<Verdict> {
    let mut verdict = play(options, workload, contenders).await?;
    judge(&mut verdict);
    options.tell(&verdict);
    Some(verdict)
}

fn judge(verdict: &mut Verdict) {
    let ours = verdict.contenders[0].name.clone();
    let mut best = 0.0_f64;
    for one in verdict.contenders.iter_mut().filter(|one| one.name == ours) {
        best = best.max(one.rate);
        let little_us = one.callers as f64 / one.rate * 1e6;
        one.extras.insert(SHARE.into(), one.rate / best);
        one.extras.insert(LITTLE.into(), one.p99_us / little_us);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::slice::Slice;

    #[test]
    fn a_fall_and_a_tail_are_seen() {
        let slice = |done, p99_us| Slice {
            done,
            took: Duration::from_secs(1),
            latencies_us: vec![p99_us],
            ..Slice::default()
        };
        let of = |callers, done, p99_us| (("ours".to_owned(), callers), vec![slice(done, p99_us)]);
        let contenders = vec![of(1, 1_000, 1_500), of(10, 4_000, 5_000), of(100, 3_000, 100_000)];
        let mut verdict = Verdict::of("x", contenders);
        judge(&mut verdict);
        let extras = |name: &str| -> Vec<f64> {
            let of_each = verdict.contenders.iter().map(|one| one.extras[name]);
            of_each.collect()
        };
        assert_eq!(extras(SHARE), [1.0, 1.0, 0.75]);
        assert_eq!(extras(LITTLE), [1.5, 2.0, 3.0]);
    }
}
