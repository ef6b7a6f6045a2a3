//! Every contest, one round of short slices: the contenders run, and each store holds what was acknowledged.

use persist_benches::{Options, Suite, run};

#[tokio::test(flavor = "multi_thread")]
async fn every_contest_runs_and_checks_its_rows() {
    let verdicts = run(&Options::smoke()).await;
    let workloads: Vec<_> = verdicts.iter().map(|verdict| verdict.workload.as_str()).collect();
    for workload in [
        "pg-callers",
        "pg-alone",
        "pg-bulk",
        "pg-hot",
        "pg-point",
        "lite-callers",
        "lite-mixed (reads)",
        "mem",
        "writer",
    ] {
        assert!(
            workloads.contains(&workload),
            "{workload} is missing: {workloads:?}"
        );
    }
    for verdict in &verdicts {
        for one in &verdict.contenders {
            assert!(one.rate > 0.0, "{} did nothing in {}", one.name, verdict.workload);
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
