//! Every contest, one round of short slices: the contenders run, and each store holds what was acknowledged.

use persist_benches::verdict::Verdict;
use persist_benches::{Options, Suite, run};

#[tokio::test(flavor = "multi_thread")]
async fn every_contest_runs_and_checks_its_rows() {
    let verdicts = run(&Options::smoke()).await;
    let mut workloads: Vec<_> = verdicts.iter().map(Verdict::workload).collect();
    workloads.dedup();
    assert_eq!(
        workloads,
        [
            "pg-callers",
            "pg-alone",
            "pg-bulk",
            "import",
            "pg-hot",
            "watch",
            "prune",
            "pg-sweep",
            "pg-page",
            "pg-point",
            "lite-callers",
            "lite-mixed",
            "import",
            "lite-sweep",
            "mem",
            "writer",
            "pg-layers",
            "pg-recorded",
            "lite-layers",
            "lite-recorded",
        ]
    );
    for verdict in &verdicts {
        for one in &verdict.contenders {
            assert!(one.rate > 0.0, "{} did nothing in {}", one.name, verdict.workload);
            assert_eq!(one.ratio.lowest, one.ratio.highest, "of one round");
        }
    }
}

#[test]
fn a_suite_is_named_on_the_command_line() {
    use clap::Parser as _;
    let options = Options::parse_from(["rivals", "--rounds", "3", "sqlite", "--bench"]);
    assert_eq!(
        (options.suites.as_slice(), options.rounds),
        (&[Suite::Sqlite][..], 3)
    );
}
