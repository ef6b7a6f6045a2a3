//! What must hold for any bytes at all: one function a target, which panics where it does not.
//!
//! The programs of `fuzz/` look for bytes that break one; `tests/corpus/` has bytes of every kind that is known, and
//! those that broke one once. A plain test runs all of them, and small changes of them.

pub mod cursor;
pub mod jsonl;
pub mod mutate;
pub mod repo_url;
pub mod row;
pub mod url;

use std::path::Path;

use persist_core::Error;

/// A target's name, which its folder in `tests/corpus/` has too, and a new function that takes its bytes.
pub type Target = (&'static str, fn() -> Box<dyn FnMut(&[u8])>);

/// All of them.
pub const TARGETS: [Target; 5] = [
    ("cursor", || Box::new(cursor::check)),
    ("jsonl", || Box::new(jsonl::check)),
    ("repo_url", || Box::new(repo_url::check)),
    ("row", || {
        let mut rows = row::Rows::new();
        Box::new(move |bytes| rows.check(bytes))
    }),
    ("url", || Box::new(url::check)),
];

/// The seeds of a target, by name: the files of its folder in `tests/corpus/`.
///
/// # Panics
/// If they can't be read.
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut seeds: Vec<_> = files
        .map(|file| {
            let file = file.expect("the folder can be read");
            let name = file.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(file.path()).expect("a seed can be read"))
        })
        .collect();
    seeds.sort();
    seeds
}

/// All that an error tells: both forms, and those of its causes.
fn told(error: &Error) -> String {
    let mut told = format!("{error} {error:?}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        told.push_str(&format!(" {error} {error:?}"));
        cause = error.source();
    }
    told
}

/// The pieces of a text, between these marks, that nothing could hold by accident: long, and with a digit.
fn words<'t>(text: &'t str, marks: &'static str) -> impl Iterator<Item = &'t str> {
    text.split(move |c: char| marks.contains(c) || c.is_whitespace())
        .filter(|word| word.len() >= 7 && word.bytes().any(|b| b.is_ascii_digit()))
}
