//! Schemas that are newer or older than the program. Numbers are those of the table of failures.

mod edited;
mod peer;

use std::time::{Duration, Instant};

use persist::{ErrorKind, JobQuery, JobState, OnUnavailable, Order, Outcome, Persist};
use persist_tests::cluster::shared;
use persist_tests::place::{Database, Place};
use persist_tests::process::{self, Running};
use persist_tests::{sample, shape};

use peer::peer;

#[tokio::test(flavor = "multi_thread")]
async fn m7_a_newer_database_is_used_where_it_allows_and_refused_where_not() {
    for database in Database::BOTH {
        let place = Place::empty(database);
        place.migrated().await.unwrap().close().await.unwrap();
        place
            .execute(
                "INSERT INTO persist_migrations (name, applied_at) \
                 SELECT 'm99991231_000001_future', max(applied_at) FROM persist_migrations",
            )
            .await;
        // Compatible: it works, and migrates nothing.
        let persist = Persist::builder(Some(place.url().into())).on_unavailable(OnUnavailable::Fail);
        let persist = persist.connect().await.unwrap();
        let outcome = persist
            .record_job_state(sample::job(1, JobState::Queued))
            .await
            .unwrap();
        assert_eq!(outcome, sample::CREATED);
        persist.close().await.unwrap();
        let backend = place.migrated().await.unwrap();
        let status = backend.schema().unwrap().status().await.unwrap();
        assert!(status.pending().is_empty() && status.migrations.last().is_some_and(|newest| !newest.known));
        backend.close().await.unwrap();
        // Not compatible: each way of starting says so at once, and says which version it takes.
        place
            .execute("UPDATE persist_meta SET value = '999' WHERE key IN ('min_reader', 'min_writer')")
            .await;
        for policy in [
            OnUnavailable::Fail,
            OnUnavailable::Retry {
                within: process::BOUND,
            },
        ] {
            let begun = Instant::now();
            let refused = Persist::builder(Some(place.url().into()))
                .on_unavailable(policy)
                .connect()
                .await;
            let error = refused.map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{database:?}: {error}");
            assert!(error.to_string().contains("999"), "{database:?}: {error}");
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        }
        let ran = Running::start(&mut peer(["start", place.url()])).end();
        assert!(ran.stdout.contains("enabled false"), "{}", ran.stdout);
        assert!(
            ran.stdout.contains("last error schema_mismatch"),
            "{}",
            ran.stdout
        );
        assert!(
            ran.stderr.contains("ERROR") && ran.stderr.contains("999"),
            "not in silence: {}",
            ran.stderr
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m8_without_the_right_to_create_the_error_says_what_to_run() {
    let role = shared().fresh_name("r");
    let owner = Place::empty(Database::Postgres);
    let schema = owner.schema();
    let may_use = format!(
        "GRANT USAGE ON SCHEMA {schema} TO {role}; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}; \
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}"
    );
    shared()
        .sql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'word'; CREATE SCHEMA {schema}; {may_use}"
        ))
        .await;
    let url = format!(
        "{}?persist_schema={schema}",
        shared().url_for(&role, "word", "postgres")
    );
    let connect = async |migrate| {
        let builder = Persist::builder(Some(url.clone())).on_unavailable(OnUnavailable::Fail);
        builder.migrate(migrate).connect().await
    };
    let refused = async |migrate, kind, words: &[&str]| {
        let error = connect(migrate).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{word}: {error}");
        }
    };
    refused(false, ErrorKind::SchemaMismatch, &["persist migrate up"]).await;
    refused(true, ErrorKind::Auth, &["GRANT", &schema]).await;
    assert_eq!(shape::of(&owner).await, shape::Shape::new(), "nothing was made");
    let backend = owner.migrated().await.unwrap();
    // The newest four are optional.
    let down = persist::Down::steps(5).confirmed(true);
    backend.schema().unwrap().down(down).await.unwrap();
    shared().sql(&may_use).await;
    let older = shape::of(&owner).await;
    refused(false, ErrorKind::SchemaMismatch, &["persist migrate up"]).await;
    refused(true, ErrorKind::SchemaMismatch, &["owner", "persist migrate up"]).await;
    assert_eq!(shape::of(&owner).await, older, "nothing was changed");
    // Also with the right to create, which is not that of an owner.
    shared()
        .sql(&format!("GRANT CREATE ON SCHEMA {schema} TO {role}"))
        .await;
    refused(true, ErrorKind::SchemaMismatch, &["owner", "persist migrate up"]).await;
    assert_eq!(shape::of(&owner).await, older, "nothing was changed");
    // On the schema of today the role needs no more than it has.
    backend.schema().unwrap().up().await.unwrap();
    shared().sql(&may_use).await;
    let persist = connect(true).await.unwrap();
    let outcome = persist
        .record_job_state(sample::job(1, JobState::Running))
        .await
        .unwrap();
    assert_eq!(outcome, Outcome::Applied { created: true });
}

#[tokio::test(flavor = "multi_thread")]
async fn m8_without_the_right_to_change_it_down_says_who_can() {
    let owner = Place::empty(Database::Postgres);
    owner.migrated().await.unwrap();
    let (role, schema) = (shared().fresh_name("r"), owner.schema());
    shared()
        .sql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'word'; GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}; \
             GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}"
        ))
        .await;
    let other = Place::at(format!(
        "{}?persist_schema={schema}",
        shared().url_for(&role, "word", "postgres")
    ));
    let before = shape::of(&owner).await;
    let backend = other.open().await.unwrap();
    let down = persist::Down::steps(1).confirmed(true);
    let error = backend.schema().unwrap().down(down).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
    let text = error.to_string();
    assert!(
        text.contains("owner must run persist migrate down") && !text.contains("older"),
        "{text}"
    );
    assert_eq!(shape::of(&owner).await, before, "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_a_state_that_this_program_does_not_know_is_named_and_other_pages_go_on() {
    for database in Database::BOTH {
        let place = Place::empty(database);
        let backend = place.migrated().await.unwrap();
        let claims = sample::claims((1..=3).map(|n| sample::job(n, JobState::Queued))).unwrap();
        backend.apply(&claims).await.unwrap();
        // As a newer program would write it, which the constraint of its schema allows.
        let (allow, id) = match database {
            Database::Postgres => ("ALTER TABLE jobs DROP CONSTRAINT jobs_state; ", "'{id}'"),
            Database::Sqlite => ("PRAGMA ignore_check_constraints = ON; ", "x'{id}'"),
        };
        let strange = sample::id(2);
        let id = id.replace("{id}", &strange.simple().to_string());
        let write = format!("{allow}UPDATE jobs SET state = 'paused\u{1b}' WHERE request_id = {id}");
        place.execute(&write).await;
        let query = JobQuery::default().order(Order::ById).limit(1);
        let first = backend.jobs(&query).await.unwrap();
        assert_eq!(first.items[0].request_id, sample::id(1));
        let error = backend.jobs(&query.clone().after(first.next)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{database:?}: {error}");
        let text = error.to_string();
        for part in ["jobs.state", &strange.to_string(), "paused\\u{1b}", "upgrade"] {
            assert!(text.contains(part), "{database:?}: {part} is not in: {text}");
        }
        assert_eq!(
            backend.job(strange).await.unwrap_err().kind(),
            ErrorKind::SchemaMismatch
        );
        let behind = query
            .clone()
            .ids(persist::IdRange::new(Some(sample::id(3)), None));
        assert_eq!(
            backend.jobs(&behind).await.unwrap().items[0].request_id,
            sample::id(3)
        );
        // Updates of other jobs are not held up by it.
        let outcome = backend
            .apply(&sample::claims([sample::job(1, JobState::Running)]).unwrap())
            .await;
        assert_eq!(outcome.unwrap(), [sample::MOVED]);
        backend.close().await.unwrap();
    }
}
