//! Tables for people: as wide as the terminal, escaped, states in colour where there may be colour.

use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Table, presets};
use persist::{JobState, State, Timestamp, VmState};

use crate::context::Context;
use crate::exit::Failure;
use crate::talk;
use crate::visible::visible;

/// Blanks between columns.
const GAP: u16 = 2;

/// A terminal that says it is narrower does not know its width; some ptys say 0.
const NARROWEST: u16 = 20;

/// The heading of a column, and what may become of the column where there is little room.
#[derive(Clone, Copy)]
pub(crate) enum Heading {
    /// Ids and times: half of one can't be copied, so they are never broken into lines.
    Fixed(&'static str),
    Text(&'static str),
}

impl Heading {
    fn text(self) -> &'static str {
        match self {
            Self::Fixed(text) | Self::Text(text) => text,
        }
    }
}

/// An empty table with these headings, in the order of their use: the last ones are hidden where there is no room.
pub(crate) fn table(headings: &[Heading]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(headings.iter().map(|heading| heading.text()));
    for (column, heading) in table.column_iter_mut().zip(headings) {
        column.set_padding((0, GAP));
        if matches!(heading, Heading::Fixed(_)) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table
}

/// Prints a table, as much of it as has room; that some has none is said once.
pub(crate) fn print(context: &mut Context, mut table: Table) -> Result<(), Failure> {
    let hidden = hide_what_does_not_fit(&mut table);
    for line in lines(&table) {
        context.out.line(&line)?;
    }
    if hidden > 0 && !context.told_of_hidden {
        context.told_of_hidden = true;
        context.out.flush()?;
        let columns = if hidden == 1 { "column has" } else { "columns have" };
        talk::say(&format!(
            "{hidden} {columns} no room here; --format jsonl has everything"
        ));
    }
    Ok(())
}

/// Hides columns from the right until a row fits a line of the terminal, but keeps the first; returns how many it
/// hid. A row that is broken into many lines is harder to read than one that tells less.
fn hide_what_does_not_fit(table: &mut Table) -> usize {
    let Some(width) = table.width().filter(|width| *width >= NARROWEST) else {
        table.set_content_arrangement(ContentArrangement::Disabled);
        return 0;
    };
    table.set_content_arrangement(ContentArrangement::Dynamic);
    let widths = table.column_max_content_widths();
    let taken = |shown: usize| {
        widths
            .iter()
            .take(shown)
            .map(|width| u32::from(*width) + u32::from(GAP))
            .sum::<u32>()
    };
    let mut shown = widths.len();
    while shown > 1 && taken(shown) > u32::from(width) + u32::from(GAP) {
        shown -= 1;
    }
    for (n, column) in table.column_iter_mut().enumerate() {
        if n >= shown {
            column.set_constraint(ColumnConstraint::Hidden);
        } else if n + 1 == shown {
            // Nothing follows: with a gap behind it, what just fits would be broken.
            column.set_padding((0, 0));
        }
    }
    widths.len() - shown
}

/// The lines of a table, without blanks at their ends.
fn lines(table: &Table) -> Vec<String> {
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Text of the store; absent text is a dash.
pub(crate) fn text(text: Option<&str>) -> Cell {
    Cell::new(text.map_or_else(|| "–".into(), visible))
}

/// A time, to the second.
pub(crate) fn moment(at: Timestamp) -> Cell {
    Cell::new(at.format("%Y-%m-%d %H:%M:%S").to_string())
}

pub(crate) fn state(state: impl Into<State>, colour: bool) -> Cell {
    let state = state.into();
    let cell = Cell::new(state.name());
    if colour { cell.fg(colour_of(state)) } else { cell }
}

fn colour_of(state: State) -> Color {
    match state {
        State::Job(JobState::Queued) | State::Vm(VmState::Prepared) => Color::Yellow,
        State::Job(JobState::Running) | State::Vm(VmState::Running) => Color::Cyan,
        State::Job(JobState::Succeeded) | State::Vm(VmState::Stopped) => Color::Green,
        State::Job(JobState::Failed | JobState::TimedOut | JobState::Lost) | State::Vm(VmState::Failed) => {
            Color::Red
        }
        State::Job(_) | State::Vm(_) => Color::DarkGrey,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Heading::{Fixed, Text};

    const ID: &str = "0190c2f4-0000-7000-8000-000000000001";
    const TIME: &str = "2026-11-01 08:00:00";

    fn shown(headings: &[Heading], row: &[&str], width: u16) -> (Vec<String>, usize) {
        let mut table = table(headings);
        table.set_width(width).add_row(row);
        let hidden = hide_what_does_not_fit(&mut table);
        (lines(&table), hidden)
    }

    #[test]
    fn columns_that_do_not_fit_are_hidden_from_the_right() {
        let headings = [
            Fixed("JOB"),
            Text("STATE"),
            Fixed("CREATED (UTC)"),
            Text("REPOSITORY"),
        ];
        let row = [ID, "succeeded", TIME, "https://example.org/acme/app.git"];
        let at = |width| shown(&headings, &row, width);
        let all = row.join("  ");
        for unknown in [0, NARROWEST - 1] {
            let (lines, hidden) = at(unknown);
            assert_eq!((lines[1].as_str(), lines.len(), hidden), (all.as_str(), 2, 0));
        }
        for (width, columns) in [
            (50, 2),
            (80, 3),
            (102, 4),
            (101, 3),
            (68, 3),
            (67, 2),
            (46, 1),
            (20, 1),
        ] {
            let (lines, hidden) = at(width);
            assert_eq!(lines.len(), 2, "{width}: no cell is broken: {lines:?}");
            assert_eq!(lines[1], row[..columns].join("  "), "{width}");
            assert_eq!(hidden, 4 - columns, "{width}");
        }
    }

    #[test]
    fn only_text_is_broken_into_lines_where_it_stands_alone() {
        let long = "x".repeat(60);
        let row = [long.as_str(), ID];
        let headings = [Text("VM"), Fixed("JOB")];
        let (lines, hidden) = shown(&headings, &row, 50);
        assert_eq!(lines, ["VM", &long[..50], &long[50..]]);
        assert_eq!(hidden, 1);
        let (lines, _) = shown(&[Fixed("TIME (UTC)"), Text("REASON")], &[TIME, &long], 20);
        assert_eq!(lines, ["TIME (UTC)", TIME]);
    }
}
