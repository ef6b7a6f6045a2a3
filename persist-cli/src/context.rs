//! What every command is given.

use std::io::IsTerminal as _;

use crate::args::{Format, Globals};
use crate::database::Database;
use crate::exit::Failure;
use crate::output::Output;

pub(crate) struct Context {
    pub(crate) database: Database,
    pub(crate) format: Format,
    pub(crate) out: Output,
    /// Whether tables on stdout may have colours.
    pub(crate) colour: bool,
    /// That a table has more columns than the terminal has room for is said once.
    pub(crate) told_of_hidden: bool,
}

impl Context {
    pub(crate) fn new(globals: Globals) -> Result<Self, Failure> {
        let wanted = !globals.no_color && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Self {
            database: Database::choose(globals.database_url)?,
            format: globals.format,
            out: Output::stdout(),
            colour: wanted && std::io::stdout().is_terminal(),
            told_of_hidden: false,
        })
    }
}
