//! Tables for people: as wide as the terminal, escaped, states in colour where there may be colour.

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use persist::{JobState, State, Timestamp, VmState};

use crate::visible::visible;

/// An empty table with these headings.
pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(headings.iter().copied());
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
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
