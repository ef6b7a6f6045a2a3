//! Schemas and rows that somebody edited by hand, under calls that meet them.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use persist::{
    ErrorKind, EventQuery, JobQuery, JobState, Order, PersistBackend, Prune, UpdateOutcome, VmKey, VmQuery,
    VmState,
};
use persist_core::sql::named_columns;
use persist_tests::place::{self, Database, Place};
use persist_tests::sample;

#[tokio::test(flavor = "multi_thread")]
async fn i6_a_row_of_an_unknown_state_does_not_deny_what_was_stored() {
    let place = Place::empty(Database::Postgres);
    let backend = place.migrated().await.unwrap();
    let apply = async |update| backend.apply(&sample::claims([update]).unwrap()).await;
    apply(sample::job(1, JobState::Succeeded)).await.unwrap();
    place
        .execute("ALTER TABLE jobs DROP CONSTRAINT jobs_state; UPDATE jobs SET state = 'paused'")
        .await;
    // Late: the slot is claimed, and the row comes back with the word that a newer program wrote.
    let error = apply(sample::job(1, JobState::Running)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{error}");
    assert_eq!(place.count("FROM events WHERE state = 'running'").await, 1);
    assert_eq!(error.outcome(), UpdateOutcome::Unknown, "it was committed");
    backend.close().await.unwrap();
}

#[tokio::test]
async fn i6_a_row_of_an_unknown_state_fails_for_its_own_readers() {
    let place = Place::empty(Database::Postgres);
    let backend = place.migrated().await.unwrap();
    let jobs = (0..20).map(|n| sample::job(n, JobState::Queued));
    backend.apply(&sample::claims(jobs).unwrap()).await.unwrap();
    let vms = (0..20).map(|n| sample::vm(n, "vm", VmState::Running));
    backend.apply(&sample::claims(vms).unwrap()).await.unwrap();
    for table in ["jobs", "vms"] {
        let id = sample::id(13);
        place
            .execute(&format!(
                "ALTER TABLE {table} DROP CONSTRAINT {table}_state; \
                 UPDATE {table} SET state = 'paused' WHERE request_id = '{id}'"
            ))
            .await;
    }
    // At once, so that most go by one statement.
    let keys: Vec<_> = (0..20).map(|n| VmKey::new(sample::id(n), "vm")).collect();
    let jobs = join_all((0..20).map(|n| backend.job(sample::id(n)))).await;
    let vms = join_all(keys.iter().map(|key| backend.vm(key))).await;
    for (n, (job, vm)) in jobs.into_iter().zip(vms).enumerate() {
        if n == 13 {
            for error in [job.unwrap_err(), vm.unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{error}");
                assert!(error.to_string().contains("paused"), "{error}");
            }
        } else {
            assert!(job.unwrap().is_some() && vm.unwrap().is_some(), "{n}");
        }
    }
    backend.close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_page_fails_for_its_own_readers() {
    let place = Place::empty(Database::Postgres);
    let backend = place.migrated().await.unwrap();
    let jobs = (0..20).map(|n| sample::job(n, JobState::Queued));
    backend.apply(&sample::claims(jobs).unwrap()).await.unwrap();
    // What the server says of a page whose checksum is wrong.
    let id = sample::id(13);
    place
        .execute(&format!(
            "ALTER TABLE jobs RENAME TO kept; \
             CREATE FUNCTION sound(id uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$ BEGIN \
             IF id = '{id}' THEN RAISE EXCEPTION USING ERRCODE = 'XX001'; END IF; RETURN true; END $$; \
             CREATE VIEW jobs AS SELECT * FROM kept WHERE sound(request_id)"
        ))
        .await;
    let jobs = join_all((0..20).map(|n| backend.job(sample::id(n)))).await;
    for (n, job) in jobs.into_iter().enumerate() {
        if n == 13 {
            assert_eq!(job.unwrap_err().kind(), ErrorKind::Corrupt);
        } else {
            assert!(job.unwrap().is_some(), "{n}");
        }
    }
    backend.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_without_its_row_is_told_as_damage_and_not_waited_for() {
    let place = Place::empty(Database::Postgres);
    let backend = place.migrated().await.unwrap();
    let apply = async |updates| {
        backend
            .apply(&sample::claims::<persist::JobUpdate>(updates).unwrap())
            .await
    };
    let queued = |n| sample::job(n, JobState::Queued);
    apply(vec![queued(1), queued(2)]).await.unwrap();
    let delete = format!("DELETE FROM jobs WHERE request_id = '{}'", sample::id(2));
    place.execute(&delete).await;
    let begun = Instant::now();
    let refused = sample::job(2, JobState::Queued).at(sample::at(0));
    for (updates, outcome) in [
        (vec![queued(2)], UpdateOutcome::NotApplied),
        // Another of the batch is stored all the same.
        (vec![refused, queued(3)], UpdateOutcome::Unknown),
    ] {
        let error = apply(updates).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let text = error.to_string();
        assert!(
            text.contains(&sample::id(2).to_string()) && text.contains("has history and no row"),
            "{text}"
        );
        assert_eq!(error.outcome(), outcome, "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(backend.job(sample::id(3)).await.unwrap().is_some());
    backend.close().await.unwrap();
}

/// What a call came to: its answer, to be compared.
type Called = (&'static str, persist::Result<String>);

/// Every call that names columns; the update is of this job.
async fn every_call(backend: &Arc<dyn PersistBackend>, n: u64) -> Vec<Called> {
    fn shown<T: Debug>(answer: persist::Result<T>) -> persist::Result<String> {
        answer.map(|answer| format!("{answer:?}"))
    }
    let job = sample::claims([sample::job(n, JobState::Queued)]).expect("samples are valid");
    let vm = sample::claims([sample::vm(n, "vm", VmState::Prepared)]).expect("samples are valid");
    let queued = JobQuery::default().states([JobState::Queued]).order(Order::ById);
    let prepared = VmQuery::default().states([VmState::Prepared]).order(Order::ById);
    let ended = Prune::default().ids([sample::id(2)]).dry_run(true);
    vec![
        ("apply", shown(backend.apply(&job).await)),
        ("apply", shown(backend.apply(&vm).await)),
        ("job", shown(backend.job(sample::id(1)).await)),
        ("vm", shown(backend.vm(&VmKey::new(sample::id(1), "vm")).await)),
        ("jobs", shown(backend.jobs(&queued.limit(1)).await)),
        ("vms", shown(backend.vms(&prepared.limit(1)).await)),
        (
            "events",
            shown(backend.events(&EventQuery::default().limit(2)).await),
        ),
        ("prune", shown(backend.prune(&ended).await)),
    ]
}

/// Each in turn. Every call that needs it says its name, no other is disturbed, and no answer is made up; when it is back,
/// all is well.
#[tokio::test(flavor = "multi_thread")]
async fn m9_whichever_column_or_table_is_gone_is_named_and_no_answer_is_made_up() {
    for database in Database::BOTH {
        let place = Place::empty(database);
        let backend = place.migrated().await.unwrap();
        // The second finds a page behind the first job, as all later ones do.
        let (mut n, mut points) = (3, 0);
        for n in 1..n {
            every_call(&backend, n).await;
        }
        let well = every_call(&backend, n).await;
        let mut gone = Vec::new();
        for (table, columns) in named_columns() {
            let of = |column: &String| (format!("{table} RENAME COLUMN {column}"), column.clone());
            gone.extend(columns.iter().map(of));
            gone.push((format!("{table} RENAME"), table.to_owned()));
        }
        for (what, name) in gone {
            let rename = |from: &str, to: &str| match what.strip_suffix(&format!(" COLUMN {name}")) {
                Some(table) => format!("ALTER TABLE {table} COLUMN {from} TO {to}"),
                None => format!("ALTER TABLE {from} RENAME TO {to}"),
            };
            place.execute(&rename(&name, "gone")).await;
            n += 1;
            let mut told = 0;
            for ((call, answer), (_, expected)) in every_call(&backend, n).await.into_iter().zip(&well) {
                match answer {
                    Ok(answer) => assert_eq!(
                        answer,
                        *expected.as_ref().unwrap(),
                        "{database:?}, {what}: {call}"
                    ),
                    Err(error) => {
                        assert_eq!(
                            error.kind(),
                            ErrorKind::SchemaMismatch,
                            "{database:?}, {what}: {error:?}"
                        );
                        let told_of = error.to_string();
                        let (_, told_of) = told_of.split_once(": ").unwrap();
                        let mut words = told_of.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                        assert!(words.any(|word| word == name), "{database:?}, {what}: {error}");
                        told += 1;
                    }
                }
            }
            // SQLite reads where a row stood before it writes.
            let is_needed = database == Database::Postgres || name != "prev_rank";
            assert_eq!(told > 0, is_needed, "{database:?}, {what}");
            place.execute(&rename("gone", &name)).await;
            points += 1;
        }
        n += 1;
        for ((call, answer), (_, expected)) in every_call(&backend, n).await.into_iter().zip(&well) {
            assert_eq!(
                answer.unwrap(),
                *expected.as_ref().unwrap(),
                "{database:?}: {call}, afterwards"
            );
        }
        println!("{database:?}: {points} columns and tables");
        place::fold_holds(&backend).await;
        backend.close().await.unwrap();
    }
}

/// It costs time and no answer.
#[tokio::test(flavor = "multi_thread")]
async fn m9_an_index_that_was_dropped_is_not_missed() {
    for database in Database::BOTH {
        let place = Place::empty(database);
        let backend = place.migrated().await.unwrap();
        let repo_url = "https://example.org/a.git";
        place.execute("DROP INDEX jobs_repo_url").await;
        let update = sample::job(1, JobState::Queued).repo_url(repo_url);
        backend.apply(&sample::claims([update]).unwrap()).await.unwrap();
        let query = JobQuery::default().repo_url(repo_url);
        assert_eq!(backend.jobs(&query).await.unwrap().items.len(), 1, "{database:?}");
        backend.close().await.unwrap();
    }
}

/// The server's text names a table that the trigger made of a row's value.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_in_the_statement_of_somebodys_trigger_is_not_told() {
    let place = Place::empty(Database::Postgres);
    let backend = place.migrated().await.unwrap();
    place
        .execute(
            "CREATE FUNCTION audits() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             EXECUTE 'SELECT 1 FROM audit_' || NEW.actor; RETURN NEW; END $$; \
             CREATE TRIGGER audits BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION audits()",
        )
        .await;
    let update = sample::job(1, JobState::Queued).actor("hunter2");
    let error = backend
        .apply(&sample::claims([update]).unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.context("sqlstate"), Some("42P01"), "{error:?}");
    let told = format!("{error} {error:?}");
    assert!(!told.contains("hunter2"), "{told}");
    backend.close().await.unwrap();
}
