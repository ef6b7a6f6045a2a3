//! What a prune looks at: pages of an index, each from where the last one ended, and what it removes by its key.

use persist_core::JobState::{Cancelled, Failed, Queued, TimedOut};
use persist_core::sql::{self, Asked, Bound, Candidate, Dialect, Search};
use persist_core::{Cursor, Prune, PrunePosition, time};
use persist_tests::place::{Database, Place};
use persist_tests::{cluster, process, sample};
use rusqlite::types::Value;
use rusqlite::{Connection, StatementStatus, params_from_iter};
use serde_json::Value as Json;
use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use uuid::Uuid;

/// A prune by ids looks at each row some few times, however many it is given.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_looks_a_few_times_at_each_job_that_is_pruned_by_name() {
    // The planner settles on a plan after five calls.
    const CALLS: u64 = 8;
    const JOBS: u64 = CALLS * 500;
    let place = Place::empty(Database::Postgres);
    let backend = place.migrated().await.unwrap();
    let updates = (1..=JOBS).map(|n| sample::job(n, Queued));
    backend.apply(&sample::claims(updates).unwrap()).await.unwrap();
    place.execute("ANALYZE jobs").await;
    for call in 0..CALLS {
        let ids = (1..=500).map(|n| sample::id(call * 500 + n));
        let pruned = backend.prune(&Prune::default().ids(ids)).await.unwrap();
        assert_eq!(pruned.requests, 500);
    }
    backend.close().await.unwrap();
    let read = format!(
        "SELECT n_tup_del::text || ' ' || (idx_tup_fetch + seq_tup_read)::text FROM pg_stat_user_tables \
         WHERE relname = 'jobs' AND schemaname = '{}'",
        place.schema()
    );
    let mut looks = 0;
    process::until("the server has written down what was done", async || {
        let line = place.texts(&read).await.remove(0);
        let (deleted, looked) = line.split_once(' ').unwrap();
        looks = looked.parse::<u64>().unwrap();
        deleted == JOBS.to_string()
    })
    .await;
    assert!(looks <= 20 * JOBS, "{looks} looks at {JOBS} jobs");
}

/// So many jobs, a second apart and of every state, of 97 repositories and of none, each with a VM; and a VM without a job for
/// every tenth.
fn filled(dialect: Dialect, jobs: u32) -> String {
    let (id, other, time, numbers) = match dialect {
        Dialect::Sqlite => (
            "unhex(printf('%016x%016x', n * 7919 % 100003, n))",
            "unhex(printf('%032x', n))",
            "1793520000000000 + n * 1000000",
            format!("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {jobs})"),
        ),
        Dialect::Postgres => (
            "md5(n::text)::uuid",
            "md5('vm' || n)::uuid",
            "to_timestamp(1793520000 + n)",
            format!("WITH c AS (SELECT n FROM generate_series(1, {jobs}) n)"),
        ),
    };
    let ends = "CASE WHEN n % 1000 = 0 THEN 'running' WHEN n % 100 = 3 THEN 'timed_out' WHEN n % 10 = 1 THEN 'failed' \
                ELSE 'succeeded' END";
    format!(
        "{numbers} INSERT INTO jobs (request_id, repo_url, state, created_at, updated_at, rank) SELECT {id}, \
         CASE WHEN n % 20 = 0 THEN NULL ELSE 'https://example.org/acme/' || (n % 97) END, {ends}, {time}, {time}, 7 FROM c; \
         {numbers} INSERT INTO vms (request_id, domain_name, state, created_at, updated_at, rank) \
         SELECT {id}, 'vm', 'destroyed', {time}, {time}, 7 FROM c; \
         {numbers} INSERT INTO vms (request_id, domain_name, state, created_at, updated_at, rank) \
         SELECT {other}, 'vm', 'destroyed', {time}, {time}, 7 FROM c WHERE n % 10 = 0;"
    )
}

/// Requests that remove much, with the indexes along which that lies.
fn requests() -> Vec<(Prune, Vec<&'static str>)> {
    let all = time::parse("all", "9999-12-31T00:00:00Z").unwrap();
    vec![
        (
            Prune::default().ended_before(all),
            vec!["jobs_created", "vms_created"],
        ),
        (Prune::default().states([Failed, TimedOut]), vec!["jobs_ended"]),
        (
            Prune::default().states([Failed]).ended_before(all),
            vec!["jobs_ended"],
        ),
        (Prune::default().keep_per_repo(5), vec!["jobs_repo_url"]),
        (
            Prune::default().keep_per_repo(5).ended_before(all),
            vec!["jobs_repo_url"],
        ),
    ]
}

/// The place of a call's end, as its cursor says it.
fn cursor(place: PrunePosition) -> Cursor {
    let mut pruned = persist_core::Pruned::default().ended_at(Some(place));
    pruned.next.take().unwrap()
}

fn bound(values: Vec<Bound>) -> Vec<Value> {
    let one = |value| match value {
        Bound::Ids(ids) => {
            let ids: Vec<_> = ids.iter().map(|id: &Uuid| id.simple().to_string()).collect();
            Value::Text(format!("{ids:?}"))
        }
        Bound::Id(id) => Value::Blob(id.as_bytes().to_vec()),
        Bound::Time(at) => Value::Integer(at.timestamp_micros()),
        Bound::Number(number) => Value::Integer(number),
        Bound::Text(text) => Value::Text(text),
    };
    values.into_iter().map(one).collect()
}

/// The plan of a statement, its rows, and the steps of SQLite's machine that they took.
fn asked_of_sqlite(file: &Connection, asked: Asked) -> (Vec<String>, Vec<Candidate>, i32) {
    let values = bound(asked.values);
    let mut explain = file
        .prepare(&format!("EXPLAIN QUERY PLAN {}", asked.sql))
        .unwrap();
    let plan = explain.query_map(params_from_iter(&values), |row| row.get(3));
    let plan = plan.unwrap().collect::<rusqlite::Result<Vec<String>>>().unwrap();
    let mut select = file.prepare(&asked.sql).unwrap();
    let rows = select.query_map(params_from_iter(&values), |row| {
        let id: Option<Vec<u8>> = row.get(1)?;
        Ok(Candidate {
            created_at: row.get::<_, Option<i64>>(0)?.and_then(time::from_micros),
            request_id: id.map(|id| Uuid::from_slice(&id).unwrap()),
            matches: row.get::<_, Option<bool>>(2)?.unwrap_or(false),
            repo_url: row.get(3)?,
        })
    });
    let rows = rows.unwrap().collect::<rusqlite::Result<Vec<_>>>().unwrap();
    (plan, rows, select.get_status(StatementStatus::VmStep))
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_looks_for_what_is_pruned_along_an_index_from_where_it_was() {
    const LIMIT: u32 = 100;
    let mut most = Vec::new();
    for jobs in [2_000, 20_000] {
        let place = Place::empty(Database::Sqlite);
        place.migrated().await.unwrap().close().await.unwrap();
        let file = place.file();
        file.execute_batch(&filled(Dialect::Sqlite, jobs)).unwrap();
        for (at, (request, indexes)) in requests().into_iter().enumerate() {
            let mut request = request.limit(LIMIT);
            let (mut calls, mut longest, mut used) = (0, 0, String::new());
            loop {
                let mut search = Search::new(Dialect::Sqlite, "", &request).unwrap();
                let mut taken = 0;
                while let Some(asked) = search.ask() {
                    let (plan, rows, steps) = asked_of_sqlite(&file, asked);
                    for line in &plan {
                        let is_scan = ["jobs", "vms", "j", "k", "t", "v", "i"]
                            .iter()
                            .any(|name| *line == format!("SCAN {name}"));
                        let is_sort =
                            line.contains("TEMP B-TREE FOR ORDER BY") && plan[0].contains("RECURSIVE");
                        assert!(!is_scan && !is_sort, "{request:?}: {plan:#?}");
                    }
                    used += &plan.join("\n");
                    taken += steps;
                    search.answer(rows);
                }
                (calls, longest) = (calls + 1, longest.max(taken));
                let (ids, next) = search.found();
                let again = sql::still_matching(Dialect::Sqlite, "", &request, &ids);
                let values = bound(again.values);
                let mut select = file.prepare(&again.sql).unwrap();
                let still = select.query_map(params_from_iter(&values), |row| row.get::<_, Vec<u8>>(0));
                assert_eq!(still.unwrap().count(), ids.len(), "{request:?}");
                longest = longest.max(select.get_status(StatementStatus::VmStep));
                let Some(next) = next else { break };
                request = request.after(Some(cursor(next)));
            }
            for index in indexes {
                assert!(used.contains(&format!("INDEX {index} ")), "{request:?}: {used}");
            }
            println!("{jobs} jobs, request {at}: {calls} calls, at most {longest} steps");
            most.push(longest);
        }
    }
    let (few, many) = most.split_at(requests().len());
    for (few, many) in few.iter().zip(many) {
        assert!(
            *many <= few * 2,
            "a call of a longer walk is no longer: {few} and {many} steps"
        );
    }
}

/// A search that is left in the middle, as one whose time is up, tells a place from which the rest is found: all of it, once, in
/// the same order.
#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_is_left_goes_on_from_its_place() {
    let place = Place::empty(Database::Sqlite);
    place.migrated().await.unwrap().close().await.unwrap();
    let file = place.file();
    file.execute_batch(&filled(Dialect::Sqlite, 1_000)).unwrap();
    let all = time::parse("all", "9999-12-31T00:00:00Z").unwrap();
    // Nothing matches at all, so that every page is passed.
    let barren = Prune::default().keep_per_repo(2_000);
    let of_none = Prune::default().states([Cancelled]).ended_before(all);
    let more = [(barren, vec![]), (of_none, vec![])];
    for (request, _) in requests().into_iter().chain(more) {
        let mut found = Vec::new();
        for is_left in [false, true] {
            let (mut request, mut ids) = (request.clone().limit(7), Vec::new());
            for calls in 0.. {
                assert!(calls < 2_000, "it ends: {request:?}");
                let mut search = Search::new(Dialect::Sqlite, "", &request).unwrap();
                while let Some(asked) = search.ask() {
                    search.answer(asked_of_sqlite(&file, asked).1);
                    if is_left && search.has_moved() {
                        break;
                    }
                }
                let (some, next) = search.found();
                ids.extend(some);
                let Some(next) = next else { break };
                request = request.after(Some(cursor(next)));
            }
            found.push(ids);
        }
        assert_eq!(found[0], found[1], "{request:?}");
    }
}

fn arguments(values: Vec<Bound>) -> PgArguments {
    let mut arguments = PgArguments::default();
    for value in values {
        let added = match value {
            Bound::Ids(ids) => arguments.add(ids),
            Bound::Id(id) => arguments.add(id),
            Bound::Time(at) => arguments.add(at),
            Bound::Number(number) => arguments.add(number),
            Bound::Text(text) => arguments.add(text),
        };
        added.unwrap();
    }
    arguments
}

/// The nodes of a plan that read tables, with their filters, and those that sort.
fn nodes(plan: &Json, found: &mut Vec<String>) {
    let text = |name: &str| plan[name].as_str().unwrap_or_default();
    if !plan["Relation Name"].is_null() || !plan["Index Name"].is_null() || text("Node Type").contains("Sort")
    {
        found.push(format!(
            "{} {} {}",
            text("Node Type"),
            text("Relation Name"),
            text("Index Name")
        ));
    }
    for below in plan["Plans"].as_array().into_iter().flatten() {
        nodes(below, found);
    }
}

/// The nodes of a statement's plan and the blocks that it touched, once it was run.
async fn explained(connection: &mut PgConnection, asked: Asked) -> (Vec<String>, u64) {
    let explain = AssertSqlSafe(format!(
        "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {}",
        asked.sql
    ));
    let query = sqlx::query_with(explain, arguments(asked.values)).persistent(false);
    let explained = query.fetch_one(connection).await.unwrap();
    let mut plan: Json = serde_json::from_str(explained.get_unchecked(0)).unwrap();
    let plan = plan[0]["Plan"].take();
    let mut found = Vec::new();
    nodes(&plan, &mut found);
    let blocks = ["Shared Hit Blocks", "Shared Read Blocks"].map(|name| plan[name].as_u64().unwrap());
    (found, blocks.iter().sum())
}

async fn rows_of(connection: &mut PgConnection, asked: Asked) -> Vec<Candidate> {
    let query = sqlx::query_with(AssertSqlSafe(asked.sql), arguments(asked.values)).persistent(false);
    let rows = query.fetch_all(connection).await.unwrap();
    let candidate = |row: &sqlx::postgres::PgRow| Candidate {
        created_at: row.get(0),
        request_id: row.get(1),
        matches: row.get::<Option<bool>, _>(2).unwrap_or(false),
        repo_url: row.get(3),
    };
    rows.iter().map(candidate).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_looks_for_what_is_pruned_along_an_index_from_where_it_was() {
    const LIMIT: u32 = 100;
    // Twice what was seen: 2,641, of 100 jobs and their VMs, twice, each by some levels of an index (PostgreSQL 15, 2026-11-28).
    const MOST_BLOCKS: u64 = 5_300;
    let place = Place::at(cluster::shared().fresh_database_url().await);
    place.migrated().await.unwrap().close().await.unwrap();
    let mut connection = cluster::connect(place.url()).await;
    let fill = format!("{} ANALYZE jobs, vms", filled(Dialect::Postgres, 40_000));
    connection
        .execute(sqlx::raw_sql(AssertSqlSafe(fill)))
        .await
        .unwrap();
    // As our sessions are set up.
    let settings = "SET jit = off; SET enable_hashjoin = off; SET enable_mergejoin = off";
    connection.execute(sqlx::raw_sql(settings)).await.unwrap();
    for (request, indexes) in requests() {
        let mut request = request.limit(LIMIT);
        let (mut calls, mut longest, mut used) = (0, 0, Vec::new());
        loop {
            let mut search = Search::new(Dialect::Postgres, "", &request).unwrap();
            let mut touched = 0;
            while let Some(asked) = search.ask() {
                // Each tenth call, for the time that it takes.
                if calls % 10 == 0 {
                    let (found, blocks) = explained(&mut connection, asked.clone()).await;
                    let scans = found.iter().any(|node| node.starts_with("Seq Scan"));
                    assert!(!scans, "{request:?}: {} {found:#?}", asked.sql);
                    touched += blocks;
                    used.extend(found);
                }
                let rows = rows_of(&mut connection, asked).await;
                search.answer(rows);
            }
            let (ids, next) = search.found();
            if calls % 10 == 0 {
                let removal = sql::removal(Dialect::Postgres, "", &request, &ids);
                let again = Asked {
                    sql: format!(
                        "WITH v AS (SELECT ({}) AND ({}) FROM jobs j, vms v WHERE false) {}",
                        removal.job, removal.vm, removal.victims
                    ),
                    values: removal.values,
                };
                let (found, blocks) = explained(&mut connection, again).await;
                let scans = found.iter().any(|node| node.starts_with("Seq Scan"));
                assert!(!scans, "{request:?}: {found:#?}");
                touched += blocks;
            }
            (calls, longest) = (calls + 1, longest.max(touched));
            let Some(next) = next else { break };
            request = request.after(Some(cursor(next)));
        }
        println!(
            "{:?} {:?}: {calls} calls, at most {longest} blocks, {used:?}",
            request.states, request.keep_per_repo
        );
        for index in indexes {
            assert!(
                used.iter().any(|node| node.ends_with(&format!(" {index}"))),
                "{request:?}: {used:#?}"
            );
        }
        assert!(longest <= MOST_BLOCKS, "{request:?}: {longest} blocks");
    }
    connection.close().await.unwrap();
}
