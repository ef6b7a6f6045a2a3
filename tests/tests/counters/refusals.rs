//! How a page of refusals is read: along the index of their times, or by the key of a job, and never by a sort of all.

use persist_core::sql::{self, Dialect};
use persist_tests::cluster;
use persist_tests::place::{Database, Place};
use rusqlite::params;
use sqlx::{AssertSqlSafe, Executor as _, Row as _};

const MANY: u32 = 20_000;

/// As many refusals, each of a job of its own.
fn filled(database: Database) -> String {
    let (numbers, id, time) = match database {
        Database::Postgres => (
            format!("SELECT n FROM generate_series(1, {MANY}) AS c(n)"),
            "md5(n::text)::uuid",
            "'2026-11-01'::timestamptz + n * interval '1 second'",
        ),
        Database::Sqlite => (
            format!(
                "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {MANY}) SELECT n FROM c"
            ),
            "randomblob(16)",
            "1793520000000000 + n * 1000000",
        ),
    };
    format!(
        "INSERT INTO refusals (request_id, domain_name, rank, tried, standing, line, tries, first_at, last_at) \
         SELECT {id}, '', 7, 'failed', 'succeeded', '{{}}', 1, {time}, {time} FROM ({numbers}) AS c"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_reads_refusals_along_their_times_or_by_the_key_of_a_job() {
    let place = Place::empty(Database::Sqlite);
    place.migrated().await.unwrap().close().await.unwrap();
    let file = place.file();
    file.execute_batch(&filled(Database::Sqlite)).unwrap();
    for (of_one, wanted) in [
        (false, "USING INDEX refusals_last"),
        (true, "USING PRIMARY KEY (request_id=?)"),
    ] {
        let sql = sql::refusals(Dialect::Sqlite, "", of_one);
        let mut explain = file.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let values = params![i64::MAX, [0_u8; 16], "", 0, "", 51, [0_u8; 16]];
        for (number, value) in (1..).zip(&values[..explain.parameter_count()]) {
            explain.raw_bind_parameter(number, value).unwrap();
        }
        let (mut rows, mut plan) = (explain.raw_query(), Vec::new());
        while let Some(row) = rows.next().unwrap() {
            plan.push(row.get::<_, String>(3).unwrap());
        }
        assert!(plan[0].contains(wanted), "{plan:#?}");
        let is_sorted = plan.iter().any(|line| line.contains("TEMP B-TREE"));
        assert!(of_one || !is_sorted, "{plan:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_reads_refusals_along_their_times_or_by_the_key_of_a_job() {
    let place = Place::at(cluster::shared().fresh_database_url().await);
    place.migrated().await.unwrap().close().await.unwrap();
    let mut connection = cluster::connect(place.url()).await;
    let run = format!("{}; ANALYZE refusals", filled(Database::Postgres));
    connection
        .execute(sqlx::raw_sql(AssertSqlSafe(run)))
        .await
        .unwrap();
    let of_one = "PREPARE of_one (timestamptz, uuid, text, bigint, text, bigint, uuid)";
    let all = "PREPARE everything (timestamptz, uuid, text, bigint, text, bigint)";
    let prepared = format!(
        "{of_one} AS {}; {all} AS {}",
        sql::refusals(Dialect::Postgres, "", true),
        sql::refusals(Dialect::Postgres, "", false)
    );
    connection
        .execute(sqlx::raw_sql(AssertSqlSafe(prepared)))
        .await
        .unwrap();
    let id = "00000000-0000-0000-0000-000000000000";
    for mode in ["force_custom_plan", "force_generic_plan"] {
        for (call, index) in [
            (
                format!("everything ('9999-12-31', '{id}', '', 0, '', 51)"),
                "refusals_last",
            ),
            (
                format!("of_one ('9999-12-31', '{id}', '', 0, '', 51, '{id}')"),
                "refusals_pkey",
            ),
        ] {
            let explain = format!("SET plan_cache_mode = {mode}; EXPLAIN EXECUTE {call}");
            let plan = sqlx::raw_sql(AssertSqlSafe(explain))
                .fetch_all(&mut connection)
                .await;
            let plan: Vec<String> = plan.unwrap().iter().map(|row| row.get_unchecked(0)).collect();
            let is_read = plan.iter().any(|line| line.contains(index))
                && !plan.iter().any(|line| line.contains("Seq Scan"));
            assert!(is_read, "{mode}: {plan:#?}");
        }
    }
}
