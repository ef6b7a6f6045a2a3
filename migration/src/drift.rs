//! How a database differs from what it should be, and why each difference matters.

use persist_core::inspect::code;
use persist_core::{Finding, Severity};

use crate::shape::{Column, Part, Place, Shape, is_same};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The sort of it: one of [`code::ALL`].
    pub code: &'static str,
    /// Where it is.
    pub place: Place,
    /// What should be there.
    pub expected: Option<String>,
    /// What is there.
    pub found: Option<String>,
}

impl Drift {
    fn new(code: &'static str, place: &Place, expected: Option<&str>, found: Option<&str>) -> Self {
        Self {
            code,
            place: place.clone(),
            expected: expected.map(str::to_owned),
            found: found.map(str::to_owned),
        }
    }

    /// What is told of it, without what mends it: that is each database's own.
    ///
    /// Of what somebody made by hand only names, types and numbers are told: its text may hold anything.
    pub fn finding(&self) -> Finding {
        let (severity, why) = self.judged();
        Finding::new(self.code, self.place.to_string(), severity, self.what(), why)
    }

    fn what(&self) -> String {
        let part = self.place.part.name();
        let expected = self.expected.as_deref().unwrap_or_default();
        let found = self.found.as_deref().unwrap_or_default();
        match self.code {
            code::MISSING_TABLE => "the table is missing".to_owned(),
            code::WRONG_TABLE => format!("it is {found}, and should be {expected}"),
            code::MISSING_COLUMN | code::MISSING_INDEX | code::MISSING_CHECK => {
                format!("the {part} is missing; it should be {expected}")
            }
            code::MISSING_KEY => format!("there is no primary key; it should be ({expected})"),
            code::WRONG_KEY => format!("the primary key is ({found}), and should be ({expected})"),
            code::WRONG_TYPE => {
                let kinds = [found, expected].map(|text| Column::read(text).kind);
                format!("it is of type {}, and should be {}", kinds[0], kinds[1])
            }
            code::WRONG_NULLABILITY if Column::read(expected).not_null => {
                "it takes null, and should not".to_owned()
            }
            code::WRONG_NULLABILITY => "it refuses null, and should not".to_owned(),
            code::WRONG_DEFAULT => match Column::read(expected).filled {
                "" => "the database computes it, and should not".to_owned(),
                filled => format!("it should be {filled}, and is filled in another way"),
            },
            code::WRONG_INDEX => format!("it is of other columns or rows; it should be {expected}"),
            code::WRONG_CHECK => format!("it demands something else; it should be {expected}"),
            code::INVALID_INDEX => "its making was interrupted, and no read uses it".to_owned(),
            code::INVALID_CHECK => "rows that were there before it were never looked at".to_owned(),
            code::WRONG_OPTION if self.found.is_none() => format!("it is not set, and should be {expected}"),
            code::WRONG_OPTION => format!("it is {found}; a fresh store has {expected}"),
            code::EXTRA_INDEX if found.ends_with(INVALID) => {
                "the index is not ours, and its making was interrupted".to_owned()
            }
            _ => format!("the {part} is not ours"),
        }
    }

    fn judged(&self) -> (Severity, &'static str) {
        use Severity::{Error, Info, Warning};
        let expected = self.expected.as_deref().unwrap_or_default();
        let found = self.found.as_deref().unwrap_or_default();
        match self.code {
            code::MISSING_TABLE => (
                Error,
                "every call that needs it fails, and what was in it is gone",
            ),
            code::WRONG_TABLE => (Error, "what a store promises holds for tables of this sort only"),
            code::MISSING_COLUMN if expected.contains("GENERATED ALWAYS") => (
                Error,
                "every call that needs it fails; the database computes its values anew",
            ),
            code::MISSING_COLUMN => (
                Error,
                "every call that needs it fails; made anew it would be empty, and answers wrong: restore a backup, \
                 or import an export of the history into a new store",
            ),
            code::WRONG_TYPE => (
                Error,
                "values are refused, or sorted and compared in another order",
            ),
            code::WRONG_NULLABILITY if Column::read(expected).not_null => {
                (Warning, "a null that gets in makes its row unreadable")
            }
            code::WRONG_NULLABILITY => (Error, "updates that bring no value for it are refused"),
            code::WRONG_DEFAULT => (Error, "updates are refused, or stored with what is not true"),
            code::MISSING_KEY | code::WRONG_KEY => (
                Error,
                "updates fail: who is first at a slot is decided by it; rows may be doubled meanwhile",
            ),
            code::MISSING_INDEX | code::WRONG_INDEX | code::INVALID_INDEX => {
                (Warning, "reads that it serves look at every row")
            }
            code::MISSING_CHECK => (
                Warning,
                "a state that no program knows can get in and make its row unreadable",
            ),
            code::WRONG_CHECK => (
                Error,
                "it may refuse updates, or let in a state that no program knows",
            ),
            code::INVALID_CHECK => (Warning, "an old row may hold a state that no program knows"),
            code::WRONG_OPTION if self.found.is_none() => {
                (Warning, "updates of rows cost more than they should")
            }
            code::WRONG_OPTION => (Info, "somebody chose it; updates of rows may cost more"),
            code::EXTRA_COLUMN => {
                let column = Column::read(found);
                if column.not_null && column.filled.is_empty() {
                    (
                        Error,
                        "it has no default and refuses null: every new row is refused",
                    )
                } else {
                    (Info, "no statement of ours names it")
                }
            }
            code::EXTRA_INDEX if found.starts_with(UNIQUE) => {
                (Warning, "it is unique: updates may be refused for it")
            }
            code::EXTRA_INDEX if found.ends_with(INVALID) => {
                (Warning, "every write pays for it, and no read uses it")
            }
            code::EXTRA_INDEX => (Info, "every write pays for it"),
            code::EXTRA_CHECK if found.starts_with("FOREIGN KEY") => (
                Warning,
                "updates come in any order, a VM's also before its job's: it may refuse them",
            ),
            _ => (Info, "it may refuse updates"),
        }
    }
}

/// How the definition of an index ends that can't be used.
pub const INVALID: &str = " INVALID";
/// How the definition of a check ends that does not hold for old rows.
pub const NOT_VALID: &str = " NOT VALID";
/// How the definition of an index begins that refuses doubles.
pub const UNIQUE: &str = "UNIQUE ";

/// All differences, in the order in which they are to be mended. Tables of others are no difference.
pub fn compare(expected: &Shape, found: &Shape) -> Vec<Drift> {
    let mut drifts = Vec::new();
    for (place, definition) in &expected.0 {
        let is_there = found.has_table(&place.table);
        match (place.part, found.0.get(place).map(String::as_str)) {
            (Part::Table, None) => {
                drifts.push(Drift::new(code::MISSING_TABLE, place, Some(definition), None));
            }
            (Part::Table, Some(other)) if other != definition => {
                drifts.push(Drift::new(
                    code::WRONG_TABLE,
                    place,
                    Some(definition),
                    Some(other),
                ));
            }
            // What is missing with its table is told with it.
            (Part::Table, Some(_)) => {}
            _ if !is_there => {}
            (Part::Column, other) => drifts.extend(column(place, definition, other)),
            (part, other) => drifts.extend(
                sort(part, definition, other)
                    .filter(|_| !stands_elsewhere(place, definition, found))
                    .map(|code| Drift::new(code, place, Some(definition), other)),
            ),
        }
    }
    drifts.extend(extras(expected, found));
    drifts
}

fn column(place: &Place, expected: &str, found: Option<&str>) -> Vec<Drift> {
    let drift = |code| Drift::new(code, place, Some(expected), found);
    let Some(found) = found else {
        return vec![drift(code::MISSING_COLUMN)];
    };
    let (should, is) = (Column::read(expected), Column::read(found));
    let is_filled_wrong = if should.filled.is_empty() {
        is.filled.starts_with("GENERATED ALWAYS")
    } else {
        !is_same(should.filled, is.filled)
    };
    let sorts = [
        (!should.kind.eq_ignore_ascii_case(is.kind), code::WRONG_TYPE),
        (should.not_null != is.not_null, code::WRONG_NULLABILITY),
        (is_filled_wrong, code::WRONG_DEFAULT),
    ];
    let wrong = sorts.into_iter().filter(|(is_wrong, _)| *is_wrong);
    wrong.map(|(_, code)| drift(code)).collect()
}

/// What is wrong with what is found, if anything is.
fn sort(part: Part, expected: &str, found: Option<&str>) -> Option<&'static str> {
    let Some(found) = found else {
        return match part {
            Part::Key => Some(code::MISSING_KEY),
            Part::Check => Some(code::MISSING_CHECK),
            Part::Index => Some(code::MISSING_INDEX),
            Part::Option => Some(code::WRONG_OPTION),
            Part::Table | Part::Column => None,
        };
    };
    let is = |suffix: &str| {
        found
            .strip_suffix(suffix)
            .is_some_and(|found| is_same(expected, found))
    };
    match part {
        _ if is_same(expected, found) => None,
        Part::Index if is(INVALID) => Some(code::INVALID_INDEX),
        Part::Check if is(NOT_VALID) => Some(code::INVALID_CHECK),
        Part::Key => Some(code::WRONG_KEY),
        Part::Check => Some(code::WRONG_CHECK),
        Part::Index => Some(code::WRONG_INDEX),
        Part::Option => Some(code::WRONG_OPTION),
        Part::Table | Part::Column => None,
    }
}

/// Whether a check or an index of another name does the same.
fn stands_elsewhere(place: &Place, expected: &str, found: &Shape) -> bool {
    matches!(place.part, Part::Check | Part::Index)
        && found
            .of(place.part, &place.table)
            .any(|(_, definition)| is_same(expected, definition))
}

fn extras(expected: &Shape, found: &Shape) -> Vec<Drift> {
    let extra = |place: &Place| match place.part {
        Part::Column => Some(code::EXTRA_COLUMN),
        Part::Check => Some(code::EXTRA_CHECK),
        Part::Index => Some(code::EXTRA_INDEX),
        Part::Table | Part::Key | Part::Option => None,
    };
    let ours = |place: &Place, definition: &str| {
        expected.0.contains_key(place) || stands_elsewhere(place, definition, expected)
    };
    let strange = found
        .0
        .iter()
        .filter(|(place, definition)| expected.has_table(&place.table) && !ours(place, definition));
    strange
        .filter_map(|(place, definition)| Some(Drift::new(extra(place)?, place, None, Some(definition))))
        .collect()
}

#[cfg(test)]
mod tests;
