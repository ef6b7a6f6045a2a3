//! The statements that mend a difference, and whether they may be run without a second look.

use std::collections::BTreeSet;

use persist_core::inspect::code;
use persist_core::{Finding, Severity};
use persist_migration::drift::Drift;
use persist_migration::shape::{Column, Part, Shape};

/// The rows that a mended constraint would refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// None have to be counted.
    None,
    /// So many, at least.
    Rows(i64),
    /// There was no time to count them.
    Unknown,
}

/// Which rows of a drift's table would be refused once it is mended: an expression of our own catalogue.
pub(super) fn unfit_rows(drift: &Drift) -> Option<String> {
    let expected = drift.expected.as_deref()?;
    match drift.code {
        code::WRONG_NULLABILITY if Column::read(expected).not_null => {
            Some(format!("{} IS NULL", drift.place.name))
        }
        code::MISSING_CHECK | code::WRONG_CHECK | code::INVALID_CHECK => {
            let demands = expected.strip_prefix("CHECK ")?;
            Some(format!("NOT {demands}"))
        }
        _ => None,
    }
}

/// Knows the way from what is there to what should be.
pub(super) struct Mender<'e> {
    expected: &'e Shape,
    prefix: &'e str,
    lacking: BTreeSet<&'e str>,
    small: &'e BTreeSet<String>,
}

impl<'e> Mender<'e> {
    /// `small` are the tables that are rewritten in no time.
    pub(super) fn new(
        expected: &'e Shape,
        prefix: &'e str,
        drifts: &'e [Drift],
        small: &'e BTreeSet<String>,
    ) -> Self {
        let missing = drifts.iter().filter(|drift| drift.code == code::MISSING_COLUMN);
        Self {
            expected,
            prefix,
            lacking: missing.map(|drift| drift.place.table.as_str()).collect(),
            small,
        }
    }

    /// What is told of a difference.
    pub(super) fn finding(&self, drift: &Drift, unfit: Unfit) -> Finding {
        let mut finding = drift.finding();
        if drift.code == code::EXTRA_INDEX && costs_hot(drift) {
            finding.severity = Severity::Warning;
            finding.why = "it names state, which changes with every update: each then writes into every index of the row \
                           (no HOT update)"
                .to_owned();
        }
        let (statements, is_safe) = self.mends(drift);
        finding.mend = statements;
        match unfit {
            Unfit::None | Unfit::Rows(0) if is_safe => finding.safe(),
            Unfit::None | Unfit::Rows(0) => finding,
            Unfit::Rows(rows) => {
                let more = if rows < MOST_COUNTED { "" } else { " or more" };
                finding.what = format!(
                    "{}; {rows}{more} rows do not fit, and are to be corrected first",
                    finding.what
                );
                finding
            }
            Unfit::Unknown => {
                finding.what = format!("{}; whether all rows fit was not found out in time", finding.what);
                finding
            }
        }
    }

    fn mends(&self, drift: &Drift) -> (Vec<String>, bool) {
        let (name, table) = (&drift.place.name, self.table(&drift.place.table));
        let expected = drift.expected.as_deref().unwrap_or_default();
        let alter = |what: String| format!("ALTER TABLE {table} {what}");
        match drift.code {
            code::MISSING_TABLE => (self.create(&drift.place.table), false),
            code::MISSING_COLUMN => {
                // The table is written anew under a lock that nobody reads beside.
                let is_safe =
                    expected.contains("GENERATED ALWAYS AS (") && self.small.contains(&drift.place.table);
                (vec![alter(format!("ADD COLUMN {name} {expected}"))], is_safe)
            }
            code::WRONG_TYPE => {
                let kind = Column::read(expected).kind;
                (vec![alter(format!("ALTER COLUMN {name} TYPE {kind}"))], false)
            }
            code::WRONG_NULLABILITY if Column::read(expected).not_null => {
                // With a check that was validated, which locks nobody out, the server need not look at rows again.
                let check = format!("{}_{name}_filled", drift.place.table);
                let statements = [
                    // Left behind where this was interrupted.
                    format!("DROP CONSTRAINT IF EXISTS {check}"),
                    format!("ADD CONSTRAINT {check} CHECK ({name} IS NOT NULL) NOT VALID"),
                    format!("VALIDATE CONSTRAINT {check}"),
                    format!("ALTER COLUMN {name} SET NOT NULL"),
                    format!("DROP CONSTRAINT {check}"),
                ];
                (statements.map(alter).to_vec(), true)
            }
            code::WRONG_NULLABILITY => (vec![alter(format!("ALTER COLUMN {name} DROP NOT NULL"))], true),
            code::WRONG_DEFAULT => match Column::read(expected).filled {
                filled if filled.starts_with("DEFAULT ") => {
                    (vec![alter(format!("ALTER COLUMN {name} SET {filled}"))], true)
                }
                "" => (vec![alter(format!("ALTER COLUMN {name} DROP EXPRESSION"))], false),
                _ => (Vec::new(), false),
            },
            code::MISSING_KEY => {
                let key = format!("{}_pkey", drift.place.table);
                let statements = vec![
                    format!("CREATE UNIQUE INDEX CONCURRENTLY {key} ON {table} ({expected})"),
                    alter(format!("ADD CONSTRAINT {key} PRIMARY KEY USING INDEX {key}")),
                ];
                (statements, false)
            }
            code::MISSING_CHECK | code::WRONG_CHECK | code::INVALID_CHECK => {
                let drop = (drift.code == code::WRONG_CHECK).then(|| format!("DROP CONSTRAINT {name}"));
                let add = (drift.code != code::INVALID_CHECK)
                    .then(|| format!("ADD CONSTRAINT {name} {expected} NOT VALID"));
                let validate = format!("VALIDATE CONSTRAINT {name}");
                let statements = drop.into_iter().chain(add).chain([validate]);
                (statements.map(alter).collect(), true)
            }
            code::MISSING_INDEX | code::WRONG_INDEX | code::INVALID_INDEX => {
                let drop = (drift.code != code::MISSING_INDEX)
                    .then(|| format!("DROP INDEX CONCURRENTLY {}{name}", self.prefix));
                let create = self.index(&drift.place.table, name, expected, " CONCURRENTLY");
                let statements = drop.into_iter().chain([create]).collect();
                (statements, !self.lacking.contains(drift.place.table.as_str()))
            }
            code::EXTRA_INDEX => {
                let drop = format!("DROP INDEX CONCURRENTLY {}{}", self.prefix, quoted(name));
                (vec![drop], false)
            }
            code::WRONG_OPTION => (
                vec![alter(format!("SET ({name} = {expected})"))],
                drift.found.is_none(),
            ),
            _ => (Vec::new(), false),
        }
    }

    fn table(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn index(&self, table: &str, name: &str, definition: &str, way: &str) -> String {
        let (unique, definition) = definition
            .strip_prefix("UNIQUE ")
            .map_or(("", definition), |definition| (" UNIQUE", definition));
        let table = self.table(table);
        format!("CREATE{unique} INDEX{way} {name} ON {table} USING {definition}")
    }

    fn create(&self, table: &str) -> Vec<String> {
        let columns = self.expected.of(Part::Column, table);
        let mut parts: Vec<_> = columns
            .map(|(name, definition)| format!("{name} {definition}"))
            .collect();
        if let Some(key) = self.expected.get(Part::Key, table, "-") {
            parts.push(format!("PRIMARY KEY ({key})"));
        }
        let checks = self.expected.of(Part::Check, table);
        parts.extend(checks.map(|(name, check)| format!("CONSTRAINT {name} {check}")));
        let options: Vec<_> = self
            .expected
            .of(Part::Option, table)
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        let with = if options.is_empty() {
            String::new()
        } else {
            format!(" WITH ({})", options.join(", "))
        };
        let create = format!("CREATE TABLE {} ({}){with}", self.table(table), parts.join(", "));
        let indexes = self.expected.of(Part::Index, table);
        let indexes = indexes.map(|(name, definition)| self.index(table, name, definition, ""));
        [create].into_iter().chain(indexes).collect()
    }
}

/// Where the counting of rows ends.
pub(super) const MOST_COUNTED: i64 = 1_000;

/// Whether a column or a predicate of an index is `state`.
fn costs_hot(drift: &Drift) -> bool {
    let definition = drift.found.as_deref().unwrap_or_default();
    let mut words = definition.split(|c: char| !c.is_alphanumeric() && c != '_');
    matches!(drift.place.table.as_str(), "jobs" | "vms") && words.any(|word| word == "state")
}

/// A name that somebody else chose, in a statement.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
