//! The catalogue that the doctor holds a Postgres database against is what the migrations make.

use std::collections::BTreeSet;

use persist::{DbUrl, Down, PersistBackend as _};
use persist_core::Capabilities as _;
use persist_core::sql::Dialect;
use persist_migration::shape::Shape;
use persist_migration::{expected, list};
use persist_postgres::{PostgresBackend, PostgresConfig};
use persist_tests::place::{Database, Place};

/// The lines of tables that the catalogue knows: others may be in the schema.
fn lines(shape: &Shape, known: &Shape) -> BTreeSet<String> {
    let is_known = |line: &String| line.split(' ').next().is_some_and(|table| known.has_table(table));
    shape.lines().into_iter().filter(is_known).collect()
}

/// Whoever adds a migration, or makes one optional, finds here what is to be written below its name.
#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_is_what_the_migrations_make() {
    let place = Place::empty(Database::Postgres);
    let DbUrl::Postgres(url) = place.url().parse().unwrap() else {
        panic!("a place on Postgres")
    };
    let backend = PostgresBackend::connect(PostgresConfig::new(*url)).await.unwrap();
    let schema = backend.schema().unwrap();
    schema.up().await.unwrap();
    let migrations = list(Dialect::Postgres);
    let is_needed = |migration: &&_| !persist_migration::Migration::clone(migration).optional;
    let needed = migrations
        .iter()
        .rposition(|migration| is_needed(&migration))
        .unwrap();
    let everything = expected::postgres(|_| true);
    // From the newest back to the last that no program does without: so far a store may lag behind.
    for newest in (needed..migrations.len()).rev() {
        let name = migrations[newest].name;
        let catalogue = expected::postgres(|applied| applied <= name);
        let found = lines(&backend.shape().await.unwrap(), &everything);
        let catalogue: BTreeSet<_> = catalogue.lines().into_iter().collect();
        let missing: Vec<_> = found.difference(&catalogue).collect();
        let wrong: Vec<_> = catalogue.difference(&found).collect();
        assert!(
            missing.is_empty() && wrong.is_empty(),
            "migration/src/expected/postgres.txt, with all up to {name} applied:\nto be added: {missing:#?}\nnot so: \
             {wrong:#?}"
        );
        if newest > needed {
            let down = schema.down(Down::steps(1).confirmed(true)).await.unwrap();
            assert_eq!(down, [name]);
        }
    }
    backend.close().await.unwrap();
}
