use super::*;

const EXPECTED: [&str; 7] = [
    "t table - plain",
    "t column id uuid NOT NULL",
    "t column word text",
    "t column made bigint NOT NULL DEFAULT now()",
    "t key - id",
    "t index t_word btree (word)",
    "t check t_word_known CHECK ((word = 'a'))",
];

fn shape(lines: &[&str]) -> Shape {
    let mut shape = Shape::default();
    assert!(lines.iter().all(|line| shape.take_line(line)), "{lines:?}");
    shape
}

/// Code and place of every difference of the expected shape with these lines instead of those of the same place.
fn drifts(instead: &[&str]) -> Vec<(&'static str, String)> {
    let expected = shape(&EXPECTED);
    let mut found = expected.clone();
    assert!(instead.iter().all(|line| found.take_line(line)), "{instead:?}");
    let told = |drift: Drift| (drift.code, drift.place.to_string());
    compare(&expected, &found).into_iter().map(told).collect()
}

#[test]
fn m9_every_sort_of_difference_has_its_word() {
    assert_eq!(drifts(&[]), []);
    for (line, code, place) in [
        ("- t column word", code::MISSING_COLUMN, "t.word"),
        ("t column more text", code::EXTRA_COLUMN, "t.more"),
        ("t column word bigint", code::WRONG_TYPE, "t.word"),
        ("t column word text COLLATE \"C\"", code::WRONG_TYPE, "t.word"),
        ("t column word text NOT NULL", code::WRONG_NULLABILITY, "t.word"),
        ("t column id uuid", code::WRONG_NULLABILITY, "t.id"),
        ("t column made bigint NOT NULL", code::WRONG_DEFAULT, "t.made"),
        (
            "t column word text GENERATED ALWAYS AS (id) STORED",
            code::WRONG_DEFAULT,
            "t.word",
        ),
        ("- t key -", code::MISSING_KEY, "t"),
        ("t key - id, word", code::WRONG_KEY, "t"),
        ("- t index t_word", code::MISSING_INDEX, "t_word"),
        ("t index t_word btree (id)", code::WRONG_INDEX, "t_word"),
        (
            "t index t_word btree (word) INVALID",
            code::INVALID_INDEX,
            "t_word",
        ),
        ("t index other btree (id)", code::EXTRA_INDEX, "other"),
        ("- t check t_word_known", code::MISSING_CHECK, "t_word_known"),
        (
            "t check t_word_known CHECK ((word = 'b'))",
            code::WRONG_CHECK,
            "t_word_known",
        ),
        (
            "t check t_word_known CHECK ((word = 'a')) NOT VALID",
            code::INVALID_CHECK,
            "t_word_known",
        ),
        ("t check other CHECK ((id > 1))", code::EXTRA_CHECK, "other"),
        ("t table - a view", code::WRONG_TABLE, "t"),
    ] {
        assert_eq!(drifts(&[line]), [(code, place.to_owned())], "{line}");
    }
}

#[test]
fn m9_a_missing_table_is_told_once() {
    let found = shape(&["other table - plain", "other column x text"]);
    let told = compare(&shape(&EXPECTED), &found);
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].code, told[0].finding().severity),
        (code::MISSING_TABLE, Severity::Error)
    );
}

#[test]
fn another_name_and_a_default_of_somebodys_own_are_no_difference() {
    assert_eq!(drifts(&["- t index t_word", "t index renamed btree (word)"]), []);
    assert_eq!(
        drifts(&["- t check t_word_known", "t check renamed CHECK (word='a')"]),
        []
    );
    assert_eq!(drifts(&["t column word text DEFAULT 'x'"]), []);
}

#[test]
fn what_can_refuse_updates_is_worse_than_what_costs() {
    let severity = |line: &str| {
        let expected = shape(&EXPECTED);
        let mut found = expected.clone();
        assert!(found.take_line(line));
        compare(&expected, &found)[0].finding().severity
    };
    use Severity::{Error, Info, Warning};
    assert_eq!(severity("t column more text NOT NULL"), Error);
    assert_eq!(severity("t column more text NOT NULL DEFAULT 'x'"), Info);
    assert_eq!(severity("t column word text NOT NULL"), Error);
    assert_eq!(severity("t column id uuid"), Warning);
    assert_eq!(severity("t index other UNIQUE btree (word)"), Warning);
    assert_eq!(
        severity("t check other FOREIGN KEY (id) REFERENCES x(id)"),
        Warning
    );
}

/// Whoever writes a default or a check may write a password into it.
#[test]
fn the_text_of_what_others_made_is_not_told() {
    let expected = shape(&EXPECTED);
    let mut found = expected.clone();
    for line in [
        "t column made bigint NOT NULL DEFAULT hunter2",
        "t column more text DEFAULT 'hunter2'",
        "t check t_word_known CHECK ((word = 'hunter2'))",
        "t check other CHECK ((word = 'hunter2'))",
        "t index other btree (word) WHERE (word = 'hunter2')",
        "t index t_word btree (word) WHERE (word = 'hunter2')",
    ] {
        assert!(found.take_line(line));
    }
    let told = compare(&expected, &found);
    assert_eq!(told.len(), 6);
    for drift in told {
        let finding = format!("{:?}", drift.finding());
        assert!(!finding.contains("hunter2"), "{finding}");
    }
}
