//! The shape of a store's tables, as far as statements rely on it: what a database says of itself, and what it should say.

use std::collections::BTreeMap;
use std::fmt;

/// What something in a table is. In the order in which it is mended: no index without its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The table itself.
    Table,
    /// A column.
    Column,
    /// The primary key.
    Key,
    /// A check.
    Check,
    /// An index, but for that of the primary key.
    Index,
    /// A storage option.
    Option,
}

impl Part {
    const ALL: [Self; 6] = [
        Self::Table,
        Self::Column,
        Self::Key,
        Self::Check,
        Self::Index,
        Self::Option,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Column => "column",
            Self::Key => "key",
            Self::Check => "check",
            Self::Index => "index",
            Self::Option => "option",
        }
    }
}

/// Where something is in a shape.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// What it is.
    pub part: Part,
    /// Its table.
    pub table: String,
    /// Its own name; `-` for a table and its key.
    pub name: String,
}

impl Place {
    /// Of a part of a table.
    pub fn new(part: Part, table: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            part,
            table: table.into(),
            name: name.into(),
        }
    }
}

/// As a finding names it: `jobs`, `jobs.state`, `jobs_live`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Part::Table | Part::Key => f.write_str(&self.table),
            Part::Column | Part::Option => write!(f, "{}.{}", self.table, self.name),
            Part::Check | Part::Index => f.write_str(&self.name),
        }
    }
}

/// Definitions by their places. Those of columns are SQL: see [`Column`]. An index ends in ` INVALID` and a check in
/// ` NOT VALID` where it is there and can't be relied on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape(pub BTreeMap<Place, String>);

impl Shape {
    /// Notes a definition.
    pub fn insert(&mut self, part: Part, table: &str, name: &str, definition: impl Into<String>) {
        self.0.insert(Place::new(part, table, name), definition.into());
    }

    /// The definition at a place.
    pub fn get(&self, part: Part, table: &str, name: &str) -> Option<&str> {
        self.0.get(&Place::new(part, table, name)).map(String::as_str)
    }

    /// The names of a part of a table with their definitions, by name.
    pub fn of<'s>(&'s self, part: Part, table: &'s str) -> impl Iterator<Item = (&'s str, &'s str)> + 's {
        let is_it = move |place: &&Place| place.part == part && place.table == table;
        let all = self.0.iter().filter(move |(place, _)| is_it(place));
        all.map(|(place, definition)| (place.name.as_str(), definition.as_str()))
    }

    /// The names of the tables.
    pub fn tables(&self) -> impl Iterator<Item = &str> {
        let tables = self.0.keys().filter(|place| place.part == Part::Table);
        tables.map(|place| place.table.as_str())
    }

    /// Whether there is a table of this name.
    pub fn has_table(&self, table: &str) -> bool {
        self.get(Part::Table, table, "-").is_some()
    }

    /// All of it as lines: table, part, name, definition.
    pub fn lines(&self) -> Vec<String> {
        let line = |(place, definition): (&Place, &String)| {
            format!(
                "{} {} {} {definition}",
                place.table,
                place.part.name(),
                place.name
            )
        };
        self.0.iter().map(line).collect()
    }

    /// Takes a line over; one that begins with `- ` takes away what an earlier one has brought. Says whether it is one.
    pub fn take_line(&mut self, line: &str) -> bool {
        let (is_gone, line) = line.strip_prefix("- ").map_or((false, line), |line| (true, line));
        let mut words = line.splitn(4, ' ');
        let (Some(table), Some(part), Some(name)) = (words.next(), words.next(), words.next()) else {
            return false;
        };
        let Some(part) = Part::ALL.into_iter().find(|known| known.name() == part) else {
            return false;
        };
        let place = Place::new(part, table, name);
        match words.next() {
            _ if is_gone => self.0.remove(&place).is_some(),
            Some(definition) => {
                self.0.insert(place, definition.to_owned());
                true
            }
            None => false,
        }
    }
}

/// What a column's definition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column<'d> {
    /// Its type, and its collation where that is not the usual one.
    pub kind: &'d str,
    /// Whether it refuses null.
    pub not_null: bool,
    /// What fills it where a statement does not: `DEFAULT …` or `GENERATED …`; empty for nothing.
    pub filled: &'d str,
}

impl<'d> Column<'d> {
    /// Reads `type [NOT NULL] [DEFAULT … | GENERATED …]`.
    pub fn read(definition: &'d str) -> Self {
        let begins = [" DEFAULT ", " GENERATED "]
            .into_iter()
            .filter_map(|word| definition.find(word))
            .min();
        let (head, filled) = definition.split_at(begins.unwrap_or(definition.len()));
        let kind = head.strip_suffix(" NOT NULL");
        Self {
            kind: kind.unwrap_or(head),
            not_null: kind.is_some(),
            filled: filled.trim_start(),
        }
    }
}

/// Whether two definitions say the same: versions of a server write blanks, and brackets around the whole or around brackets,
/// in their own ways. All other brackets say what belongs together.
pub fn is_same(one: &str, other: &str) -> bool {
    one == other || bare(&words(one)) == bare(&words(other))
}

/// Names, texts in quotes, and all other characters but blanks.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_of_name = |c: char| c.is_alphanumeric() || c == '_';
        let end = match first {
            // A doubled quote within makes two texts of one, in both definitions alike.
            '\'' | '"' => rest[1..].find(first).map_or(rest.len(), |end| end + 2),
            _ if is_of_name(first) => rest.find(|c| !is_of_name(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        words.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    words
}

/// Without doubled brackets, and those around the whole or a whole condition at its end.
fn bare<'t>(words: &[&'t str]) -> Vec<&'t str> {
    let pairs = pairs(words);
    let is_doubled = |&(open, close): &(usize, usize)| close > 0 && pairs.contains(&(open + 1, close - 1));
    let doubled: Vec<_> = pairs.iter().filter(|pair| is_doubled(pair)).collect();
    let is_dropped = |at: usize| doubled.iter().any(|(open, close)| at == *open || at == *close);
    let mut bare: Vec<_> = words
        .iter()
        .enumerate()
        .filter(|(at, _)| !is_dropped(*at))
        .map(|(_, word)| *word)
        .collect();
    let last = bare.len().wrapping_sub(1);
    let outer = self::pairs(&bare)
        .into_iter()
        .find(|(open, close)| *close == last && (*open == 0 || bare[open - 1].eq_ignore_ascii_case("where")));
    if let Some((open, close)) = outer {
        bare.remove(close);
        bare.remove(open);
    }
    bare
}

/// Where brackets open and close.
fn pairs(words: &[&str]) -> Vec<(usize, usize)> {
    let (mut open, mut pairs) = (Vec::new(), Vec::new());
    for (at, word) in words.iter().enumerate() {
        match *word {
            "(" => open.push(at),
            ")" => pairs.extend(open.pop().map(|begin| (begin, at))),
            _ => {}
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_its_lines() {
        let lines = [
            "jobs table - plain",
            "jobs column ending text COLLATE \"C\" GENERATED ALWAYS AS (x) STORED",
            "jobs index jobs_live btree (a, b) WHERE (ending IS NULL)",
        ];
        let mut shape = Shape::default();
        assert!(lines.iter().all(|line| shape.take_line(line)));
        assert_eq!(shape.lines(), lines);
        assert!(shape.take_line("- jobs column ending") && !shape.take_line("- jobs column ending"));
        assert_eq!(shape.0.len(), 2);
        for wrong in ["", "jobs", "jobs colum x y", "jobs column x"] {
            assert!(!shape.take_line(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_column_is_read_whole() {
        let read = |text| {
            let column = Column::read(text);
            (column.kind, column.not_null, column.filled)
        };
        assert_eq!(read("bigint"), ("bigint", false, ""));
        assert_eq!(read("uuid NOT NULL"), ("uuid", true, ""));
        assert_eq!(
            read("timestamp with time zone NOT NULL DEFAULT now()"),
            ("timestamp with time zone", true, "DEFAULT now()")
        );
        let ending = "text COLLATE \"C\" GENERATED ALWAYS AS (CASE WHEN a DEFAULT b) STORED";
        assert_eq!(
            read(ending),
            (
                "text COLLATE \"C\"",
                false,
                "GENERATED ALWAYS AS (CASE WHEN a DEFAULT b) STORED"
            )
        );
    }

    #[test]
    fn brackets_and_blanks_make_no_difference_and_words_do() {
        assert!(is_same("CHECK ((a = 'x'))", "CHECK (a='x')"));
        assert!(is_same("(a = 'x' or b)", "a = 'x'  or b"));
        assert!(is_same(
            "btree (a, b) WHERE ((c IS NULL))",
            "btree (a,b) WHERE c IS NULL"
        ));
        assert!(!is_same("CHECK (a = 'x')", "CHECK (a = 'X')"));
        assert!(!is_same("CHECK (a = 'x y')", "CHECK (a = 'xy')"));
        assert!(!is_same("a NOT NULL", "a NOTNULL"));
    }

    #[test]
    fn brackets_that_say_what_belongs_together_make_a_difference() {
        for (one, other) in [
            ("a AND (b OR c)", "(a AND b) OR c"),
            ("a AND (b OR c)", "a AND b OR c"),
            ("CHECK ((a AND (b OR c)))", "CHECK (((a AND b) OR c))"),
            ("(a) OR (b)", "a) OR (b"),
            ("x WHERE (a OR b) AND c", "x WHERE a OR b AND c"),
        ] {
            assert!(!is_same(one, other), "{one} is not {other}");
        }
        // A bracket in a text is none.
        assert!(!is_same("a = '('", "a = ''") && is_same("(a = '(')", "a = '('"));
    }
}
