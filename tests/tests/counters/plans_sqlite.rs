//! How SQLite reads pages.

use persist_core::sql::{Dialect, Statement};
use persist_tests::place::{Database, Place};
use rusqlite::types::Value as Bound;
use rusqlite::{Connection, StatementStatus, params_from_iter};
use sea_query::{SqliteQueryBuilder, Value};

use crate::listings::{self, Listing, Rows};

const ROWS: Rows = Rows {
    jobs: 10_000,
    vms: 10_000,
    events: 10_000,
};

/// Most steps of a first page of 50, twice what was seen: 620 to 2,030 (SQLite 3.51, 2026-11-26).
const MOST_STEPS: i32 = 4_000;

/// One row a second, of every state, an eleventh of them of one repository; ids are random.
const FILL: &str = "
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 10000)
INSERT INTO jobs (request_id, repo_url, commit_sha, runs_on, state, created_at, updated_at, rank)
SELECT randomblob(16), 'https://example.org/acme/' || CASE WHEN n % 11 = 0 THEN 'large' ELSE n % 97 END || '.git',
 lower(hex(randomblob(20))), 'runner-' || (n % 7), CASE WHEN n % 100 = 0 THEN 'queued' WHEN n % 100 = 1 THEN 'running'
 WHEN n % 100 < 4 THEN 'timed_out' WHEN n % 100 < 8 THEN 'cancelled' WHEN n % 100 < 20 THEN 'failed' ELSE 'succeeded' END,
 1793520000000000 + n * 1000000, 1793520000000000 + n * 1000000, 7 FROM c;
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 10000)
INSERT INTO vms (request_id, domain_name, backend, state, created_at, updated_at, rank)
SELECT randomblob(16), 'vm-' || n, 'backend-' || (n % 11), CASE WHEN n % 100 = 0 THEN 'prepared'
 WHEN n % 100 = 1 THEN 'running' WHEN n % 100 < 20 THEN 'failed' WHEN n % 100 < 30 THEN 'stopped' ELSE 'destroyed' END,
 1793520000000000 + n * 1000000, 1793520000000000 + n * 1000000, 7 FROM c;
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 10000)
INSERT INTO events (seq, request_id, domain_name, rank, state, at, recorded_at)
SELECT n, randomblob(16), '', 4, 'queued', 1793520000000000 + n * 1000000, 0 FROM c;";

fn bound(statement: &Statement) -> (String, Vec<Bound>) {
    let (sql, values) = statement.build(SqliteQueryBuilder);
    let values = values.0.into_iter().map(|value| match value {
        Value::Bytes(Some(value)) => Bound::Blob(value),
        Value::String(Some(value)) => Bound::Text(value),
        Value::BigInt(Some(value)) => Bound::Integer(value),
        Value::BigUnsigned(Some(value)) => Bound::Integer(value.cast_signed()),
        other => panic!("{other:?}"),
    });
    (sql, values.collect())
}

fn plan(file: &Connection, statement: &Statement) -> Vec<String> {
    let (sql, values) = bound(statement);
    let mut explain = file.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let lines = explain
        .query_map(params_from_iter(values), |row| row.get(3))
        .unwrap();
    lines.collect::<rusqlite::Result<_>>().unwrap()
}

/// Steps of SQLite's machine that a page takes.
fn steps(file: &Connection, statement: &Statement) -> i32 {
    let (sql, values) = bound(statement);
    let mut select = file.prepare(&sql).unwrap();
    let mut rows = select.query(params_from_iter(values)).unwrap();
    while rows.next().unwrap().is_some() {}
    drop(rows);
    select.get_status(StatementStatus::VmStep)
}

/// The index that SQLite is to walk. Without statistics it takes a range of ids to be narrow, as the beginning of an id
/// is, and sorts what is in it.
fn straight(listing: &Listing) -> Option<&'static str> {
    let by_ids_alone = listing.has(&["ids"]) && !listing.has(&["created"]) && !listing.is_by("id");
    let index = listing.index()?;
    (!by_ids_alone || !index.ends_with("_created") && !index.ends_with("_live")).then_some(index)
}

/// Several endings in the order of time: each is a part of the index by itself, which SQLite leaves where it has gone
/// past what fits the page.
fn merges(listing: &Listing) -> bool {
    let several = ["failed or cancelled", "failed or stopped"];
    let only = [&several[..], &["created"]].concat();
    listing.has(&several) && listing.has_only(&only) && !listing.is_by("id")
}

/// Whether no index has the order of what the filters leave, so that SQLite may read all of that, by an index, and sort
/// it for each page: rows of one job or of one name; of a range of ids by time; and of a repository, a back end, an ending
/// or a range of times by id. So it does with several endings.
fn may_sort(listing: &Listing) -> bool {
    let by_id = listing.is_by("id");
    listing.has(&["request", "name", "failed or cancelled", "failed or stopped"])
        || !by_id && listing.has(&["ids"])
        || by_id && listing.has(&["repo", "backend", "failed", "timed_out", "created"])
}

/// Filters that an index has no place for are held against each row of the walk: `commit`, `runs_on`, `name`, some live
/// states, and live and ended ones together.
#[tokio::test(flavor = "multi_thread")]
async fn sqlite_reads_every_page_by_an_index_and_deep_ones_as_fast_as_the_first() {
    let place = Place::empty(Database::Sqlite);
    place.migrated().await.unwrap().close().await.unwrap();
    let file = place.file();
    file.execute_batch(FILL).unwrap();
    let (mut all, mut walks, mut merged) = (0, 0, 0);
    for listing in listings::all(Dialect::Sqlite, ROWS) {
        all += 1;
        let plans = listing.pages.each_ref().map(|page| plan(&file, page));
        for line in plans.iter().flatten() {
            let is_by_index = line.contains(" USING INDEX ");
            let is_sort = line.starts_with("USE TEMP B-TREE") && may_sort(&listing);
            let is_heading = line == "MULTI-INDEX OR" || line.starts_with("INDEX ");
            assert!(is_by_index || is_sort || is_heading, "{listing}: {plans:?}");
        }
        if let Some(index) = straight(&listing) {
            let index = if index == "key" {
                "sqlite_autoindex_"
            } else {
                index
            };
            for plan in &plans {
                let is_walk = plan.len() == 1 && plan[0].contains(&format!(" USING INDEX {index}"));
                assert!(is_walk, "{listing}: {plan:?}");
            }
            walks += 1;
        } else if merges(&listing) {
            merged += 1;
        } else {
            continue;
        }
        let [first, deep] = listing.pages.each_ref().map(|page| steps(&file, page));
        assert!(
            first < MOST_STEPS && deep <= first * 2 + 100,
            "{listing}: {first} steps, {deep} of the deep page: {plans:?}"
        );
    }
    assert_eq!((all, walks, merged), (1_252, 70, 8));
}
