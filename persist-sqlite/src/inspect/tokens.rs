//! What the text of a `CREATE TABLE` says that no pragma tells: checks, collations, what computes a column.

/// The words of a statement: keywords and names in lower case and without quotes, literals as they are, no comments.
pub(super) fn words(sql: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = sql.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '-' if rest.starts_with("--") => {
                rest = rest.split_once('\n').map_or("", |(_, rest)| rest).trim_start();
                continue;
            }
            '/' if rest.starts_with("/*") => {
                rest = rest.split_once("*/").map_or("", |(_, rest)| rest).trim_start();
                continue;
            }
            '\'' => quoted(rest, '\''),
            '"' | '`' => quoted(rest, first),
            '[' => rest.find(']').map_or(rest.len(), |end| end + 1),
            _ if is_of_word(first) => rest.find(|c| !is_of_word(c)).unwrap_or(rest.len()),
            _ if is_of_operator(first) => rest.find(|c| !is_of_operator(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (word, after) = rest.split_at(end);
        words.push(match first {
            '\'' => word.to_owned(),
            '"' | '`' | '[' => word[1..word.len().max(2) - 1].to_lowercase(),
            _ => word.to_lowercase(),
        });
        rest = after.trim_start();
    }
    words
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$' | '.')
}

/// Operators of two characters are one word.
fn is_of_operator(c: char) -> bool {
    matches!(c, '<' | '>' | '=' | '!' | '|')
}

/// Where a quoted text ends; a doubled quote is one of it.
fn quoted(text: &str, quote: char) -> usize {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        if c == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
            return at + 1;
        }
    }
    text.len()
}

/// A check, by its name or where it stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) name: Option<String>,
    pub(super) column: Option<String>,
    pub(super) demands: String,
}

/// What is said of a column beside its type.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) collation: Option<String>,
    /// `(…) virtual` or `(…) stored`.
    pub(super) computed: Option<String>,
}

/// The columns and checks of a `CREATE TABLE`.
pub(super) fn table(sql: &str) -> (Vec<Column>, Vec<Check>) {
    let words = words(sql);
    let begin = words.iter().position(|word| word == "(").unwrap_or(words.len());
    let (mut columns, mut checks) = (Vec::new(), Vec::new());
    for definition in parts(group(&words[begin..])) {
        let Some(first) = definition.first() else { continue };
        let is_constraint = matches!(
            first.as_str(),
            "constraint" | "check" | "primary" | "unique" | "foreign"
        );
        let column = (!is_constraint).then(|| first.clone());
        checks.extend(checks_in(definition, column.as_deref()));
        if let Some(name) = column {
            columns.push(column_of(name, definition));
        }
    }
    (columns, checks)
}

fn column_of(name: String, definition: &[String]) -> Column {
    let mut column = Column {
        name,
        ..Column::default()
    };
    for (at, word) in outside(definition) {
        let after = &definition[at + 1..];
        match word {
            "collate" => column.collation = after.first().cloned(),
            "as" => {
                let is_stored = outside(after).any(|(_, word)| word == "stored");
                let kept = if is_stored { "STORED" } else { "VIRTUAL" };
                column.computed = Some(format!("({}) {kept}", joined(group(after))));
            }
            _ => {}
        }
    }
    column
}

fn checks_in<'d>(definition: &'d [String], column: Option<&'d str>) -> impl Iterator<Item = Check> + 'd {
    let checks = outside(definition).filter(|(_, word)| *word == "check");
    checks.map(move |(at, _)| {
        let is_named = at >= 2 && definition[at - 2] == "constraint";
        Check {
            name: is_named.then(|| definition[at - 1].clone()),
            column: column.map(str::to_owned),
            demands: joined(group(&definition[at + 1..])),
        }
    })
}

/// The words that stand in no brackets, with their places.
fn outside(words: &[String]) -> impl Iterator<Item = (usize, &str)> {
    let mut depth = 0_usize;
    words.iter().enumerate().filter_map(move |(at, word)| {
        match word.as_str() {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            word if depth == 0 => return Some((at, word)),
            _ => {}
        }
        None
    })
}

/// What stands in the brackets with which this begins.
fn group(words: &[String]) -> &[String] {
    let mut depth = 0_usize;
    for (at, word) in words.iter().enumerate() {
        match word.as_str() {
            "(" => depth += 1,
            ")" if depth <= 1 => return words.get(1..at).unwrap_or_default(),
            ")" => depth -= 1,
            _ => {}
        }
    }
    words.get(1..).unwrap_or_default()
}

/// Split at the commas that stand in no brackets.
fn parts(words: &[String]) -> Vec<&[String]> {
    let commas = outside(words).filter(|(_, word)| *word == ",").map(|(at, _)| at);
    let mut begin = 0;
    let mut parts = Vec::new();
    for end in commas.chain([words.len()]) {
        parts.push(&words[begin..end]);
        begin = (end + 1).min(words.len());
    }
    parts
}

/// As a person writes them.
fn joined(words: &[String]) -> String {
    let mut text = String::new();
    for word in words {
        let is_close = matches!(word.as_str(), ")" | ",");
        if !text.is_empty() && !is_close && !text.ends_with('(') {
            text.push(' ');
        }
        text.push_str(word);
    }
    text
}

/// What an index is of: `[UNIQUE ](columns)[ where …]`.
pub(super) fn index(sql: &str) -> String {
    let words = words(sql);
    let unique = if words.get(1).is_some_and(|word| word == "unique") {
        "UNIQUE "
    } else {
        ""
    };
    let begin = words.iter().position(|word| word == "(").unwrap_or(words.len());
    format!("{unique}{}", joined(&words[begin..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_comments_and_case_make_no_difference_and_literals_do() {
        let plain = words("create table jobs (state text check (state = 'Q''x'))");
        let odd = "CREATE TABLE \"jobs\"(\n -- a, comment (\n [state] TEXT /* ( */ CHECK(`state`='Q''x'))";
        assert_eq!(words(odd), plain);
        assert!(plain.contains(&"'Q''x'".to_owned()));
        assert_eq!(
            words("'open"),
            ["'open"],
            "whatever a file holds, there is no panic"
        );
        assert_eq!(words("\""), [""]);
    }

    #[test]
    fn checks_and_columns_are_told_from_each_other() {
        let (columns, checks) = table(
            "CREATE TABLE t (id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16), \
             word TEXT COLLATE NOCASE DEFAULT (max(1, 2)), \
             made TEXT GENERATED ALWAYS AS (CASE WHEN (word = 'a') THEN word END) VIRTUAL, \
             PRIMARY KEY (id, word), CONSTRAINT known CHECK ((word = 'a' OR word = 'b')), CHECK (word <> ''))",
        );
        let names: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["id", "word", "made"]);
        assert_eq!(columns[1].collation.as_deref(), Some("nocase"));
        assert_eq!(
            columns[2].computed.as_deref(),
            Some("(case when (word = 'a') then word end) VIRTUAL")
        );
        let told: Vec<_> = checks
            .iter()
            .map(|check| {
                (
                    check.name.as_deref(),
                    check.column.as_deref(),
                    check.demands.as_str(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                (None, Some("id"), "length (id) = 16"),
                (Some("known"), None, "(word = 'a' or word = 'b')"),
                (None, None, "word <> ''"),
            ]
        );
    }

    #[test]
    fn an_index_is_its_columns_and_rows() {
        let sql = "CREATE UNIQUE INDEX \"a(b\" ON t (x, y DESC) WHERE z IS NULL";
        assert_eq!(index(sql), "UNIQUE (x, y desc) where z is null");
    }
}
