//! What a migration is.

use persist_core::StateTable;
use persist_core::sql::{Dialect, state_list};

/// One step of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Statements, run as one script.
    Sql(String),
    /// Statements for tables of our own making only, left out where the seed's tables were adopted.
    Own(String),
    /// Turns the rows of `jobs` and `vms` into history, and makes them what their history says.
    Adopt,
}

/// A migration with its way back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migration {
    /// Its name, by which it is recorded. Names ascend in the order of the list.
    pub name: &'static str,
    /// The steps up, all in one transaction.
    pub up: Vec<Step>,
    /// The steps down, all in one transaction.
    pub down: Vec<Step>,
    /// Whether a store without it can be used all the same, by this program too. Those after it wait for it nevertheless: one
    /// that is needed must not come behind one that may fail for long.
    pub optional: bool,
}

impl Migration {
    pub(crate) fn new(name: &'static str, up: Vec<Step>, down: Vec<Step>) -> Self {
        Self {
            name,
            up,
            down,
            optional: false,
        }
    }

    /// One that only makes the store better.
    pub(crate) fn optional(self) -> Self {
        Self {
            optional: true,
            ..self
        }
    }

    /// What the way up runs, for a plan; `adopted` where the seed's tables are there.
    pub fn statements(&self, adopted: bool) -> Vec<String> {
        texts(&self.up, adopted)
    }

    /// What the way down runs, for a plan, on tables of our own making.
    pub fn reverse_statements(&self) -> Vec<String> {
        texts(&self.down, false)
    }
}

fn texts(steps: &[Step], adopted: bool) -> Vec<String> {
    let text = |step: &Step| match step {
        Step::Sql(sql) => Some(sql.clone()),
        Step::Own(sql) => (!adopted).then(|| sql.clone()),
        Step::Adopt => Some("-- every row becomes history, and then what its history says".to_owned()),
    };
    steps.iter().filter_map(text).collect()
}

/// SQLite can't change a column in place: makes the table anew and copies the rows.
///
/// `columns` are pairs of a column and where its value comes from.
pub fn rebuilt(table: &str, definition: &str, columns: &[(&str, &str)]) -> String {
    let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
    let values: Vec<_> = columns.iter().map(|(_, value)| *value).collect();
    format!(
        "CREATE TABLE {table}_next {definition};\n\
         INSERT INTO {table}_next ({}) SELECT {} FROM {table};\n\
         DROP TABLE {table};\n\
         ALTER TABLE {table}_next RENAME TO {table}",
        names.join(", "),
        values.join(", "),
    )
}

/// Whether a column holds one of the states that `keep` lets through.
pub(crate) fn one_of<S: StateTable>(dialect: Dialect, column: &str, keep: impl Fn(S) -> bool) -> String {
    match dialect {
        Dialect::Postgres => format!("{column} IN ({})", state_list(keep)),
        // differs: SQLite builds a table for IN each time that it evaluates a constraint or a generated column,
        // which was half of an update's time (25 µs against 11, 2026-11).
        Dialect::Sqlite => {
            let states = S::TABLE.iter().filter(|spec| keep(spec.state));
            let any: Vec<_> = states.map(|spec| format!("{column} = '{}'", spec.name)).collect();
            format!("({})", any.join(" OR "))
        }
    }
}
