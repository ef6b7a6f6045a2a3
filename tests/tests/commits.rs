//! Statements and commits that fail by the hand of the database itself, on both of them.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use persist::{ErrorKind, JobState, UpdateOutcome};
use persist_tests::place::{Database, Place};
use persist_tests::{place, sample};

/// Refuses the row of each job, whose slot was claimed before.
fn refuse_rows(database: Database) -> &'static str {
    match database {
        Database::Postgres => {
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN RAISE EXCEPTION USING MESSAGE = ''refused by a trigger''; END';
             CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION refuse()"
        }
        // What came before a FAIL stays in the transaction, unlike with ABORT.
        Database::Sqlite => {
            "CREATE TRIGGER refuse BEFORE INSERT ON jobs BEGIN SELECT RAISE(FAIL, 'refused by a trigger'); END"
        }
    }
}

/// Lets each statement pass, and not the commit.
fn refuse_commits(database: Database) -> &'static str {
    match database {
        Database::Postgres => {
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN RAISE EXCEPTION USING MESSAGE = ''refused by a trigger''; END';
             CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON jobs DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION refuse()"
        }
        Database::Sqlite => {
            "CREATE TABLE parents (id INTEGER PRIMARY KEY);
             CREATE TABLE children (id INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED);
             CREATE TRIGGER refuse AFTER INSERT ON jobs BEGIN INSERT INTO children VALUES (1); END"
        }
    }
}

fn allow(database: Database) -> &'static str {
    match database {
        Database::Postgres => "DROP TRIGGER refuse ON jobs",
        Database::Sqlite => "DROP TRIGGER refuse",
    }
}

/// Nothing of a refused update is stored, nobody is told that it was, and it is taken later.
async fn nothing_is_left(refusal: fn(Database) -> &'static str) {
    for database in Database::BOTH {
        let place = Place::empty(database);
        let backend = place.migrated().await.unwrap();
        place.execute(refusal(database)).await;
        let claims =
            sample::claims([sample::job(1, JobState::Queued), sample::job(2, JobState::Queued)]).unwrap();
        let error = backend.apply(&claims).await.unwrap_err();
        assert!(!error.is_retryable(), "{database:?}: {error:?}");
        assert_ne!(error.kind(), ErrorKind::OutcomeUnknown, "{database:?}: {error:?}");
        // Of a code of Postgres that it does not know it claims nothing.
        let is_known = database == Database::Sqlite;
        let told = if is_known {
            UpdateOutcome::NotApplied
        } else {
            UpdateOutcome::Unknown
        };
        assert_eq!(error.outcome(), told, "{database:?}: {error:?}");
        for table in ["jobs", "events"] {
            assert_eq!(
                place.count(&format!("FROM {table}")).await,
                0,
                "{database:?}: {table}"
            );
        }
        place.execute(allow(database)).await;
        let outcomes = backend.apply(&claims).await.unwrap();
        assert!(
            outcomes.iter().all(|outcome| outcome.name() == "applied"),
            "{outcomes:?}"
        );
        place::fold_holds(&backend).await;
        backend.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t3_a_statement_that_fails_is_never_ok_and_takes_its_slots_along() {
    nothing_is_left(refuse_rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t8_a_commit_that_fails_leaves_nothing_and_is_told() {
    nothing_is_left(refuse_commits).await;
}
