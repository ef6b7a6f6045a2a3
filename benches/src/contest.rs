//! Contenders by turns.

use async_trait::async_trait;

use crate::Options;
use crate::slice::Slice;
use crate::verdict::Verdict;

/// One side of a contest.
#[async_trait]
pub trait Contender: Send {
    /// What it is called in tables.
    fn name(&self) -> String;
    /// Callers, clients or connections at once.
    fn callers(&self) -> u64;
    /// One slice, on tables that were emptied or filled before, checked after.
    async fn slice(&mut self) -> Slice;
}

/// Runs rounds, each contender once in each, backwards in every other round; prints what came of it, and keeps it.
/// The first contender is ours. Nothing where others are asked for.
///
/// # Panics
/// If the result can't be written.
pub async fn contest(
    options: &Options,
    workload: &str,
    contenders: Vec<Box<dyn Contender>>,
) -> Option<Verdict> {
    let verdict = play(options, workload, contenders).await?;
    options.tell(&verdict);
    Some(verdict)
}

/// As [`contest`], without telling.
pub(crate) async fn play(
    options: &Options,
    workload: &str,
    mut contenders: Vec<Box<dyn Contender>>,
) -> Option<Verdict> {
    if !options.wants(workload) {
        return None;
    }
    let mut slices: Vec<Vec<Slice>> = vec![Vec::new(); contenders.len()];
    for round in 0..options.rounds {
        let mut order: Vec<_> = (0..contenders.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            slices[at].push(contenders[at].slice().await);
        }
    }
    let names = contenders.iter().map(|one| (one.name(), one.callers()));
    Some(Verdict::of(workload, names.zip(slices).collect()))
}
