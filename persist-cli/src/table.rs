//! Tables for people: as wide as the terminal, escaped, states in colour where there may be colour.

use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Table, presets};
use persist::{JobState, State, Timestamp, VmState};

use crate::visible::visible;

/// Blanks between columns.
const GAP: u16 = 2;

/// An empty table with these headings.
pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(headings.iter().copied());
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    table
}

/// Hides columns from the right until a row fits a line of the terminal, but keeps so many; returns how many it
/// hid. A row that is broken into many lines is harder to read than one that tells less.
pub(crate) fn hide_what_does_not_fit(table: &mut Table, keep: usize) -> usize {
    let Some(width) = table.width() else { return 0 };
    hide_beyond(table, keep, width)
}

fn hide_beyond(table: &mut Table, keep: usize, width: u16) -> usize {
    let widths = table.column_max_content_widths();
    let mut shown = widths.len();
    let taken = |shown: usize| {
        widths
            .iter()
            .take(shown)
            .map(|width| u32::from(width + GAP))
            .sum::<u32>()
    };
    while shown > keep && taken(shown) > u32::from(width + GAP) {
        shown -= 1;
    }
    for column in table.column_iter_mut().skip(shown) {
        column.set_constraint(ColumnConstraint::Hidden);
    }
    widths.len() - shown
}

/// The lines of a table, without blanks at their ends.
pub(crate) fn lines(table: &Table) -> Vec<String> {
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

    #[test]
    fn columns_that_do_not_fit_are_hidden_from_the_right() {
        let shown = |width| {
            let mut table = table(&["A", "B", "C"]);
            table.add_row(["12345", "12345", "12345"]);
            let hidden = hide_beyond(&mut table, 1, width);
            (lines(&table)[0].clone(), hidden)
        };
        assert_eq!(shown(19), ("A      B      C".into(), 0));
        assert_eq!(shown(18), ("A      B".into(), 1));
        assert_eq!(shown(3), ("A".into(), 2), "the first one stays");
    }
}
