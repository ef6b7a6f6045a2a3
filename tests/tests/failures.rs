//! `FAILURES.md` lists every number of the table of failures, and every test that it cites exists.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// How many scenarios each letter has.
const NUMBERS: [(&str, u32); 9] = [
    ("C", 15),
    ("T", 9),
    ("M", 14),
    ("D", 12),
    ("K", 6),
    ("I", 10),
    ("X", 9),
    ("P", 6),
    ("R", 7),
];

/// A line of the table: number, scenario, tests, note.
fn rows(text: &str) -> Vec<[String; 4]> {
    let cells = |line: &str| -> Option<[String; 4]> {
        let cells: Vec<_> = line
            .strip_prefix("| ")?
            .strip_suffix(" |")?
            .split(" | ")
            .map(str::to_owned)
            .collect();
        cells.try_into().ok()
    };
    let is_number = |row: &[String; 4]| row[0].ends_with(|last: char| last.is_ascii_digit());
    text.lines().filter_map(cells).filter(is_number).collect()
}

/// The names in back quotes.
fn cited(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// All words of all Rust files below a folder, but for this one's and build output.
fn words(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            words(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "failures.rs" {
            let text = fs::read_to_string(&path).unwrap();
            let parts = text.split(|part: char| !(part.is_alphanumeric() || part == '_'));
            found.extend(parts.filter(|part| part.contains('_')).map(str::to_owned));
        }
    }
}

#[test]
fn every_number_is_listed_once_and_every_cited_test_exists() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rows = rows(&fs::read_to_string(package.join("FAILURES.md")).unwrap());
    let listed: Vec<_> = rows.iter().map(|row| row[0].clone()).collect();
    let all = NUMBERS
        .iter()
        .flat_map(|(letter, last)| (1..=*last).map(move |number| format!("{letter}{number}")));
    let all: Vec<_> = all.collect();
    assert_eq!(all.len(), 88);
    assert_eq!(listed, all, "all numbers, in order");
    let mut found = BTreeSet::new();
    words(package.parent().unwrap(), &mut found);
    for [number, _, tests, note] in &rows {
        let cited = cited(tests);
        assert!(cited.is_empty() == (tests == "open"), "{number}: tests, or open");
        assert!(
            tests != "open" || !note.is_empty(),
            "{number}: what is open says why"
        );
        for name in cited {
            assert!(found.contains(&name), "{number}: there is no test {name}");
            let own = format!("{}_", number.to_lowercase());
            assert!(
                name.starts_with(&own) || name.contains(&format!("_{own}")),
                "{number}: {name} has another number"
            );
        }
    }
}
