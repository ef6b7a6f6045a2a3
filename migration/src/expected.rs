//! What a Postgres database says of a store that is as its migrations made it.
//!
//! SQLite needs no such list: there the migrations are run in memory and looked at. In a user's Postgres database nothing is
//! made for a look, so that what it would be is written down, in `expected/postgres.txt`: below the name of each migration
//! what is so from then on. **Whoever adds a migration adds what it changes below its name**; the test
//! `the_catalogue_is_what_the_migrations_make` says which lines.

use crate::shape::Shape;

const POSTGRES: &str = include_str!("expected/postgres.txt");

/// The shape that these migrations make.
///
/// ```
/// use persist_migration::{expected, shape::Part};
/// let all = expected::postgres(|_| true);
/// assert_eq!(all.get(Part::Key, "jobs", "-"), Some("request_id"));
/// let before = expected::postgres(|name| name < "m20261127_000007_owners");
/// assert!(all.has_table("persist_owners") && !before.has_table("persist_owners"));
/// ```
pub fn postgres(has: impl Fn(&str) -> bool) -> Shape {
    let mut shape = Shape::default();
    let mut is_applied = false;
    for line in POSTGRES.lines() {
        match line.strip_prefix("# ") {
            Some(name) => is_applied = has(name),
            None if is_applied => {
                shape.take_line(line);
            }
            None => {}
        }
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list;
    use persist_core::sql::Dialect;

    #[test]
    fn every_line_is_one_and_every_name_is_a_migrations() {
        let known: Vec<_> = list(Dialect::Postgres)
            .iter()
            .map(|migration| migration.name)
            .collect();
        let mut shape = Shape::default();
        let mut names = Vec::new();
        for line in POSTGRES.lines() {
            match line.strip_prefix("# ") {
                Some(name) => names.push(name),
                None => assert!(shape.take_line(line), "{line}"),
            }
        }
        assert!(
            names.is_sorted() && names.iter().all(|name| known.contains(name)),
            "{names:?}"
        );
    }
}
