//! Both databases have the same tables, by their own description.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use persist_tests::place::{Database, Place};
use persist_tests::shape::{self, Shape};

/// What only one of them has, and why.
const DIFFERENCES: [(&str, &str); 2] = [
    ("events", "xid"),                 // only Postgres commits out of order
    ("persist_migrations", "adopted"), // only Postgres has databases of an earlier orchestrator
];

/// The spelling of a Postgres type on SQLite.
fn spelling(kind: &str) -> &'static str {
    match kind {
        "uuid" => "blob",
        "text" => "text",
        "timestamp with time zone" | "bigint" | "boolean" => "integer",
        other => panic!("{other} has no spelling on SQLite"),
    }
}

async fn shape_of(database: Database) -> Shape {
    let place = Place::empty(database);
    place.migrated().await.unwrap().close().await.unwrap();
    let mut shape = shape::of(&place).await;
    for (table, column) in DIFFERENCES {
        shape.get_mut(table).unwrap().columns.remove(column);
    }
    shape
}

#[tokio::test]
async fn both_databases_have_the_same_tables_columns_keys_and_indexes() {
    let mut postgres = shape_of(Database::Postgres).await;
    let sqlite = shape_of(Database::Sqlite).await;
    let names = |shape: &Shape| shape.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(&postgres),
        [
            "events",
            "jobs",
            "persist_meta",
            "persist_migrations",
            "persist_owners",
            "refusals",
            "vms"
        ]
    );
    assert_eq!(names(&postgres), names(&sqlite));
    // Only Postgres needs it to watch: its sequence numbers become visible out of order.
    let xid = postgres
        .get_mut("events")
        .and_then(|events| events.indexes.remove("events_xid"));
    assert_eq!(
        xid.map(|index| index.columns),
        Some(vec!["xid".to_owned(), "seq".to_owned()])
    );
    for (name, table) in &mut postgres {
        for column in table.columns.values_mut() {
            column.kind = spelling(&column.kind).to_owned();
        }
        assert_eq!(table.columns, sqlite[name].columns, "columns of {name}");
        assert_eq!(table.key, sqlite[name].key, "key of {name}");
        assert_eq!(table.indexes, sqlite[name].indexes, "indexes of {name}");
    }
    assert_eq!(postgres["events"].key, ["request_id", "domain_name", "rank"]);
    assert_eq!(postgres["vms"].key, ["request_id", "domain_name"]);
}

#[tokio::test]
async fn no_key_and_no_predicate_mentions_state() {
    for database in Database::BOTH {
        let place = Place::empty(database);
        place.migrated().await.unwrap().close().await.unwrap();
        for (name, table) in shape::of(&place).await {
            assert!(!table.key.contains(&"state".to_owned()), "{name}");
            for (name, index) in table.indexes {
                let mentions =
                    index.columns.contains(&"state".to_owned()) || index.predicate.contains("state");
                assert!(!mentions, "an update of {name} would not stay on its page");
            }
        }
    }
}
