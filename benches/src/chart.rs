//! The sweeps of callers as a picture: updates a second, and the 99th percentile beside it.

use std::collections::BTreeSet;
use std::ops::Range;

use plotters::coord::combinators::LogCoord;
use plotters::prelude::*;

use crate::verdict::{Figures, Verdict};

/// What can go wrong while drawing.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The sweeps, as the benches name them, and what they are of.
const SWEEPS: [(&str, &str); 2] = [
    ("pg-sweep", "Postgres, durable updates"),
    ("lite-sweep", "SQLite, synchronous=FULL"),
];
const PANEL: (u32, u32) = (560, 380);
const COLOURS: [RGBColor; 4] = [
    RGBColor(0, 90, 181),
    RGBColor(220, 50, 32),
    RGBColor(230, 145, 20),
    RGBColor(90, 90, 90),
];
/// Measured without a font: the viewer's own is drawn with.
const FONT: &str = "sans-serif";

/// An SVG of all sweeps among the verdicts, one below the other; nothing where there is none.
///
/// # Errors
/// If drawing fails.
pub fn callers(verdicts: &[Verdict]) -> Result<Option<String>, Error> {
    let of = |(workload, title)| {
        let verdict = verdicts.iter().find(|verdict| verdict.workload == workload)?;
        Some((verdict, title))
    };
    let sweeps: Vec<(&Verdict, &str)> = SWEEPS.into_iter().filter_map(of).collect();
    if sweeps.is_empty() {
        return Ok(None);
    }
    let mut svg = String::new();
    let size = (PANEL.0 * 2, PANEL.1 * sweeps.len() as u32);
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        for ((verdict, title), row) in sweeps.iter().zip(root.split_evenly((sweeps.len(), 1))) {
            let (rates, tails) = row.split_horizontally(PANEL.0);
            let rate = Panel {
                title: format!("{title}: updates a second"),
                verdict,
                figure: |one| one.rate,
            };
            rate.draw(&rates)?;
            let tail = Panel {
                title: format!("{title}: 99th percentile, ms"),
                verdict,
                figure: |one| one.p99_us / 1_000.0,
            };
            tail.draw(&tails)?;
        }
        root.present()?;
    }
    Ok(Some(svg))
}

struct Panel<'v> {
    title: String,
    verdict: &'v Verdict,
    figure: fn(&Figures) -> f64,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

impl Panel<'_> {
    /// Lines by name, each of callers and figures, without those that are not told: then a line is empty, so that a
    /// name has its colour in every panel.
    fn lines(&self) -> Vec<(&str, Vec<(f64, f64)>)> {
        let mut lines: Vec<(&str, Vec<(f64, f64)>)> = Vec::new();
        for one in &self.verdict.contenders {
            let at = lines.iter().position(|(name, _)| *name == one.name);
            let at = at.unwrap_or_else(|| {
                lines.push((&one.name, Vec::new()));
                lines.len() - 1
            });
            let point = (one.callers as f64, (self.figure)(one));
            lines[at].1.extend((point.1 > 0.0).then_some(point));
        }
        lines
    }

    fn draw(&self, area: &Area<'_>) -> Result<(), Error> {
        let lines = self.lines();
        let points = || lines.iter().flat_map(|(_, points)| points);
        let callers: BTreeSet<u64> = points().map(|(callers, _)| *callers as u64).collect();
        let most = callers.last().copied().unwrap_or(1).max(2) as f64;
        let figures = decades(points().map(|(_, figure)| *figure));
        let x: LogCoord<f64> = (1.0..most * 1.3).log_scale().base(4.0).into();
        let y: LogCoord<f64> = figures.log_scale().into();
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, (FONT, 21))
            .margin(12)
            .x_label_area_size(46)
            .y_label_area_size(72)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .x_desc("callers at once")
            .axis_desc_style((FONT, 17))
            .label_style((FONT, 16))
            .x_label_formatter(&|callers| number(*callers))
            .y_label_formatter(&|figure| number(*figure))
            .light_line_style(TRANSPARENT)
            .draw()?;
        let coloured = lines.iter().zip(COLOURS.iter().cycle());
        for ((name, points), colour) in coloured.filter(|((_, points), _)| !points.is_empty()) {
            let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(4);
            chart
                .draw_series(line)?
                .label(*name)
                .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.2))
            .label_font((FONT, 16))
            .draw()?;
        Ok(())
    }
}

/// The powers of ten around figures.
fn decades(figures: impl Iterator<Item = f64> + Clone) -> Range<f64> {
    let least = figures.clone().fold(f64::INFINITY, f64::min);
    let most = figures.fold(0.0_f64, f64::max);
    if most == 0.0 {
        return 1.0..10.0;
    }
    // Room above for the names.
    10_f64.powf(least.log10().floor())..10_f64.powf((most * 3.0).log10().ceil())
}

/// With commas between thousands.
fn number(figure: f64) -> String {
    if figure < 1_000.0 {
        return figure.to_string();
    }
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::slice::Slice;

    fn sweep(workload: &str) -> Verdict {
        let slice = |done, latencies_us: Vec<u32>| {
            vec![Slice {
                done,
                took: Duration::from_secs(1),
                latencies_us,
                ..Slice::default()
            }]
        };
        let of = |name: &str, callers| (name.to_owned(), callers);
        Verdict::of(
            workload,
            vec![
                (of("persist", 1), slice(2_500, vec![400])),
                (of("persist", 4_096), slice(60_000, vec![90_000])),
                (of("pgbench", 64), slice(13_000, Vec::new())),
            ],
        )
    }

    #[test]
    fn a_sweep_is_drawn_with_titles_axes_and_names_as_text() {
        let svg = callers(&[sweep("pg-sweep"), sweep("lite-sweep")])
            .unwrap()
            .unwrap();
        for text in [
            "Postgres, durable updates: updates a second",
            "SQLite, synchronous=FULL: 99th percentile, ms",
            "callers at once",
            "persist",
            "pgbench",
            "10,000",
        ] {
            assert!(svg.contains(text), "{text} is not in the picture");
        }
        // Twice in the panels of rates and twice in those of latencies; pgbench tells no percentile.
        let names = |name: &str| svg.matches(&format!("\n{name}\n")).count();
        assert_eq!((names("persist"), names("pgbench")), (4, 2));
    }

    #[test]
    fn without_a_sweep_there_is_no_picture() {
        assert_eq!(callers(&[sweep("mem")]).unwrap(), None);
    }

    #[test]
    fn thousands_have_commas() {
        let numbers = [0.1, 10.0, 1_000.0, 100_000.0, 1_000_000.0].map(number);
        assert_eq!(numbers, ["0.1", "10", "1,000", "100,000", "1,000,000"]);
    }
}
