//! Contenders by turns, and what the medians say.

use async_trait::async_trait;
use serde::Serialize;

use crate::slice::Slice;

/// One side of a contest.
#[async_trait]
pub trait Contender: Send {
    /// What it is called in tables.
    fn name(&self) -> String;
    /// One slice, on tables that were emptied before, checked after.
    async fn slice(&mut self) -> Slice;
}

/// The figures of one contender.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Its name.
    pub name: String,
    /// Median of the slices' rates, operations a second.
    pub rate: f64,
    /// Medians of the slices' latencies, µs; 0 where a rival does not tell.
    pub p50_us: f64,
    /// The 99th percentile.
    pub p99_us: f64,
    /// The mean.
    pub mean_us: f64,
    /// Median over the rounds of the first contender's rate over this one's.
    pub ratio: f64,
    /// The lowest and the highest of those ratios.
    pub spread: (f64, f64),
}

/// What a contest gave.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// Name of the workload, as the table of targets has it.
    pub workload: String,
    /// Callers at once; 0 where it is no matter of callers.
    pub callers: u64,
    /// Rounds.
    pub rounds: usize,
    /// The first is ours.
    pub contenders: Vec<Figures>,
}

/// Runs rounds, each contender once in each, backwards in every other round, and prints the result.
pub async fn contest(
    workload: &str,
    callers: u64,
    rounds: usize,
    mut contenders: Vec<Box<dyn Contender>>,
) -> Verdict {
    let mut slices: Vec<Vec<Slice>> = vec![Vec::new(); contenders.len()];
    for round in 0..rounds {
        let mut order: Vec<_> = (0..contenders.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            slices[at].push(contenders[at].slice().await);
        }
    }
    let rates: Vec<Vec<f64>> = slices
        .iter()
        .map(|of_one| of_one.iter().map(Slice::rate).collect())
        .collect();
    let figures = contenders.iter().zip(&slices).zip(&rates);
    let contenders = figures.map(|((contender, slices), of_one)| {
        let ratios: Vec<f64> = rates[0]
            .iter()
            .zip(of_one)
            .map(|(ours, theirs)| ours / theirs)
            .collect();
        let of = |value: &dyn Fn(&Slice) -> f64| median(slices.iter().map(value).collect());
        Figures {
            name: contender.name(),
            rate: median(of_one.clone()),
            p50_us: of(&|slice| f64::from(slice.quantile(0.5))),
            p99_us: of(&|slice| f64::from(slice.quantile(0.99))),
            mean_us: of(&|slice| slice.mean_us),
            spread: (
                ratios.iter().copied().fold(f64::INFINITY, f64::min),
                ratios.iter().copied().fold(0.0, f64::max),
            ),
            ratio: median(ratios),
        }
    });
    let verdict = Verdict {
        workload: workload.to_owned(),
        callers,
        rounds,
        contenders: contenders.collect(),
    };
    print(&verdict);
    verdict
}

fn print(verdict: &Verdict) {
    println!(
        "\n{}, {} callers, {} rounds\n  {:<42} {:>10} {:>9} {:>9} {:>9} {:>8}  spread",
        verdict.workload,
        verdict.callers,
        verdict.rounds,
        "",
        "per s",
        "p50 ms",
        "p99 ms",
        "mean ms",
        "ratio"
    );
    for one in &verdict.contenders {
        println!(
            "  {:<42} {:>10.0} {:>9.2} {:>9.2} {:>9.3} {:>8.2}  {:.2} to {:.2}",
            one.name,
            one.rate,
            one.p50_us / 1_000.0,
            one.p99_us / 1_000.0,
            one.mean_us / 1_000.0,
            one.ratio,
            one.spread.0,
            one.spread.1
        );
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
