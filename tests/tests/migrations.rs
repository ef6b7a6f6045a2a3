//! Migrations under races, kills, freezes and missing rights. Numbers are those of the table of failures.

mod peer;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use persist::{Down, ErrorKind, JobState};
use persist_tests::cluster::{self, shared};
use persist_tests::place::{self, Database, Place};
use persist_tests::process::{self, Running};
use persist_tests::sample;
use persist_tests::seed;
use persist_tests::shape::{self, Shape};
use rand::Rng as _;
use sqlx::{Executor as _, PgConnection};

use peer::peer;

/// Names of all migrations, from a place that has them.
async fn all_names(place: &Place) -> Vec<String> {
    place
        .texts("SELECT CAST(name AS text) FROM persist_migrations ORDER BY name")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn m1_eight_processes_migrate_an_empty_database_at_once() {
    for round in 0..20 {
        let place = Place::at(shared().fresh_database_url().await);
        let peers: Vec<_> = (0..8)
            .map(|_| Running::start(&mut peer(["start", place.url()])))
            .collect();
        let mut created = 0;
        for peer in peers {
            let ran = peer.end();
            assert!(
                ran.stdout.contains("enabled true"),
                "round {round}: {}{}",
                ran.stdout,
                ran.stderr
            );
            let recorded = ["applied", "unchanged"]
                .iter()
                .any(|word| ran.stdout.contains(&format!("outcome {word}")));
            assert!(recorded, "round {round}: {}{}", ran.stdout, ran.stderr);
            created += u32::from(ran.stdout.contains("outcome applied"));
        }
        assert_eq!(created, 1, "round {round}: the same update is applied once");
        let names = all_names(&place).await;
        assert!(
            names.len() > 1 && names.windows(2).all(|pair| pair[0] != pair[1]),
            "round {round}: {names:?}"
        );
        assert_eq!(place.count("FROM events").await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m2_a_migrator_killed_in_the_middle_leaves_no_half_schema_on_postgres() {
    killed_in_the_middle(Database::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m2_a_migrator_killed_in_the_middle_leaves_no_half_schema_on_sqlite() {
    killed_in_the_middle(Database::Sqlite).await;
}

/// The names that are recorded, `None` where there is no table of them, and the tables that belong to them.
///
/// A COMMIT that a killed process had sent may still come to pass: then it is looked at again.
async fn recorded(place: &Place) -> (Option<Vec<String>>, Shape) {
    let names = async || {
        let has_records = shape::of(place).await.contains_key("persist_migrations");
        if has_records {
            Some(all_names(place).await)
        } else {
            None
        }
    };
    loop {
        let before = names().await;
        let found = shape::of(place).await;
        if names().await == before {
            return (before, found);
        }
    }
}

async fn killed_in_the_middle(database: Database) {
    const FEWEST: u32 = 12;
    const MOST: u32 = 60;
    let opened = |place: &Place| {
        let peer = Running::start(&mut peer(["up", place.url()]));
        assert_eq!(peer.line().as_deref(), Some("opened"));
        (peer, Instant::now())
    };
    // How long it takes from the first statement to the last tells when to kill.
    let whole = Place::empty(database);
    let (done, begun) = opened(&whole);
    let done = done.end().ok();
    let longest = begun.elapsed();
    assert!(done.stdout.contains("up m"), "{}", done.stdout);
    let (all, finished) = recorded(&whole).await;
    let all = all.expect("they are recorded");
    let mut shapes = BTreeMap::from([(Some(all.clone()), finished.clone())]);
    let (mut kills, mut in_the_middle) = (0, 0);
    while kills < FEWEST || in_the_middle == 0 {
        assert!(
            kills < MOST,
            "none of {kills} kills landed between two migrations"
        );
        kills += 1;
        let place = Place::empty(database);
        let (mut victim, _) = opened(&place);
        let moment = rand::rng().random_range(Duration::ZERO..longest);
        tokio::time::sleep(moment).await;
        victim.kill();
        if database == Database::Postgres {
            // The server notices the death when it next talks to the client, or at the end of a statement.
            let schema = place.schema();
            let gone = format!(
                "SELECT CAST(count(*) AS text) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
                 WHERE c.relnamespace = to_regnamespace('{schema}') AND l.pid <> pg_backend_pid()"
            );
            process::until("the server has let go", async || {
                place.texts(&gone).await == ["0"]
            })
            .await;
        }
        let (names, half) = recorded(&place).await;
        let some = names.as_ref().map_or(0, Vec::len);
        in_the_middle += u32::from(some > 0 && some < all.len());
        let expected = shapes.entry(names.clone()).or_insert_with(|| half.clone());
        assert_eq!(
            *expected, half,
            "the tables are those of the recorded migrations {names:?}"
        );
        let next = Running::start(&mut peer(["start", place.url()])).end().ok();
        assert!(
            next.stdout.contains("enabled true") && next.stdout.contains("outcome applied"),
            "{}",
            next.stdout
        );
        assert_eq!(recorded(&place).await, (Some(all.clone()), finished.clone()));
    }
}

/// A process that migrates and is frozen while it holds the lock; with the id of its server process.
///
/// The seed's tables are there, and somebody else uses one of them until the migrator waits for it.
async fn frozen_migrator(place: &Place) -> (Running, String) {
    let schema = place.schema();
    for _ in 0..20 {
        let mut user = cluster::connect(&shared().url("postgres")).await;
        run(
            &mut user,
            &format!("BEGIN; LOCK TABLE {schema}.jobs IN ACCESS EXCLUSIVE MODE"),
        )
        .await;
        let migrator = Running::start(&mut peer(["up", place.url()]));
        let waits = format!(
            "SELECT CAST(pid AS text) FROM pg_locks WHERE relation = '{schema}.jobs'::regclass AND NOT granted"
        );
        process::until("the migrator waits for the table", async || {
            !place.texts(&waits).await.is_empty()
        })
        .await;
        process::signal(migrator.id(), "STOP");
        let waiting = place.texts(&waits).await;
        run(&mut user, "COMMIT").await;
        if let [pid] = &waiting[..] {
            let idle = format!("SELECT state FROM pg_stat_activity WHERE pid = {pid} AND state LIKE 'idle%'");
            process::until("its statement is done", async || {
                !place.texts(&idle).await.is_empty()
            })
            .await;
            if place.texts(&idle).await == ["idle in transaction"] {
                return (migrator, pid.clone());
            }
        }
        // It gave up waiting for the table a moment too soon: once more.
        process::signal(migrator.id(), "CONT");
        let _ = migrator.end();
        return_to_seed(place).await;
    }
    panic!("no migrator could be frozen while it held the lock");
}

async fn return_to_seed(place: &Place) {
    let schema = place.schema();
    place
        .execute(&format!("DROP SCHEMA {schema} CASCADE; CREATE SCHEMA {schema}"))
        .await;
    place.execute(seed::TABLES).await;
}

async fn seeded() -> Place {
    let place = Place::empty(Database::Postgres);
    place.execute(&format!("CREATE SCHEMA {}", place.schema())).await;
    place.execute(seed::TABLES).await;
    place.execute(seed::ROWS).await;
    place
}

async fn run(connection: &mut PgConnection, statements: &str) {
    let done = connection
        .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned())))
        .await;
    done.unwrap_or_else(|error| panic!("{statements}: {error}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn m3_the_lock_of_a_killed_migrator_is_free() {
    let place = seeded().await;
    let (mut holder, _) = frozen_migrator(&place).await;
    let mut waiter = Running::start(&mut peer(["up", place.url()]));
    assert_eq!(waiter.line().as_deref(), Some("opened"));
    assert!(waiter.is_running());
    holder.kill();
    let ran = waiter.end().ok();
    assert!(ran.stdout.contains("up m"), "{}", ran.stdout);
    let backend = place.migrated().await.unwrap();
    place::fold_holds(&backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m4_a_waiter_gives_up_and_names_the_frozen_holder() {
    let place = seeded().await;
    let (holder, pid) = frozen_migrator(&place).await;
    let begun = Instant::now();
    let ran = Running::start(&mut peer(["up", place.url(), "1500"])).end().ok();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let told = ran.stdout.lines().last().unwrap_or_default();
    assert!(
        told.starts_with("refused busy") && told.contains("a migration is in progress since 2"),
        "{told}"
    );
    assert!(told.contains(&format!("by process {pid}")), "{told}");
    process::signal(holder.id(), "CONT");
    assert!(holder.end().ok().stdout.contains("up m"));
}

#[tokio::test(flavor = "multi_thread")]
async fn m5_a_long_migration_keeps_its_lock_while_others_wait() {
    let role = shared().fresh_name("r");
    let schema = shared().fresh_name("s");
    shared()
        .sql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'word'; ALTER ROLE {role} SET idle_in_transaction_session_timeout = \
             '300ms'; ALTER ROLE {role} SET idle_session_timeout = '300ms'; ALTER ROLE {role} SET statement_timeout = \
             '5s'; CREATE SCHEMA {schema} AUTHORIZATION {role}; GRANT {role} TO CURRENT_USER"
        ))
        .await;
    let url = format!(
        "{}?persist_schema={schema}",
        shared().url_for(&role, "word", "postgres")
    );
    let place = Place::at(url);
    place.execute(seed::TABLES).await;
    let (holder, pid) = frozen_migrator(&place).await;
    let mut waiters: Vec<_> = (0..2)
        .map(|_| Running::start(&mut peer(["up", place.url()])))
        .collect();
    for waiter in &waiters {
        assert_eq!(waiter.line().as_deref(), Some("opened"));
    }
    // Far longer than the role's timeouts: this is the time in which somebody could lose something.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let holding = "SELECT CAST(pid AS text) FROM pg_locks WHERE locktype = 'advisory' AND granted";
    assert!(
        place.texts(holding).await.contains(&pid),
        "the holder has kept its lock"
    );
    assert!(
        waiters.iter_mut().all(Running::is_running),
        "the waiters still wait"
    );
    process::signal(holder.id(), "CONT");
    let mut done = Vec::new();
    for process in waiters.into_iter().chain([holder]) {
        let ran = process.end().ok();
        let line = ran.stdout.lines().last().unwrap_or_default().to_owned();
        let names = line
            .strip_prefix("up")
            .unwrap_or_else(|| panic!("{line} {}", ran.stderr));
        done.extend(names.split_whitespace().map(str::to_owned));
    }
    done.sort();
    assert_eq!(
        done,
        all_names(&place).await,
        "each migration was applied by one of them"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn m10_a_migration_gives_way_on_a_busy_table_and_tries_again() {
    let place = seeded().await;
    let schema = place.schema();
    let mut user = cluster::connect(&shared().url("postgres")).await;
    run(
        &mut user,
        &format!("BEGIN; LOCK TABLE {schema}.jobs IN ROW EXCLUSIVE MODE"),
    )
    .await;
    let migrator = Running::start(&mut peer(["up", place.url()]));
    let waits = format!(
        "SELECT CAST(a.xact_start AS text) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
         WHERE l.relation = '{schema}.jobs'::regclass AND NOT l.granted"
    );
    let waiting = async || place.texts(&waits).await.pop();
    process::until("the migrator waits for the table", async || {
        waiting().await.is_some()
    })
    .await;
    let first = waiting().await;
    process::until("it tries again", async || {
        waiting().await.is_some_and(|next| Some(next) != first)
    })
    .await;
    run(&mut user, "COMMIT").await;
    assert!(migrator.end().ok().stdout.contains("up m"));
}

/// The file's SQLite honours foreign keys: rows of others that refer to ours would go with a table that is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_others_that_refer_to_ours_survive_every_migration() {
    let place = Place::empty(Database::Sqlite);
    let backend = place.migrated().await.unwrap();
    let jobs = [1, 2].map(|n| sample::job(n, JobState::Queued));
    backend.apply(&sample::claims(jobs).unwrap()).await.unwrap();
    let schema = backend.schema().unwrap();
    let all = u32::try_from(schema.status().await.unwrap().migrations.len()).unwrap();
    place
        .execute(
            "CREATE TABLE notes (job BLOB REFERENCES JOBS(request_id) ON DELETE CASCADE, text TEXT); \
             INSERT INTO notes SELECT request_id, 'mine' FROM jobs",
        )
        .await;
    let down = Down::steps(all).confirmed(true);
    let error = schema.down(down).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{error}");
    for part in ["foreign key of table notes points at jobs", "nothing was changed"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(place.count("FROM notes").await, 2);
    assert_eq!(place.count("FROM jobs").await, 2);
    // Those that make no table anew went; and come back beside it.
    schema.up().await.unwrap();
    place::fold_holds(&backend).await;
    place.execute("DROP TABLE notes").await;
    schema.down(down).await.unwrap();
    backend.close().await.unwrap();
}
