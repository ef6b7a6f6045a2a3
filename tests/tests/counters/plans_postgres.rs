//! How Postgres reads pages, among a million jobs.

use persist_core::sql::{Dialect, Statement};
use persist_tests::cluster::{self, Cluster, Options};
use persist_tests::place::Place;
use sea_query::{PostgresQueryBuilder, Value};
use serde_json::Value as Json;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Arguments as _, AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use uuid::Uuid;

use crate::listings::{self, Listing, Rows};

const ROWS: Rows = Rows {
    jobs: 1_000_000,
    vms: 200_000,
    events: 300_000,
};

/// Most blocks of a first page of 50, twice what was seen: 4 to 56, the latter where each row has a block of its own
/// (PostgreSQL 15, 2026-11-26).
const MOST_BLOCKS: u64 = 112;

/// One row a second, of every state, a hundredth of them of one repository; ids are random. Indexes are built
/// afterwards, as they were defined, and the tables are emptied in the transaction that fills them, so that nothing is
/// logged: a third of the time.
const FILL: &str = "
TRUNCATE jobs, vms, events;
CREATE TEMP TABLE keys AS SELECT conrelid::regclass::text AS of, conname, pg_get_constraintdef(oid) AS definition
 FROM pg_constraint WHERE contype = 'p' AND conrelid IN ('jobs'::regclass, 'vms'::regclass, 'events'::regclass);
CREATE TEMP TABLE indexes AS SELECT indexname, indexdef FROM pg_indexes
 WHERE tablename IN ('jobs', 'vms', 'events') AND indexname NOT IN (SELECT conname FROM keys);
DO $$ DECLARE d record; BEGIN
 FOR d IN SELECT * FROM indexes LOOP EXECUTE 'DROP INDEX ' || d.indexname; END LOOP;
 FOR d IN SELECT * FROM keys LOOP EXECUTE 'ALTER TABLE ' || d.of || ' DROP CONSTRAINT ' || d.conname; END LOOP; END $$;
INSERT INTO jobs (request_id, repo_url, commit_sha, runs_on, state, created_at, updated_at, rank)
SELECT md5(n::text)::uuid, 'https://example.org/acme/' || CASE WHEN n % 101 = 0 THEN 'large' ELSE (n % 997)::text END
 || '.git', md5(n::text), 'runner-' || n % 7, CASE WHEN n % 1000 = 0 THEN 'queued' WHEN n % 1000 = 1 THEN 'running'
 WHEN n % 100 = 3 THEN 'timed_out' WHEN n % 100 < 8 THEN 'cancelled' WHEN n % 100 < 20 THEN 'failed'
 ELSE 'succeeded' END, to_timestamp(1793520000 + n), to_timestamp(1793520000 + n), 7 FROM generate_series(1, 1000000) n;
INSERT INTO vms (request_id, domain_name, backend, state, created_at, updated_at, rank)
SELECT md5(n::text)::uuid, 'vm-' || n, 'backend-' || n % 11, CASE WHEN n % 1000 = 0 THEN 'prepared'
 WHEN n % 1000 = 1 THEN 'running' WHEN n % 100 < 20 THEN 'failed' WHEN n % 100 < 30 THEN 'stopped' ELSE 'destroyed' END,
 to_timestamp(1793520000 + n), to_timestamp(1793520000 + n), 7 FROM generate_series(1, 200000) n;
INSERT INTO events (request_id, domain_name, rank, state, at)
SELECT md5((n / 3)::text)::uuid, '', 4 + n % 3, CASE n % 3 WHEN 0 THEN 'queued' WHEN 1 THEN 'running' ELSE 'lost' END,
 to_timestamp(1793520000 + n) FROM generate_series(1, 300000) n;
DO $$ DECLARE d record; BEGIN
 FOR d IN SELECT * FROM keys LOOP
 EXECUTE 'ALTER TABLE ' || d.of || ' ADD CONSTRAINT ' || d.conname || ' ' || d.definition; END LOOP;
 FOR d IN SELECT * FROM indexes LOOP EXECUTE d.indexdef; END LOOP; END $$;
ANALYZE jobs, vms, events";

/// A server that loses all if it falls, and fills in a third of the time.
async fn filled() -> (Cluster, PgConnection) {
    let settings = [
        ("fsync", "off"),
        ("full_page_writes", "off"),
        ("autovacuum", "off"),
        ("wal_level", "minimal"),
        ("max_wal_senders", "0"),
        ("max_wal_size", "4GB"),
        ("shared_buffers", "256MB"),
        ("maintenance_work_mem", "128MB"),
    ];
    let options = settings
        .into_iter()
        .fold(Options::default(), |options, (name, value)| {
            options.setting(name, value)
        });
    let cluster = Cluster::start(&options);
    let place = Place::at(cluster.fresh_database_url().await);
    place.migrated().await.unwrap().close().await.unwrap();
    let mut connection = cluster::connect(place.url()).await;
    connection.execute(sqlx::raw_sql(FILL)).await.unwrap();
    (cluster, connection)
}

fn bound(statement: &Statement) -> (String, PgArguments) {
    let (sql, values) = statement.build(PostgresQueryBuilder);
    let mut arguments = PgArguments::default();
    for value in values.0 {
        let added = match value {
            Value::Uuid(value) => arguments.add(value),
            Value::ChronoDateTimeUtc(value) => arguments.add(value),
            Value::String(value) => arguments.add(value),
            Value::BigInt(value) => arguments.add(value),
            Value::BigUnsigned(value) => arguments.add(value.map(u64::cast_signed)),
            other => panic!("{other:?}"),
        };
        added.unwrap();
    }
    (sql, arguments)
}

/// The plan of a statement with its values, after it was run where that is asked for.
async fn plan(connection: &mut PgConnection, statement: &Statement, options: &str) -> Json {
    let (sql, arguments) = bound(statement);
    let explain = AssertSqlSafe(format!("EXPLAIN ({options}, FORMAT JSON) {sql}"));
    let query = sqlx::query_with(explain, arguments).persistent(false);
    json(&query.fetch_one(connection).await.unwrap())
}

/// The plan that a prepared statement has come to, where that is one for all values: the server tries those of five runs
/// each by themselves first.
async fn settled(connection: &mut PgConnection, statement: &Statement) -> Option<Json> {
    let (sql, arguments) = bound(statement);
    for _ in 0..6 {
        let query = sqlx::query_with(AssertSqlSafe(sql.clone()), arguments.clone());
        query.fetch_all(&mut *connection).await.unwrap();
    }
    let asked = "SELECT name FROM pg_prepared_statements WHERE statement = $1 AND generic_plans > 0";
    let name = sqlx::query(asked)
        .bind(sql)
        .fetch_optional(&mut *connection)
        .await
        .unwrap();
    let name: String = name?.get(0);
    // Values that are not looked at.
    let values = vec!["NULL"; arguments.len()].join(", ");
    let explain = format!(
        "SET plan_cache_mode = force_generic_plan; EXPLAIN (FORMAT JSON) EXECUTE {name}({values}); RESET plan_cache_mode"
    );
    let explained = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_one(connection).await;
    Some(json(&explained.unwrap()))
}

fn json(explained: &PgRow) -> Json {
    let mut plan: Json = serde_json::from_str(explained.get_unchecked(0)).unwrap();
    plan[0]["Plan"].take()
}

/// The nodes of a plan that read, or wait for others, in words.
fn nodes(plan: &Json) -> Vec<String> {
    let text = |name: &str| plan[name].as_str().unwrap_or_default();
    let passes_over = if plan["Filter"].is_null() {
        ""
    } else {
        ", filtered"
    };
    let own = format!("{} {}{passes_over}", text("Node Type"), text("Index Name"));
    let below = plan["Plans"].as_array().into_iter().flatten().flat_map(nodes);
    std::iter::once(own).chain(below).collect()
}

/// Blocks of tables and indexes that were read, from the disk or not.
fn blocks(plan: &Json) -> u64 {
    let count = |name: &str| plan[name].as_u64().unwrap();
    count("Shared Hit Blocks") + count("Shared Read Blocks")
}

/// Whether the rows that are asked for are so few, and no index leads to them, that all of the table may be read: those
/// of a commit and those of a VM's name.
fn may_scan(listing: &Listing) -> bool {
    listing.has(&["commit", "name"])
}

/// Pages that one index holds in their order are read from it alone, and as many blocks are touched for a deep one. That
/// holds for the plan that is made for all values too, which prepared statements may come to. All other pages are read by
/// indexes as well: walked in their order, with `runs_on`, some live states, several endings and whatever else the index
/// has no place for held against each row; or, where that promises fewer rows, found by the index of a filter and sorted.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_reads_every_page_by_an_index_and_deep_ones_as_fast_as_the_first() {
    let (_cluster, mut connection) = filled().await;
    let (mut all, mut straight, mut for_all_values) = (0, 0, 0);
    for listing in listings::all(Dialect::Postgres, ROWS) {
        all += 1;
        let Some(index) = listing.index() else {
            for page in &listing.pages {
                let nodes = nodes(&plan(&mut connection, page, "COSTS OFF").await);
                let scans = nodes.iter().any(|node| node.starts_with("Seq Scan"));
                assert!(!scans || may_scan(&listing), "{listing}: {nodes:?}");
            }
            continue;
        };
        straight += 1;
        let index = if index == "key" {
            format!("{}_pkey", listing.table)
        } else {
            index.to_owned()
        };
        let walk = ["Limit ".to_owned(), format!("Index Scan {index}")];
        let mut touched = Vec::new();
        for page in &listing.pages {
            let run = plan(&mut connection, page, "ANALYZE, BUFFERS, TIMING OFF").await;
            assert_eq!(nodes(&run), walk, "{listing}");
            touched.push(blocks(&run));
            if let Some(plan) = settled(&mut connection, page).await {
                for_all_values += 1;
                assert_eq!(nodes(&plan), walk, "{listing}, whatever the values");
            }
        }
        assert!(
            touched[0] <= MOST_BLOCKS && touched[1] <= touched[0] * 2 + 4,
            "{listing}: {touched:?} blocks of the first and the deep page"
        );
    }
    assert_eq!((all, straight), (1_252, 78));
    assert!(
        for_all_values > 0,
        "no statement has come to a plan for all values"
    );
    let keys = sqlx::query_as("SELECT request_id, domain_name FROM vms LIMIT 64");
    let keys: Vec<(Uuid, String)> = keys.fetch_all(&mut connection).await.unwrap();
    let (ids, names): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
    for (sql, index) in persist_postgres::reading_statements()
        .into_iter()
        .zip(["jobs_pkey", "vms_pkey"])
    {
        let explain = AssertSqlSafe(format!("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}"));
        let mut query = sqlx::query(explain).bind(&ids);
        if sql.contains("$2") {
            query = query.bind(&names);
        }
        let run = json(&query.fetch_one(&mut connection).await.unwrap());
        let walk = [
            "Nested Loop ".to_owned(),
            "Function Scan ".to_owned(),
            format!("Index Scan {index}"),
        ];
        assert_eq!(nodes(&run), walk);
        assert_eq!(run["Actual Rows"], 64, "{run}");
    }
    watching_reads_the_changes_by_their_index(&mut connection).await;
    merging_comes_to_jobs_before_vms(&mut connection).await;
    connection.close().await.unwrap();
}

/// Whoever watches has asked so a thousand times: by the plan of its own values, and by the one for all.
async fn watching_reads_the_changes_by_their_index(connection: &mut PgConnection) {
    let sql = persist_postgres::watching_statement();
    let prepare = AssertSqlSafe(format!("PREPARE watching (text, bigint, bigint) AS {sql}"));
    connection.execute(sqlx::raw_sql(prepare)).await.unwrap();
    let place = |at: u32| {
        AssertSqlSafe(format!(
            "SELECT xid::text, seq FROM events ORDER BY xid, seq OFFSET {at} LIMIT 1"
        ))
    };
    for plan in ["force_custom_plan", "force_generic_plan"] {
        let mut touched = Vec::new();
        for (at, expected) in [(0, 52), (250_000, 52), (299_990, 10), (299_999, 1)] {
            let (xid, seq): (String, i64) = sqlx::query_as(place(at))
                .fetch_one(&mut *connection)
                .await
                .unwrap();
            let explain = AssertSqlSafe(format!(
                "SET plan_cache_mode = {plan}; \
                 EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE watching('{xid}', {seq}, 51)"
            ));
            let run = json(&sqlx::raw_sql(explain).fetch_one(&mut *connection).await.unwrap());
            let nodes = nodes(&run);
            assert!(
                nodes.contains(&"Index Scan events_xid".to_owned()),
                "{plan}: {nodes:?}"
            );
            assert!(
                !nodes.iter().any(|node| node.starts_with("Sort")),
                "{plan}: {nodes:?}"
            );
            // One row more is about the store.
            assert_eq!(
                run["Actual Rows"].as_f64(),
                Some(f64::from(expected)),
                "{plan}: {run}"
            );
            touched.push(blocks(&run));
        }
        assert!(
            touched.iter().all(|blocks| *blocks <= MOST_BLOCKS),
            "{plan}: {touched:?}"
        );
    }
}

/// Rows are locked as they are merged: were they not always in one order, a job and its VM in two flushes could deadlock.
async fn merging_comes_to_jobs_before_vms(connection: &mut PgConnection) {
    let kinds = ["uuid[]", "text[]", "bigint[]", "text[]", "timestamptz[]"];
    let texts = [", text[]"; 8].concat();
    let ids = "array_fill(md5('1')::uuid, ARRAY[64])";
    for (number, sql) in persist_postgres::merging_statements().into_iter().enumerate() {
        let prepare = format!("PREPARE merging_{number} ({}{texts}) AS {sql}", kinds.join(", "));
        let prepare = AssertSqlSafe(prepare);
        connection.execute(sqlx::raw_sql(prepare)).await.unwrap();
        for plan in ["force_custom_plan", "force_generic_plan"] {
            for first in ["NULL", ids] {
                let rest = [", NULL"; 12].concat();
                let explain = AssertSqlSafe(format!(
                    "SET plan_cache_mode = {plan}; EXPLAIN (FORMAT JSON) EXECUTE merging_{number}({first}{rest})"
                ));
                let run = json(&sqlx::raw_sql(explain).fetch_one(&mut *connection).await.unwrap());
                assert_eq!(
                    joined(&run),
                    ["ev", "job", "vm"],
                    "{plan}, statement {number}: {run}"
                );
            }
        }
    }
}

/// The parts of a statement that its answer joins, in the order in which it comes to them.
fn joined(plan: &Json) -> Vec<&str> {
    if plan["Parent Relationship"] == "InitPlan" {
        return Vec::new();
    }
    let own = plan["CTE Name"].as_str();
    let below = plan["Plans"].as_array().into_iter().flatten().flat_map(joined);
    own.into_iter().chain(below).collect()
}
