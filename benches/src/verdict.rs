//! What the slices of a contest say: medians, and medians of ratios.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::slice::Slice;

/// What a contest gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Name of the workload, as the table of targets has it.
    pub workload: String,
    /// Callers of the first contender.
    pub callers: u64,
    /// Rounds.
    pub rounds: usize,
    /// The first is ours.
    pub contenders: Vec<Figures>,
}

/// The figures of one contender.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Its name.
    pub name: String,
    /// Callers, clients or connections at once.
    pub callers: u64,
    /// Median of the slices' rates, operations a second.
    pub rate: f64,
    /// Medians of the slices' latencies, µs; 0 where a rival does not tell.
    pub p50_us: f64,
    /// The 99th percentile.
    pub p99_us: f64,
    /// The mean.
    pub mean_us: f64,
    /// The first contender's rate over this one's.
    pub ratio: Ratio,
    /// The first contender's median latency over this one's; `None` where one of them does not tell.
    pub p50_ratio: Option<Ratio>,
    /// The first contender's 99th percentile over this one's; `None` where one of them does not tell.
    pub p99_ratio: Option<Ratio>,
    /// Medians of what else it tells, by name.
    pub extras: BTreeMap<String, f64>,
}

/// How the first contender's figure compares with another's, round by round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The median over the rounds.
    pub median: f64,
    /// The lowest.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
}

impl Ratio {
    /// Of the figures of the rounds, ours and theirs; `None` where one is missing, as a 0.
    fn of(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        if ours.iter().chain(theirs).any(|figure| *figure <= 0.0) {
            return None;
        }
        let ratios: Vec<f64> = ours
            .iter()
            .zip(theirs)
            .map(|(ours, theirs)| ours / theirs)
            .collect();
        Some(Self {
            lowest: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            highest: ratios.iter().copied().fold(0.0, f64::max),
            median: median(ratios),
        })
    }
}

/// A figure of each slice.
fn each(slices: &[Slice], figure: impl Fn(&Slice) -> f64) -> Vec<f64> {
    slices.iter().map(figure).collect()
}

fn p50(slice: &Slice) -> f64 {
    slice.quantile(0.5).into()
}

fn p99(slice: &Slice) -> f64 {
    slice.quantile(0.99).into()
}

impl Verdict {
    /// Of contenders, by name and callers, with their slices. All have as many, and there is at least one.
    ///
    /// # Panics
    /// If a slice has done nothing.
    pub fn of(workload: &str, contenders: Vec<((String, u64), Vec<Slice>)>) -> Self {
        let ours = contenders[0].1.clone();
        let figures = contenders.into_iter().map(|((name, callers), slices)| {
            let compared =
                |figure: fn(&Slice) -> f64| Ratio::of(&each(&ours, figure), &each(&slices, figure));
            let extras = slices[0].extras.keys().map(|name| {
                let values = each(&slices, |slice| slice.extras[name]);
                ((*name).to_owned(), median(values))
            });
            Figures {
                callers,
                rate: median(each(&slices, Slice::rate)),
                p50_us: median(each(&slices, p50)),
                p99_us: median(each(&slices, p99)),
                mean_us: median(each(&slices, |slice| slice.mean_us)),
                ratio: compared(Slice::rate).unwrap_or_else(|| panic!("{name} did nothing in {workload}")),
                p50_ratio: compared(p50),
                p99_ratio: compared(p99),
                extras: extras.collect(),
                name,
            }
        });
        let figures: Vec<_> = figures.collect();
        Self {
            workload: workload.to_owned(),
            callers: figures[0].callers,
            rounds: ours.len(),
            contenders: figures,
        }
    }

    /// The workload without what one of its variants adds in brackets.
    pub fn workload(&self) -> &str {
        self.workload.split(" (").next().unwrap_or_default()
    }

    /// Prints it as a table.
    pub fn print(&self) {
        println!(
            "\n{}, {} rounds\n  {:<40} {:>7} {:>10} {:>9} {:>9} {:>9} {:>7} {:<14} {:>7}",
            self.workload,
            self.rounds,
            "",
            "callers",
            "per s",
            "p50 ms",
            "p99 ms",
            "mean ms",
            "ratio",
            "spread",
            "of p99"
        );
        for one in &self.contenders {
            let spread = format!("{:.2} to {:.2}", one.ratio.lowest, one.ratio.highest);
            println!(
                "  {:<40} {:>7} {:>10.0} {:>9.2} {:>9.2} {:>9.3} {:>7.2} {spread:<14} {:>7}",
                one.name,
                one.callers,
                one.rate,
                one.p50_us / 1_000.0,
                one.p99_us / 1_000.0,
                one.mean_us / 1_000.0,
                one.ratio.median,
                one.p99_ratio
                    .map_or("–".to_owned(), |ratio| format!("{:.2}", ratio.median)),
            );
            for (name, value) in &one.extras {
                println!("      {name}: {value:.2}");
            }
        }
    }
}

/// The middle one; of an even number the mean of both.
///
/// # Panics
/// If there is none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn slice(done: u64, latencies_us: Vec<u32>) -> Slice {
        Slice {
            done,
            took: Duration::from_secs(1),
            latencies_us,
            ..Slice::default()
        }
    }

    #[test]
    fn ratios_are_of_rounds_and_not_of_medians() {
        let ours = vec![
            slice(10, vec![1, 2]),
            slice(40, vec![1, 8]),
            slice(90, vec![1, 9]),
        ];
        let theirs = vec![
            slice(10, vec![1, 1]),
            slice(10, vec![1, 1]),
            slice(30, vec![1, 9]),
        ];
        let verdict = Verdict::of(
            "x",
            vec![(("ours".into(), 3), ours), (("theirs".into(), 1), theirs)],
        );
        let theirs = &verdict.contenders[1];
        let of = |ratio: Ratio| (ratio.lowest, ratio.median, ratio.highest);
        assert_eq!((verdict.callers, verdict.rounds), (3, 3));
        assert_eq!(of(theirs.ratio), (1.0, 3.0, 4.0));
        assert_eq!(theirs.p99_ratio.map(of), Some((1.0, 2.0, 8.0)));
        assert_eq!((theirs.rate, theirs.p99_us), (10.0, 1.0));
    }

    #[test]
    fn who_tells_no_latency_has_no_ratio_of_it() {
        let verdict = Verdict::of(
            "x",
            vec![
                (("ours".into(), 1), vec![slice(1, vec![5])]),
                (("pgbench".into(), 1), vec![slice(1, Vec::new())]),
            ],
        );
        assert_eq!(verdict.contenders[1].p99_ratio, None);
    }
}
