//! What is sent again, how often, and on which connection.

use std::sync::Arc;

use persist::{OpenOptions, PersistBackend, Prune, Retry, UpdateOutcome};
use persist_tests::place::Place;
use sqlx::PgConnection;

use super::*;

/// A bare handle onto a migrated schema, and the name of its connections.
async fn store(url: String, connections: u32) -> (Place, Arc<dyn PersistBackend>, String) {
    let place = Place::at(url);
    place.migrated().await.unwrap().close().await.unwrap();
    let name = shared().fresh_name("a");
    let mut options = OpenOptions::default();
    (options.deadlines, options.connections) = (sample::deadlines(process::BOUND), Some(connections));
    let url = format!("{}&application_name={name}", place.url());
    let backend = persist::open(&url.parse().unwrap(), &options).await.unwrap();
    (place, backend, name)
}

/// Makes statements that do this to this table fail with this code, the first so many; counts them all.
async fn fails(place: &Place, event: &str, table: &str, code: &str, times: u32) {
    let schema = place.schema();
    place
        .execute(&format!(
            "CREATE SEQUENCE IF NOT EXISTS tries; \
             CREATE OR REPLACE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF nextval('{schema}.tries') <= {times} THEN RAISE EXCEPTION USING ERRCODE = '{code}'; END IF; \
             RETURN NULL; END $$; \
             CREATE OR REPLACE TRIGGER fails BEFORE {event} ON {table} EXECUTE FUNCTION fails(); \
             ALTER SEQUENCE tries RESTART"
        ))
        .await;
}

/// How many of those statements there were.
async fn tries(place: &Place) -> u32 {
    let count = "SELECT CAST(CASE WHEN is_called THEN last_value ELSE 0 END AS text) FROM tries";
    place.texts(count).await[0].parse().unwrap()
}

async fn apply(backend: &Arc<dyn PersistBackend>, n: u64) -> Result<Vec<persist::Outcome>, Error> {
    let claims = sample::claims([sample::job(n, JobState::Queued)]).unwrap();
    backend.apply(&claims).await
}

async fn execute(connection: &mut PgConnection, statements: String) {
    let statements = sqlx::raw_sql(sqlx::AssertSqlSafe(statements));
    sqlx::Executor::execute(connection, statements).await.unwrap();
}

/// The server process of one of these connections that waits for a lock, other than this one.
async fn waiting(place: &Place, name: &str, other_than: &str) -> String {
    let waits = format!(
        "SELECT CAST(pid AS text) FROM pg_stat_activity WHERE application_name = '{name}' \
         AND wait_event_type = 'Lock' AND CAST(pid AS text) <> '{other_than}'"
    );
    let mut found = None;
    process::until("a statement waits for the lock", async || {
        found = place.texts(&waits).await.pop();
        found.is_some()
    })
    .await;
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn t2_a_statement_that_gave_way_is_sent_again_and_again_within_a_budget() {
    let (place, backend, _) = store(shared().fresh_schema_url(), 1).await;
    for (n, code) in [(1, "40001"), (2, "40P01")] {
        fails(&place, "INSERT", "events", code, 3).await;
        assert_eq!(apply(&backend, n).await.unwrap(), [sample::CREATED], "{code}");
        assert_eq!(tries(&place).await, 4, "{code}");
        fails(&place, "INSERT", "events", code, 1_000).await;
        let error = apply(&backend, 9).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome()),
            (ErrorKind::Busy, UpdateOutcome::NotApplied),
            "{error:?}"
        );
        assert_eq!(tries(&place).await, 21, "{code}");
    }
    backend.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn t2_a_deadlock_with_another_program_costs_no_call_an_error() {
    let (role, schema) = (shared().fresh_name("r"), shared().fresh_name("s"));
    // The one whose time is up first gives way: ours, long after the other one waits too.
    shared()
        .sql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'word'; ALTER ROLE {role} SET deadlock_timeout = '5s'; \
             CREATE SCHEMA {schema} AUTHORIZATION {role}; GRANT {role} TO CURRENT_USER"
        ))
        .await;
    let url = shared().url_for(&role, "word", "postgres");
    let (place, backend, name) = store(format!("{url}?persist_schema={schema}"), 1).await;
    let (first, second) = (sample::id(1), sample::id(2));
    let both = |state| sample::claims([1, 2].map(|n| sample::job(n, state))).unwrap();
    backend.apply(&both(JobState::Queued)).await.unwrap();
    let mut other = cluster::connect(&shared().url("postgres")).await;
    let hold = format!("UPDATE {schema}.jobs SET state = state WHERE request_id =");
    let begin = format!("BEGIN; SET LOCAL deadlock_timeout = '1h'; {hold} '{second}'");
    execute(&mut other, begin).await;
    let call = tokio::spawn({
        let (backend, claims) = (Arc::clone(&backend), both(JobState::Running));
        async move { backend.apply(&claims).await }
    });
    let observer = Place::at(shared().fresh_schema_url());
    waiting(&observer, &name, "").await;
    execute(&mut other, format!("{hold} '{first}'")).await;
    assert!(!call.is_finished(), "it gave way, and waits again");
    execute(&mut other, "COMMIT".into()).await;
    let outcomes = call.await.unwrap().unwrap();
    assert_eq!(outcomes, [sample::MOVED, sample::MOVED]);
    assert_eq!(place.strays().await, [""; 0]);
    backend.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn t2_a_stricter_isolation_costs_no_call_an_error() {
    let (role, schema) = (shared().fresh_name("r"), shared().fresh_name("s"));
    shared()
        .sql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'word'; \
             ALTER ROLE {role} SET default_transaction_isolation = 'repeatable read'; \
             CREATE SCHEMA {schema} AUTHORIZATION {role}; GRANT {role} TO CURRENT_USER"
        ))
        .await;
    let url = shared().url_for(&role, "word", "postgres");
    let (place, backend, name) = store(format!("{url}?persist_schema={schema}"), 1).await;
    apply(&backend, 1).await.unwrap();
    let mut other = cluster::connect(&shared().url("postgres")).await;
    let hold = format!("BEGIN; UPDATE {schema}.jobs SET state = state");
    execute(&mut other, hold).await;
    let call = tokio::spawn({
        let backend = Arc::clone(&backend);
        let claims = sample::claims([sample::job(1, JobState::Running)]).unwrap();
        async move { backend.apply(&claims).await }
    });
    let observer = Place::at(shared().fresh_schema_url());
    waiting(&observer, &name, "").await;
    execute(&mut other, "COMMIT".into()).await;
    assert_eq!(call.await.unwrap().unwrap(), [sample::MOVED]);
    assert_eq!(place.strays().await, [""; 0]);
    backend.close().await.unwrap();
}

/// A constraint of the owner's own, which no check of ours knows.
#[tokio::test(flavor = "multi_thread")]
async fn t7_what_the_database_refuses_fails_for_its_own_caller_alone() {
    let (place, backend, _) = store(shared().fresh_schema_url(), 1).await;
    place
        .execute("ALTER TABLE jobs ADD CONSTRAINT no_poison CHECK (runs_on <> 'poison')")
        .await;
    let go = Arc::new(tokio::sync::Barrier::new(64));
    let calls: Vec<_> = (1..=64)
        .map(|n| {
            let (backend, go) = (Arc::clone(&backend), Arc::clone(&go));
            tokio::spawn(async move {
                let runs_on = if n % 32 == 7 { "poison" } else { "ubuntu" };
                let claims = sample::claims([sample::job(n, JobState::Queued).runs_on(runs_on)]).unwrap();
                go.wait().await;
                (n, backend.apply(&claims).await)
            })
        })
        .collect();
    for call in calls {
        let (n, result) = call.await.unwrap();
        if n % 32 == 7 {
            let error = result.unwrap_err();
            assert_eq!(
                (error.kind(), error.outcome(), error.context("sqlstate")),
                (ErrorKind::InvalidInput, UpdateOutcome::NotApplied, Some("23514")),
                "{n}: {error:?}"
            );
        } else {
            assert_eq!(result.unwrap(), [sample::CREATED], "{n}");
        }
    }
    for table in ["jobs", "events"] {
        assert_eq!(place.count(&format!("FROM {table}")).await, 62, "{table}");
    }
    backend.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn t4_a_cancelled_statement_is_sent_once_more_and_no_more() {
    let (place, backend, name) = store(shared().fresh_schema_url(), 2).await;
    let schema = place.schema();
    let mut other = cluster::connect(place.url()).await;
    for (n, cancels) in [(1, 1), (2, 2)] {
        execute(
            &mut other,
            format!("BEGIN; LOCK TABLE {schema}.events IN ACCESS EXCLUSIVE MODE"),
        )
        .await;
        let call = tokio::spawn({
            let backend = Arc::clone(&backend);
            async move { apply(&backend, n).await }
        });
        let mut pid = waiting(&place, &name, "").await;
        shared().sql(&format!("SELECT pg_cancel_backend({pid})")).await;
        pid = waiting(&place, &name, &pid).await;
        if cancels == 2 {
            shared().sql(&format!("SELECT pg_cancel_backend({pid})")).await;
            let error = call.await.unwrap().unwrap_err();
            assert_eq!(
                (error.kind(), error.outcome()),
                (ErrorKind::Timeout, UpdateOutcome::NotApplied),
                "{error:?}"
            );
            execute(&mut other, "ROLLBACK".into()).await;
        } else {
            execute(&mut other, "ROLLBACK".into()).await;
            assert_eq!(call.await.unwrap().unwrap(), [sample::CREATED]);
        }
    }
    assert_eq!(place.count("FROM events").await, 1);
    backend.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn t4_what_a_first_wave_stored_stays_unknown_when_no_connection_is_left() {
    let (role, schema) = (shared().fresh_name("r"), shared().fresh_name("s"));
    shared()
        .sql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'word'; CREATE SCHEMA {schema} AUTHORIZATION {role}"
        ))
        .await;
    let url = shared().url_for(&role, "word", "postgres");
    let (place, backend, name) = store(format!("{url}?persist_schema={schema}"), 1).await;
    // The first wave claims a slot; the second fills it, and waits for another writer of the next one.
    let queued = sample::job(1, JobState::Queued);
    let updates = [
        queued.clone(),
        queued.commit_sha("abcd"),
        sample::job(1, JobState::Running),
    ];
    let claims = sample::claims(updates).unwrap();
    let mut other = cluster::connect(&shared().url("postgres")).await;
    execute(
        &mut other,
        format!(
            "BEGIN; INSERT INTO {schema}.events (request_id, domain_name, rank, state, at) \
             VALUES ('{}', '', {}, 'running', now())",
            sample::id(1),
            claims[2].rank().get()
        ),
    )
    .await;
    let call = tokio::spawn({
        let backend = Arc::clone(&backend);
        async move { backend.apply(&claims).await }
    });
    let observer = Place::at(format!("{}?persist_schema={schema}", shared().url("postgres")));
    let pid = waiting(&observer, &name, "").await;
    shared()
        .sql(&format!("ALTER ROLE {role} CONNECTION LIMIT 0"))
        .await;
    shared().sql(&format!("SELECT pg_cancel_backend({pid})")).await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.context("sqlstate"), Some("53300"), "{error:?}");
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::Unavailable, UpdateOutcome::Unknown),
        "{error:?}"
    );
    assert_eq!(observer.count("FROM events").await, 1, "it was stored");
    execute(&mut other, "ROLLBACK".into()).await;
    shared()
        .sql(&format!("ALTER ROLE {role} CONNECTION LIMIT -1"))
        .await;
    assert_eq!(place.strays().await, [""; 0]);
    backend.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_statements_are_prepared_on_one_new_connection_and_then_told() {
    let (place, backend, _) = store(shared().fresh_schema_url(), 2).await;
    for code in ["26000", "42P05"] {
        fails(&place, "INSERT", "events", code, 1).await;
        let n = u64::from(code == "26000");
        assert_eq!(apply(&backend, n).await.unwrap(), [sample::CREATED], "{code}");
        assert_eq!(tries(&place).await, 2, "{code}");
        fails(&place, "INSERT", "events", code, 1_000).await;
        let error = apply(&backend, 9).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.retry(), error.outcome()),
            (ErrorKind::Unavailable, Retry::Never, UpdateOutcome::NotApplied),
            "{error:?}"
        );
        assert!(
            error.to_string().contains("persist_pooler=transaction"),
            "{error}"
        );
        assert_eq!(tries(&place).await, 2, "{code}");
    }
    // The same for a statement whose plan is of before a change.
    backend.health().await.unwrap();
    place
        .execute("ALTER TABLE persist_meta ALTER value TYPE varchar")
        .await;
    backend.health().await.unwrap();
    backend.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn r1_calls_again_do_not_outgrow_the_pool() {
    let (place, backend, name) = store(shared().fresh_schema_url(), 1).await;
    let connections = format!("FROM pg_stat_activity WHERE application_name = '{name}'");
    let ended = sample::claims([sample::job(1, JobState::Succeeded)]).unwrap();
    backend.apply(&ended).await.unwrap();
    fails(&place, "DELETE", "jobs", "40001", 1_000).await;
    // An old connection that died asks for a new one, and what follows is answered on that.
    shared()
        .sql(&format!("SELECT pg_terminate_backend(pid) {connections}"))
        .await;
    process::until("it was ended", async || place.count(&connections).await == 0).await;
    let prune = Prune::default().ids([sample::id(1)]);
    let error = backend.prune(&prune).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error:?}");
    assert_eq!(tries(&place).await, 21);
    assert_eq!(place.count(&connections).await, 1);
    backend.close().await.unwrap();
}

// On one thread, so that the second call surely queues before the first comes back for another connection.
#[tokio::test]
async fn r1_a_new_connection_takes_the_place_of_one_that_is_kept() {
    let (place, backend, name) = store(shared().fresh_schema_url(), 1).await;
    let ended = [1, 2].map(|n| sample::job(n, JobState::Succeeded));
    let recorder = place.migrated().await.unwrap();
    recorder.apply(&sample::claims(ended).unwrap()).await.unwrap();
    recorder.close().await.unwrap();
    fails(&place, "DELETE", "jobs", "26000", 1).await;
    let mut other = cluster::connect(place.url()).await;
    let lock = format!(
        "BEGIN; LOCK TABLE {}.jobs IN ACCESS EXCLUSIVE MODE",
        place.schema()
    );
    execute(&mut other, lock).await;
    let call = |n| {
        let backend = Arc::clone(&backend);
        tokio::spawn(async move { backend.prune(&Prune::default().ids([sample::id(n)])).await })
    };
    let first = call(1);
    waiting(&place, &name, "").await;
    let second = call(2);
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
    execute(&mut other, "ROLLBACK".into()).await;
    for call in [first, second] {
        assert_eq!(call.await.unwrap().unwrap().jobs, 1);
    }
    assert_eq!(tries(&place).await, 3, "the first of them failed");
    let connections = format!("FROM pg_stat_activity WHERE application_name = '{name}'");
    assert_eq!(place.count(&connections).await, 1);
    backend.close().await.unwrap();
}

/// The server ends every session that rests; none of ours ever rests inside of a transaction.
#[tokio::test(flavor = "multi_thread")]
async fn t5_sessions_that_the_server_ends_between_calls_cost_no_call_an_error() {
    let (role, schema) = (shared().fresh_name("r"), shared().fresh_name("s"));
    let statements = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'word'; ALTER ROLE {role} SET idle_session_timeout = '200ms'; \
         CREATE SCHEMA {schema} AUTHORIZATION {role}; GRANT {role} TO CURRENT_USER"
    );
    shared().sql(&statements).await;
    let url = shared().url_for(&role, "word", "postgres");
    let (place, backend, name) = store(format!("{url}?persist_schema={schema}"), 2).await;
    let admin = Place::at(shared().fresh_schema_url());
    let sessions =
        format!("SELECT state FROM pg_stat_activity WHERE application_name = '{name}' AND state IS NOT NULL");
    let prune = Prune::default().ids([sample::id(99)]);
    for n in 1..=3 {
        apply(&backend, n).await.unwrap();
        assert!(backend.job(sample::id(n)).await.unwrap().is_some());
        backend.prune(&prune).await.unwrap();
        process::until("all sessions have ended", async || {
            let states = admin.texts(&sessions).await;
            assert!(
                !states.iter().any(|state| state.starts_with("idle in")),
                "{states:?}"
            );
            states.is_empty()
        })
        .await;
    }
    assert_eq!(place.count("FROM events").await, 3);
    backend.close().await.unwrap();
}
