//! Verdicts as markdown.

use std::fmt::Write as _;

use crate::targets::Target;
use crate::verdict::{Ratio, Verdict};

/// Reads verdicts as the benches keep them, one a line. Of several of one contest the last counts.
///
/// # Errors
/// What is wrong with a line.
pub fn read(lines: &str) -> serde_json::Result<Vec<Verdict>> {
    let mut verdicts: Vec<Verdict> = Vec::new();
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let verdict: Verdict = serde_json::from_str(line)?;
        let same = |one: &&mut Verdict| (&one.workload, one.callers) == (&verdict.workload, verdict.callers);
        match verdicts.iter_mut().find(same) {
            Some(before) => *before = verdict,
            None => verdicts.push(verdict),
        }
    }
    Ok(verdicts)
}

/// A table of the targets, and a table of each contest.
pub fn markdown(verdicts: &[Verdict]) -> String {
    let mut text = targets(verdicts);
    for verdict in verdicts {
        text.push_str(&contest(verdict));
    }
    text
}

fn targets(verdicts: &[Verdict]) -> String {
    let mut text =
        "| contest | callers | figure | target | measured | |\n|---|---:|---|---:|---:|---|\n".to_owned();
    for verdict in verdicts {
        for (target, figure) in Target::of(verdict) {
            let kept = if target.bound.is_kept(figure) {
                "met"
            } else {
                "**missed**"
            };
            writeln!(
                text,
                "| {} | {} | {} | {} | {figure:.2} | {kept} |",
                verdict.workload, verdict.callers, target.what, target.bound
            )
            .expect("a string takes all");
        }
    }
    text
}

fn contest(verdict: &Verdict) -> String {
    let mut text = format!(
        "\n### {}, {} callers, {} rounds\n\n\
         | | callers | a second | p50 ms | p99 ms | mean ms | ratio | spread | ratio of p50 | ratio of p99 |\n\
         |---|---:|---:|---:|---:|---:|---:|---|---:|---:|\n",
        verdict.workload, verdict.callers, verdict.rounds
    );
    let mut extras = String::new();
    for one in &verdict.contenders {
        writeln!(
            text,
            "| {} | {} | {:.0} | {} | {} | {:.3} | {:.2} | {:.2} to {:.2} | {} | {} |",
            one.name,
            one.callers,
            one.rate,
            milliseconds(one.p50_us),
            milliseconds(one.p99_us),
            one.mean_us / 1_000.0,
            one.ratio.median,
            one.ratio.lowest,
            one.ratio.highest,
            ratio(one.p50_ratio),
            ratio(one.p99_ratio),
        )
        .expect("a string takes all");
        for (name, value) in &one.extras {
            writeln!(
                extras,
                "- {}, {} callers: {name} {value:.2}",
                one.name, one.callers
            )
            .expect("a string takes all");
        }
    }
    if !extras.is_empty() {
        text.push('\n');
        text.push_str(&extras);
    }
    text
}

fn milliseconds(us: f64) -> String {
    // A rival that does not tell.
    if us == 0.0 {
        return "–".to_owned();
    }
    format!("{:.3}", us / 1_000.0)
}

fn ratio(ratio: Option<Ratio>) -> String {
    ratio.map_or("–".to_owned(), |ratio| {
        format!(
            "{:.2} ({:.2} to {:.2})",
            ratio.median, ratio.lowest, ratio.highest
        )
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::slice::Slice;

    fn bulk(ours: u64) -> Verdict {
        let slice = |done| {
            vec![Slice {
                done,
                took: Duration::from_secs(1),
                mean_us: 1_500.0,
                ..Slice::default()
            }]
        };
        let of = |name: &str, callers| (name.to_owned(), callers);
        Verdict::of(
            "pg-bulk",
            vec![
                (of("persist, lives of jobs", 1_024), slice(ours)),
                (of("the server by itself, 256 a statement", 4), slice(80)),
                (of("the server by itself, 512 a statement", 4), slice(100)),
            ],
        )
    }

    #[test]
    fn the_last_verdict_of_a_contest_counts() {
        let line = |verdict: &Verdict| serde_json::to_string(verdict).unwrap();
        let lines = [line(&bulk(50)), String::new(), line(&bulk(90))].join("\n");
        assert_eq!(read(&lines).unwrap(), [bulk(90)]);
        read("{}").unwrap_err();
    }

    #[test]
    fn targets_are_held_against_the_best_rival() {
        let met = markdown(&[bulk(90)]);
        assert!(
            met.contains("| pg-bulk | 1024 | rate over the server's best | ≥ 0.8 | 0.90 | met |"),
            "{met}"
        );
        let missed = markdown(&[bulk(70)]);
        assert!(missed.contains("| 0.70 | **missed** |"), "{missed}");
    }

    #[test]
    fn a_contest_is_a_table_and_what_is_not_told_is_a_dash() {
        let text = markdown(&[bulk(90)]);
        let row = "| the server by itself, 256 a statement | 4 | 80 | – | – | 1.500 | 1.12 | 1.12 to 1.12 | – | – |";
        assert!(text.contains("### pg-bulk, 1024 callers, 1 rounds"), "{text}");
        assert!(text.contains(row), "{text}");
    }
}
