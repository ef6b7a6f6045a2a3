//! What is asked of the verdicts: ratios of both sides in one run.

use std::fmt;

use crate::sweep::{LITTLE, SHARE};
use crate::verdict::{Figures, Ratio, Verdict};
use crate::writer::CPU_US;

/// A figure of a verdict and its bound.
#[derive(Debug)]
pub struct Target {
    workload: &'static str,
    /// Callers of ours; `None` for any.
    callers: Option<u64>,
    /// What is measured.
    pub what: &'static str,
    /// Where it should be.
    pub bound: Bound,
    figure: fn(&Verdict) -> Option<f64>,
}

/// A bound, itself allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
}

impl Bound {
    /// Whether a figure keeps it.
    pub fn is_kept(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(bound) => figure >= bound,
            Self::AtMost(bound) => figure <= bound,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
        }
    }
}

impl Target {
    /// The targets of a verdict, each with its figure.
    pub fn of(verdict: &Verdict) -> impl Iterator<Item = (&'static Self, f64)> {
        TARGETS
            .iter()
            .filter(|target| verdict.workload() == target.workload)
            .filter(|target| target.callers.is_none_or(|callers| callers == verdict.callers))
            .filter_map(|target| Some((target, (target.figure)(verdict)?)))
    }
}

const fn target(
    workload: &'static str,
    callers: Option<u64>,
    what: &'static str,
    bound: Bound,
    figure: fn(&Verdict) -> Option<f64>,
) -> Target {
    Target {
        workload,
        callers,
        what,
        bound,
        figure,
    }
}

use Bound::{AtLeast, AtMost};

const PGBENCH: &str = "pgbench";
/// What one writes with it. That with settings of its own stands in the tables beside it.
const SEA_ORM: &str = "SeaORM, its defaults";
const SERVER: &str = "the server by itself";

/// What has no layer over it but its writer.
const BARE: &str = "the driver";

/// Of the changes from their callers to who watches, while both are busy: the poll interval is then the shortest, 20 ms.
pub(crate) const WAY: &str = "p99 from the call to who watches, ms";

static TARGETS: [Target; 27] = [
    target(
        "pg-callers",
        Some(64),
        "rate over the best pgbench",
        AtLeast(3.0),
        |of| rate(of, PGBENCH),
    ),
    target(
        "pg-callers",
        Some(64),
        "rate over plain SeaORM",
        AtLeast(5.0),
        |of| rate(of, SEA_ORM),
    ),
    target(
        "pg-callers",
        Some(64),
        "p99 over plain SeaORM's",
        AtMost(0.5),
        |of| p99(of, SEA_ORM),
    ),
    target(
        "pg-callers",
        Some(1_024),
        "rate over the best pgbench",
        AtLeast(7.0),
        |of| rate(of, PGBENCH),
    ),
    target(
        "pg-callers",
        Some(1_024),
        "rate over plain SeaORM",
        AtLeast(12.0),
        |of| rate(of, SEA_ORM),
    ),
    target(
        "pg-alone",
        None,
        "mean latency over pgbench's",
        AtMost(1.3),
        |of| rate(of, PGBENCH).map(f64::recip),
    ),
    target(
        "pg-bulk",
        None,
        "rate over the server's best",
        AtLeast(0.8),
        |of| rate(of, SERVER),
    ),
    target(
        "import",
        None,
        "rate over the server's best",
        AtLeast(0.8),
        |of| rate(of, SERVER),
    ),
    target("pg-hot", None, "rate over uniform jobs'", AtLeast(0.5), |of| {
        rate(of, "persist")
    }),
    target(
        "pg-page",
        None,
        "median latency over the first page's",
        AtMost(1.5),
        |of| Some(of.contenders.get(1)?.p50_ratio?.median),
    ),
    target("pg-point", None, "rate over pgbench's", AtLeast(0.8), |of| {
        rate(of, PGBENCH)
    }),
    target(
        "watch",
        None,
        "rate over that with nobody watching",
        AtLeast(0.97),
        |of| rate(of, "persist"),
    ),
    target("watch", Some(64), WAY, AtMost(40.0), |of| most(of, WAY)),
    target(
        "prune",
        None,
        "p99 over that with nobody pruning",
        AtMost(2.0),
        |of| p99(of, "persist"),
    ),
    target("pg-sweep", None, SHARE, AtLeast(0.9), |of| least(of, SHARE)),
    target("pg-sweep", None, LITTLE, AtMost(2.0), |of| most(of, LITTLE)),
    target(
        "lite-callers",
        Some(64),
        "rate over a transaction per update",
        AtLeast(12.0),
        |of| rate(of, "rusqlite, a transaction"),
    ),
    target(
        "lite-callers",
        None,
        "rate over that of a file that keeps its free pages",
        AtLeast(0.97),
        |of| rate(of, "persist, SQLite FULL, pages stay"),
    ),
    target("lite-callers", Some(64), "p99, ms", AtMost(10.0), |of| {
        Some(of.contenders.first()?.p99_us / 1_000.0)
    }),
    target(
        "lite-callers",
        Some(2_048),
        "rate over one transaction for all",
        AtLeast(0.65),
        |of| rate(of, "rusqlite, all in one"),
    ),
    target(
        "lite-mixed",
        None,
        "p99 over that without writers",
        AtMost(2.0),
        |of| p99(of, "the same reads"),
    ),
    target("lite-sweep", None, SHARE, AtLeast(0.9), |of| least(of, SHARE)),
    target("lite-sweep", None, LITTLE, AtMost(2.0), |of| most(of, LITTLE)),
    target("writer", None, CPU_US, AtMost(2.0), |of| most(of, CPU_US)),
    target("pg-layers", None, "rate over the driver's", AtLeast(0.97), |of| {
        rate(of, BARE)
    }),
    target(
        "lite-layers",
        None,
        "rate over the driver's",
        AtLeast(0.97),
        |of| rate(of, BARE),
    ),
    target("mem", None, "rate over a bare map", AtLeast(0.7), |of| {
        rate(of, "a bare map, index and history, one lock: texts")
    }),
];

/// The rivals whose names begin so.
fn rivals<'v>(verdict: &'v Verdict, name: &str) -> impl Iterator<Item = &'v Figures> {
    let rivals = verdict.contenders.iter().skip(1);
    rivals.filter(move |one| one.name.starts_with(name))
}

/// Our rate over the best of theirs.
fn rate(verdict: &Verdict, name: &str) -> Option<f64> {
    let ratios = rivals(verdict, name).map(|one| one.ratio.median);
    ratios.min_by(f64::total_cmp)
}

/// Our 99th percentile over the best of theirs.
fn p99(verdict: &Verdict, name: &str) -> Option<f64> {
    let ratios = rivals(verdict, name).filter_map(|one| one.p99_ratio);
    ratios.map(|ratio: Ratio| ratio.median).max_by(f64::total_cmp)
}

fn extras(verdict: &Verdict, name: &str) -> impl Iterator<Item = f64> {
    let told = verdict.contenders.iter().map(|one| one.extras.get(name).copied());
    told.flatten()
}

fn least(verdict: &Verdict, name: &str) -> Option<f64> {
    extras(verdict, name).min_by(f64::total_cmp)
}

fn most(verdict: &Verdict, name: &str) -> Option<f64> {
    extras(verdict, name).max_by(f64::total_cmp)
}
