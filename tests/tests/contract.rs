//! What the contract says of its own shape, read off its source.

mod corpus;

/// The trait `name`, from its first line to its last.
fn of_trait(name: &str) -> &'static str {
    let source = include_str!("../../persist-core/src/backend.rs");
    let begin = source
        .find(&format!("pub trait {name}"))
        .expect("the trait is there");
    let length = source[begin..].find("\n}").expect("the trait ends");
    &source[begin..begin + length]
}

#[test]
fn the_trait_has_at_most_ten_methods_and_no_default_body() {
    for (name, methods) in [("PersistBackend", 10), ("Capabilities", 6)] {
        let lines = of_trait(name).lines().map(str::trim);
        let declared: Vec<_> = lines
            .filter(|line| line.starts_with("fn ") || line.starts_with("async fn "))
            .collect();
        assert_eq!(declared.len(), methods, "{name}: {declared:?}");
        // A method with a body would open a brace instead.
        assert!(
            declared.iter().all(|line| line.ends_with(';')),
            "{name}: {declared:?}"
        );
    }
}
