//! The database of an earlier orchestrator becomes ours; a stranger's is left alone; and the way down and up again.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

mod strangers;

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use persist::{
    Down, Error, ErrorKind, EventQuery, Job, JobQuery, JobState, JobUpdate, Order, Persist, PersistBackend,
    PersistExt as _, StateTable, Update, Vm, VmQuery, VmState, VmUpdate,
};
use persist_tests::cluster::shared;
use persist_tests::place::{self, Database, Place};
use persist_tests::{sample, seed, shape};
use uuid::Uuid;

/// A schema with these tables and rows in it.
async fn with(statements: &[&str]) -> Place {
    let place = Place::empty(Database::Postgres);
    place.execute(&format!("CREATE SCHEMA {}", place.schema())).await;
    place.execute(&statements.join("\n")).await;
    place
}

async fn jobs(backend: &dyn PersistBackend) -> Vec<Job> {
    let query = JobQuery::default().order(Order::ById);
    backend.all_jobs(query).map(Result::unwrap).collect().await
}

async fn vms(backend: &dyn PersistBackend) -> Vec<Vm> {
    let query = VmQuery::default().order(Order::ById);
    backend.all_vms(query).map(Result::unwrap).collect().await
}

/// All that a stranger would see of their tables.
async fn content(place: &Place, tables: &[&str]) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for table in tables {
        all.push(
            place
                .texts(&format!("SELECT CAST(t AS text) FROM {table} t ORDER BY 1"))
                .await,
        );
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn m13_a_seed_database_is_adopted_without_its_migrators_records() {
    let place = with(&[seed::TABLES, seed::ROWS]).await;
    is_adopted(&place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m13_a_seed_database_is_adopted_beside_its_migrators_records() {
    let place = with(&[seed::TABLES, seed::ROWS, seed::RECORDS]).await;
    let records = content(&place, &["seaql_migrations"]).await;
    is_adopted(&place).await;
    assert_eq!(content(&place, &["seaql_migrations"]).await, records);
}

async fn is_adopted(place: &Place) {
    let persist = Persist::new(Some(place.url().into())).await.unwrap();
    assert!(persist.is_enabled());
    let backend = persist.backend();
    place::fold_holds(&backend).await;
    let jobs = jobs(&*backend).await;
    let states: Vec<_> = jobs
        .iter()
        .map(|job| (job.request_id.as_u128(), job.state))
        .collect();
    use JobState::{Cancelled, Failed, Lost, Queued, Running, Succeeded, TimedOut};
    let expected = [Queued, Running, Succeeded, Failed, Cancelled, TimedOut, Lost];
    assert_eq!(states, (1..).zip(expected).collect::<Vec<_>>());
    assert!(jobs.iter().all(|job| job.attempt.get() == 1));
    // Credentials are gone, empty text is absent, digits are lower case, times are whole.
    assert_eq!(jobs[1].repo_url.as_deref(), Some("https://example.org/b.git"));
    assert_eq!(
        (jobs[1].commit_sha.as_deref(), jobs[1].runs_on.as_deref()),
        (Some("abcd02"), None)
    );
    assert_eq!((&jobs[2].repo_url, &jobs[2].commit_sha), (&None, &None));
    assert_eq!(jobs[1].created_at.to_rfc3339(), "2025-01-01T00:00:02+00:00");
    assert_eq!(
        jobs[1].updated_at.to_rfc3339(),
        "2025-01-01T01:00:02.123456+00:00"
    );
    let vms = vms(&*backend).await;
    let states: Vec<_> = vms
        .iter()
        .map(|vm| (vm.request_id.as_u128(), vm.state, vm.attempt.get()))
        .collect();
    let expected = [
        VmState::Prepared,
        VmState::Running,
        VmState::Stopped,
        VmState::Failed,
    ];
    let expected = (1..)
        .zip(expected)
        .map(|(id, state)| (id, state, 1))
        .chain([(5, VmState::Destroyed, 2)]);
    assert_eq!(states, expected.collect::<Vec<_>>());
    assert_eq!(
        (vms[2].backend.as_deref(), vms[2].seed_path.as_deref()),
        (None, None)
    );
    // Of the doubled VM the later row is the second start, and the first start is history.
    assert_eq!(
        (vms[4].backend.as_deref(), vms[4].overlay_path.as_deref()),
        (Some("bhyve"), Some("/second"))
    );
    let history: Vec<_> = backend
        .all_events(EventQuery::default())
        .map(Result::unwrap)
        .collect()
        .await;
    assert!(
        history
            .iter()
            .all(|event| event.actor.as_deref() == Some("persist:adopted"))
    );
    let of_fifth = history
        .iter()
        .filter(|event| event.subject.domain_name() == "vm-5");
    let ranks: Vec<_> = of_fifth
        .map(|event| (event.attempt().get(), event.state.name()))
        .collect();
    assert_eq!(
        ranks,
        [(1, "prepared"), (1, "failed"), (2, "prepared"), (2, "destroyed")]
    );
    // A slot at its beginning for each row, and one for the state where it is further than that.
    assert_eq!(history.len(), 7 + 6 + 6 + 5);
    let export = place.export().await.unwrap().join("\n");
    assert!(!export.contains("hunter2") && !export.contains("me:"), "{export}");
    // It goes on from where it was.
    let again = JobUpdate::new(Uuid::from_u128(2), Succeeded).at(sample::at(0));
    assert_eq!(persist.record_job_state(again).await.unwrap(), sample::MOVED);
    let again = Persist::new(Some(place.url().into())).await.unwrap();
    assert!(again.is_enabled());
}

#[tokio::test(flavor = "multi_thread")]
async fn m13_values_that_cannot_be_adopted_stop_it_with_a_list_and_nothing_changed() {
    let wrong = "
        INSERT INTO jobs SELECT gen_random_uuid(), 'https://example.org/x', 'abcd', NULL, 'exploded', now(), now()
          FROM generate_series(1, 3);
        INSERT INTO jobs SELECT gen_random_uuid(), '', '', NULL, 'queued', 'infinity', 'infinity';
        INSERT INTO jobs SELECT gen_random_uuid(), '', '', NULL, 'lost', '2025-01-01', '12000-01-01';
        INSERT INTO vms SELECT gen_random_uuid(), '', NULL, NULL, 'libvirt', 'running', now(), now();
        ALTER TABLE vms ALTER domain_name DROP NOT NULL, ALTER request_id DROP NOT NULL;
        INSERT INTO vms SELECT gen_random_uuid(), NULL, NULL, NULL, 'libvirt', 'running', now(), now();
        INSERT INTO vms SELECT NULL, 'vm', NULL, NULL, 'libvirt', 'running', now(), now();
        INSERT INTO vms SELECT gen_random_uuid(), 'vm', NULL, NULL, 'libvirt', 'paused', now(), now()
          FROM generate_series(1, 2);";
    let place = with(&[seed::TABLES, seed::ROWS, seed::RECORDS, wrong]).await;
    let tables = ["jobs", "vms", "seaql_migrations"];
    let (shape_before, before) = (shape::of(&place).await, content(&place, &tables).await);
    for _ in 0..2 {
        let error = refused(&place).await;
        assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{error}");
        let text = error.to_string();
        let parts = [
            "jobs.state \"exploded\" is unknown (3 rows)",
            "jobs.created_at",
            "jobs.updated_at",
            "vms.domain_name: must not be empty (2 rows)",
            "vms.request_id",
            "vms.state \"paused\" is unknown (2 rows)",
        ];
        for part in parts {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        assert_eq!(content(&place, &tables).await, before, "no row was changed");
        let shape = shape::of(&place).await;
        for (name, table) in &shape_before {
            assert_eq!(shape.get(name), Some(table), "{name} was not changed");
        }
        assert!(!shape.contains_key("events"), "{:?}", shape.keys());
    }
    // Once the values are right, it goes on.
    let repair = "DELETE FROM jobs WHERE state = 'exploded' OR updated_at > '10000-01-01'; \
                  DELETE FROM vms WHERE state = 'paused' OR coalesce(domain_name, '') = '' OR request_id IS NULL";
    place.execute(repair).await;
    is_adopted(&place).await;
}

async fn refused(place: &Place) -> Error {
    place.migrated().await.map(drop).expect_err("is refused")
}

#[tokio::test(flavor = "multi_thread")]
async fn m14_a_strangers_jobs_table_is_left_alone() {
    let tables = "CREATE TABLE jobs (id serial PRIMARY KEY, title text, state integer, request_id uuid);
                  INSERT INTO jobs (title, state) VALUES ('baker', 1), ('smith', 2);";
    let place = with(&[tables]).await;
    let (shape_before, before) = (shape::of(&place).await, content(&place, &["jobs"]).await);
    let error = refused(&place).await;
    assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{error}");
    for part in [
        "jobs.title",
        "jobs.id",
        "jobs.repo_url is missing",
        "jobs.state is integer",
        "vms",
        "persist_schema",
    ] {
        assert!(error.to_string().contains(part), "{part} is not in: {error}");
    }
    let persist = Persist::new(Some(place.url().into())).await.unwrap();
    assert!(!persist.is_enabled());
    persist.close().await.unwrap();
    assert_eq!(
        shape::of(&place).await,
        shape_before,
        "nothing was altered, nothing was added"
    );
    assert_eq!(content(&place, &["jobs"]).await, before);
    // Beside it, in a schema of our own, everything works.
    let beside = Place::at(shared().fresh_schema_url());
    assert!(
        Persist::new(Some(beside.url().into()))
            .await
            .unwrap()
            .is_enabled()
    );
}

/// Jobs and VMs in every state, with and without attributes, some in their second attempt.
fn every_state() -> Vec<Update> {
    let mut updates: Vec<Update> = Vec::new();
    for (n, (spec, attempt)) in (1..).zip(JobState::TABLE.iter().flat_map(|spec| [(spec, 1), (spec, 2)])) {
        let begun = JobUpdate::new(sample::id(n), JobState::Queued).at(sample::micros(n as i64));
        updates.push(
            if attempt == 1 {
                begun.commit_sha("abcd").runs_on("small")
            } else {
                begun
            }
            .into(),
        );
        updates.push(
            JobUpdate::new(sample::id(n), spec.state)
                .attempt(attempt)
                .at(sample::at(n as i64))
                .into(),
        );
    }
    for (n, (spec, attempt)) in (1..).zip(VmState::TABLE.iter().flat_map(|spec| [(spec, 1), (spec, 2)])) {
        let begun = VmUpdate::new(sample::id(n), "vm", VmState::Prepared).at(sample::micros(n as i64));
        updates.push(
            if attempt == 1 {
                begun.backend("libvirt").seed_path("/s")
            } else {
                begun
            }
            .into(),
        );
        let update = VmUpdate::new(sample::id(n), "vm", spec.state)
            .attempt(attempt)
            .at(sample::at(n as i64));
        updates.push(update.overlay_path(format!("/o/{n}")).into());
    }
    updates
}

#[tokio::test(flavor = "multi_thread")]
async fn m11_down_and_up_again_keeps_the_meaning_and_both_databases_agree() {
    let mut exports = BTreeMap::new();
    for database in Database::BOTH {
        let place = Place::empty(database);
        let backend = place.migrated().await.unwrap();
        let shape_before = shape::of(&place).await;
        backend
            .apply(&sample::claims(every_state()).unwrap())
            .await
            .unwrap();
        let (jobs_before, vms_before) = (jobs(&*backend).await, vms(&*backend).await);
        let schema = backend.schema().unwrap();
        let all = schema.status().await.unwrap().migrations.len();
        // History goes only with a yes.
        let steps = Down::steps(all as u32 - 1);
        let error = schema.down(steps).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert_eq!(
            jobs(&*backend).await,
            jobs_before,
            "nothing was done without a yes"
        );
        assert_eq!(schema.down(steps.confirmed(true)).await.unwrap().len(), all - 1);
        // What is left is the seed: its columns, and no nulls where it had none.
        let nulls = "FROM jobs WHERE repo_url IS NULL OR commit_sha IS NULL";
        assert_eq!(place.count(nulls).await, 0);
        assert_eq!(place.count("FROM jobs").await, jobs_before.len() as u64);
        assert_eq!(place.count("FROM vms").await, vms_before.len() as u64);
        let left = shape::of(&place).await;
        assert_eq!(
            left.keys().collect::<Vec<_>>(),
            ["jobs", "persist_migrations", "vms"]
        );
        assert!(!left["jobs"].columns.contains_key("rank") && !left["vms"].columns.contains_key("ending"));
        assert_eq!(schema.up().await.unwrap().len(), all - 1);
        assert_eq!(shape::of(&place).await, shape_before, "{database:?}");
        place::fold_holds(&backend).await;
        let after = jobs(&*backend).await;
        assert_eq!(
            after,
            jobs_before.into_iter().map(adopted_job).collect::<Vec<_>>(),
            "{database:?}"
        );
        let after = vms(&*backend).await;
        assert_eq!(
            after,
            vms_before.into_iter().map(adopted_vm).collect::<Vec<_>>(),
            "{database:?}"
        );
        exports.insert(format!("{database:?}"), place.export().await.unwrap());
        // The whole way down takes the tables that are our own.
        schema.down(Down::all().confirmed(true)).await.unwrap();
        assert_eq!(shape::of(&place).await, shape::Shape::new(), "{database:?}");
    }
    assert_eq!(exports["Sqlite"], exports["Postgres"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn m11_tables_that_were_adopted_stay_on_the_whole_way_down() {
    let place = with(&[seed::TABLES, seed::ROWS, seed::RECORDS]).await;
    let backend = place.migrated().await.unwrap();
    let schema = backend.schema().unwrap();
    schema.down(Down::all().confirmed(true)).await.unwrap();
    assert_eq!(
        shape::of(&place).await.keys().collect::<Vec<_>>(),
        ["jobs", "seaql_migrations", "vms"]
    );
    assert_eq!(place.count("FROM jobs").await, 7);
    schema.up().await.unwrap();
    place::fold_holds(&backend).await;
}

/// What is kept of a job: its state and attributes, and its times as far as two slots can tell them.
fn adopted_job(mut job: Job) -> Job {
    job.attempt = persist::Attempt::FIRST;
    if job.state == JobState::Queued {
        job.updated_at = job.created_at;
    }
    job
}

fn adopted_vm(mut vm: Vm) -> Vm {
    vm.attempt = persist::Attempt::FIRST;
    if vm.state == VmState::Prepared {
        vm.updated_at = vm.created_at;
    }
    vm
}

#[tokio::test(flavor = "multi_thread")]
async fn m14_tables_with_other_keys_are_left_alone() {
    let keys = "ALTER TABLE jobs DROP CONSTRAINT jobs_pkey; ALTER TABLE vms ADD PRIMARY KEY (domain_name)";
    let place = with(&[seed::TABLES, keys]).await;
    let before = shape::of(&place).await;
    let error = refused(&place).await;
    assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{error}");
    for part in [
        "primary key of jobs",
        "vms has a primary key",
        "nothing was changed",
    ] {
        assert!(error.to_string().contains(part), "{part} is not in: {error}");
    }
    assert_eq!(shape::of(&place).await, before);
}
