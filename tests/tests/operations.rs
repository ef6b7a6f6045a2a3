//! What `docs/OPERATIONS.md` quotes is what the program says.

use std::fs;
use std::path::Path;

const OPERATIONS: &str = include_str!("../../docs/OPERATIONS.md");

/// The sources of every crate, a line that is continued as one.
fn sources() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders: Vec<_> = [
        "src",
        "persist-core",
        "persist-sqlite",
        "persist-postgres",
        "persist-cli",
        "migration",
    ]
    .map(|name| root.join(name))
    .into();
    let mut all = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("is a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                for line in fs::read_to_string(&path).expect("is a text").lines() {
                    match line.trim_start().strip_suffix('\\') {
                        Some(continued) => all.push_str(continued),
                        None => all.push_str(&format!("{}\n", line.trim_start())),
                    }
                }
            }
        }
    }
    all
}

#[test]
fn every_text_in_the_table_of_errors_is_one_that_the_program_says() {
    let (_, table) = OPERATIONS.split_once("| text | do |").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let sources = sources();
    let texts = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut quoted = 0;
    for text in texts {
        let (text, _) = text.split_once('`').unwrap();
        quoted += 1;
        assert!(sources.contains(text), "nobody says: {text}");
    }
    assert!(quoted > 30, "{quoted}");
}

#[test]
fn every_metric_is_in_the_table_of_metrics() {
    for metric in persist::metrics::ALL {
        assert!(
            OPERATIONS.contains(&format!("`{}`", metric.name)),
            "{} is not explained",
            metric.name
        );
    }
}
