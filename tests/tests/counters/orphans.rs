//! How a page of orphans is read: live rows by their index, the current slot of each by its key, and nothing else, however long
//! the history is.

use persist_core::sql::{self, Dialect};
use persist_tests::cluster;
use persist_tests::place::{Database, Place};
use rusqlite::{Connection, StatementStatus, params};
use serde_json::Value as Json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};

const LIVE: u32 = 100;

/// So many jobs with a VM each and their history; the first hundred are live, with owners that are gone.
fn filled(database: Database, jobs: u32) -> String {
    let (id, numbers) = match database {
        Database::Sqlite => (
            "unhex(printf('%032x', n))",
            format!("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {jobs})"),
        ),
        Database::Postgres => (
            "md5(n::text)::uuid",
            format!("WITH c AS (SELECT n FROM generate_series(1, {jobs}) n)"),
        ),
    };
    let time = match database {
        Database::Sqlite => "1793520000000000 + n",
        Database::Postgres => "to_timestamp(1793520000 + n)",
    };
    let row = |live: &str, ended: &str, rank: &str| {
        format!(
            "CASE WHEN n <= {LIVE} THEN '{live}' ELSE '{ended}' END, {time}, {time}, \
             CASE WHEN n <= {LIVE} THEN 5 ELSE {rank} END FROM c"
        )
    };
    let seq = if database == Database::Sqlite {
        ("seq, ", "n, ")
    } else {
        ("", "")
    };
    let slot = |name: &str, rank: u8, state: &str, of: &str| {
        format!(
            "{numbers} INSERT INTO events ({}request_id, domain_name, rank, state, at, recorded_at, actor) \
             SELECT {}{id}, '{name}', {rank}, '{state}', {time}, {time}, 'gone' FROM c WHERE {of};",
            seq.0, seq.1
        )
    };
    let ended = format!("n > {LIVE}");
    [
        format!(
            "{numbers} INSERT INTO jobs (request_id, state, created_at, updated_at, rank) SELECT {id}, {};",
            row("running", "succeeded", "7")
        ),
        format!(
            "{numbers} INSERT INTO vms (request_id, domain_name, state, created_at, updated_at, rank) \
             SELECT {id}, 'vm', {};",
            row("running", "destroyed", "7")
        ),
        slot("", 4, "queued", "true"),
        slot("", 5, "running", "true"),
        slot("", 7, "succeeded", &ended),
        slot("vm", 5, "running", "true"),
        slot("vm", 7, "destroyed", &ended),
        format!(
            "{numbers} INSERT INTO persist_owners (actor, epoch, started_at, beat_at, valid_until) \
             SELECT 'gone', 1, {time}, {time}, {time} FROM c WHERE n = 1;"
        ),
    ]
    .join("\n")
}

/// The plan of a page of 50, and the steps of SQLite's machine that it takes.
fn read(file: &Connection) -> (Vec<String>, i32) {
    let sql = sql::orphans(Dialect::Sqlite, "");
    let values = params![[0_u8; 16], "", None::<String>, 0, true, true, true, 51];
    let mut explain = file.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let plan = explain.query_map(values, |row| row.get(3)).unwrap();
    let plan = plan.collect::<rusqlite::Result<_>>().unwrap();
    let mut select = file.prepare(&sql).unwrap();
    let mut rows = select.query(values).unwrap();
    let mut count = 0;
    while rows.next().unwrap().is_some() {
        count += 1;
    }
    drop(rows);
    assert_eq!(count, 51, "{plan:?}");
    (plan, select.get_status(StatementStatus::VmStep))
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_reads_orphans_by_the_index_of_live_rows_and_never_the_history() {
    let mut steps = Vec::new();
    for jobs in [1_000, 10_000] {
        let place = Place::empty(Database::Sqlite);
        place.migrated().await.unwrap().close().await.unwrap();
        let file = place.file();
        file.execute_batch(&filled(Database::Sqlite, jobs)).unwrap();
        let (plan, taken) = read(&file);
        let scans: Vec<_> = plan.iter().filter(|line| line.starts_with("SCAN")).collect();
        for line in &scans {
            let is_of_live = line.starts_with("SCAN r USING INDEX ") && line.ends_with("_live");
            let is_of_answer = ["x", "(subquery-", "CONSTANT ROW", "jobs_", "1 "]
                .iter()
                .any(|name| line.starts_with(&format!("SCAN {name}")));
            assert!(is_of_live || is_of_answer, "{plan:#?}");
        }
        let live = scans.iter().filter(|line| line.ends_with("_live")).count();
        assert_eq!(live, 2, "{plan:#?}");
        steps.push(taken);
    }
    assert_eq!(steps[0], steps[1], "a longer history costs nothing");
}

/// The nodes of a plan that read tables.
fn reads(plan: &Json, found: &mut Vec<String>) {
    let text = |name: &str| plan[name].as_str().unwrap_or_default();
    if !plan["Relation Name"].is_null() || !plan["Index Name"].is_null() {
        found.push(format!(
            "{} {} {}",
            text("Node Type"),
            text("Relation Name"),
            text("Index Name")
        ));
    }
    for below in plan["Plans"].as_array().into_iter().flatten() {
        reads(below, found);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_reads_orphans_by_the_index_of_live_rows_and_never_the_history() {
    let place = Place::at(cluster::shared().fresh_database_url().await);
    place.migrated().await.unwrap().close().await.unwrap();
    let mut connection = cluster::connect(place.url()).await;
    let filled = filled(Database::Postgres, 20_000);
    let analyzed = format!("{filled} ANALYZE jobs, vms, events, persist_owners");
    connection
        .execute(sqlx::raw_sql(AssertSqlSafe(analyzed)))
        .await
        .unwrap();
    // As our sessions are set up.
    let prepared = format!(
        "SET jit = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
         PREPARE orphans (uuid, text, text, bigint, bool, bool, bool, bigint) AS {}",
        sql::orphans(Dialect::Postgres, "")
    );
    connection
        .execute(sqlx::raw_sql(AssertSqlSafe(prepared)))
        .await
        .unwrap();
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let explain = format!(
            "SET plan_cache_mode = {mode}; EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) \
             EXECUTE orphans ('00000000-0000-0000-0000-000000000000', '', NULL, 0, true, true, true, 51)"
        );
        let run = sqlx::raw_sql(AssertSqlSafe(explain))
            .fetch_one(&mut connection)
            .await;
        let mut run: Json = serde_json::from_str(run.unwrap().get_unchecked(0)).unwrap();
        let plan = run[0]["Plan"].take();
        let mut found = Vec::new();
        reads(&plan, &mut found);
        for table in ["jobs", "vms", "events"] {
            assert!(
                !found
                    .iter()
                    .any(|node| node.starts_with(&format!("Seq Scan {table}"))),
                "{mode}: {found:#?}"
            );
        }
        for index in ["jobs_live", "vms_live", "events_pkey"] {
            assert!(
                found.iter().any(|node| node.ends_with(&format!(" {index}"))),
                "{mode}: {found:#?}"
            );
        }
        let blocks =
            plan["Shared Hit Blocks"].as_u64().unwrap() + plan["Shared Read Blocks"].as_u64().unwrap();
        println!("{mode}: {blocks} blocks: {found:#?}");
        assert_eq!(plan["Actual Rows"], 51, "{mode}");
    }
    connection.close().await.unwrap();
}
