//! `FAILURES.md` lists every number of the table of failures and cites exactly the tests that carry them.

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

/// The numbers that the name of a test begins with: C8 and C9 for `c8_c9_a_cut`.
fn numbers(name: &str) -> Vec<String> {
    let number = |part: &str| {
        let part = part.to_uppercase();
        let digits = part.strip_prefix(|first: char| first.is_ascii_uppercase())?;
        let is_decimal = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        let number: u32 = is_decimal.then(|| digits.parse().ok())??;
        let listed = |(letter, last): &(&str, u32)| part.starts_with(letter) && (1..=*last).contains(&number);
        NUMBERS.iter().any(listed).then_some(part)
    };
    name.split('_').map_while(number).collect()
}

/// The names of all functions, and of what a text begins with (trials are named so), in all Rust files below
/// a folder, but for this one and build output.
fn names(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            names(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "failures.rs" {
            let text = fs::read_to_string(&path).unwrap();
            let begun = ["fn ", "\""]
                .into_iter()
                .flat_map(|before| text.split(before).skip(1));
            let named = begun.map(|rest| {
                let end = rest.find(|part: char| !(part.is_alphanumeric() || part == '_'));
                &rest[..end.unwrap_or(rest.len())]
            });
            found.extend(named.filter(|name| name.contains('_')).map(str::to_owned));
        }
    }
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn table() -> Vec<[String; 4]> {
    rows(&fs::read_to_string(package().join("FAILURES.md")).unwrap())
}

/// The names of all tests and of all cases of the suite, among others.
fn found() -> BTreeSet<String> {
    let mut found = persist_tests::cases().map(|case| case.name.to_owned()).collect();
    names(package().parent().unwrap(), &mut found);
    found
}

#[test]
fn every_number_is_listed_once_and_every_cited_test_exists() {
    let rows = table();
    let listed: Vec<_> = rows.iter().map(|row| row[0].clone()).collect();
    let all = NUMBERS
        .iter()
        .flat_map(|(letter, last)| (1..=*last).map(move |number| format!("{letter}{number}")));
    let all: Vec<_> = all.collect();
    assert_eq!(all.len(), 88);
    assert_eq!(listed, all, "all numbers, in order");
    let found = found();
    for [number, _, tests, note] in &rows {
        let cited = cited(tests);
        assert!(cited.is_empty() == (tests == "open"), "{number}: tests, or open");
        assert!(
            tests != "open" || !note.is_empty(),
            "{number}: what is open says why"
        );
        for name in cited {
            assert!(found.contains(&name), "{number}: there is no test {name}");
            assert!(
                numbers(&name).contains(number),
                "{number}: {name} has another number"
            );
        }
    }
}

#[test]
fn every_test_with_a_number_is_cited_in_its_row() {
    let cited: BTreeSet<_> = table()
        .into_iter()
        .flat_map(|[number, _, tests, _]| cited(&tests).into_iter().map(move |name| (number.clone(), name)))
        .collect();
    let carried = found().into_iter().flat_map(|name| {
        numbers(&name)
            .into_iter()
            .map(move |number| (number, name.clone()))
    });
    let missing: Vec<_> = carried.filter(|carried| !cited.contains(carried)).collect();
    assert_eq!(missing, [], "cited nowhere, or not in the row of each number");
}
