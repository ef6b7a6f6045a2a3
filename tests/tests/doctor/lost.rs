//! What can't be mended without a person: it is named, and left as it is.

use persist::{Down, Severity};
use persist_core::inspect::code;
use persist_tests::place::{Database, Place};
use persist_tests::{process, seed};

use super::{Edit, doctor, edit, rewritten, store};

/// What loses something, or needs a person who knows why it is so.
fn harmful(database: Database) -> Vec<Edit> {
    let both = [
        edit(
            "ALTER TABLE jobs DROP COLUMN commit_sha",
            code::MISSING_COLUMN,
            "jobs.commit_sha",
        ),
        edit(
            "ALTER TABLE vms RENAME COLUMN rank TO grade",
            code::MISSING_COLUMN,
            "vms.rank",
        ),
        edit("DROP TABLE persist_owners", code::MISSING_TABLE, "persist_owners"),
        edit("DROP TABLE events", code::MISSING_TABLE, "events"),
        edit(
            "ALTER TABLE persist_meta RENAME COLUMN value TO worth",
            code::MISSING_COLUMN,
            "persist_meta.value",
        ),
        edit(
            "DELETE FROM persist_meta WHERE key = 'instance_id'",
            code::META_MISSING,
            "persist_meta.instance_id",
        ),
        edit(
            "UPDATE persist_meta SET value = 'mine' WHERE key = 'instance_id'",
            code::META_WRONG,
            "persist_meta.instance_id",
        ),
        edit(
            "DELETE FROM persist_meta WHERE key = 'min_reader'",
            code::META_MISSING,
            "persist_meta.min_reader",
        ),
        edit(
            "CREATE UNIQUE INDEX mine ON jobs (updated_at, request_id)",
            code::EXTRA_INDEX,
            "mine",
        ),
    ];
    let own = match database {
        Database::Sqlite => vec![
            edit(
                format!(
                    "{}; UPDATE jobs SET state = 'paused' WHERE state = 'queued'",
                    rewritten(
                        "jobs",
                        "substr(sql, 1, instr(sql, ', CONSTRAINT jobs_state') - 1) || ') STRICT'"
                    )
                ),
                code::MISSING_CHECK,
                "jobs_state",
            ),
            edit(
                format!(
                    "{}; CREATE VIEW mine AS SELECT state FROM jobs",
                    rewritten("jobs", "replace(sql, 'state TEXT NOT NULL', 'state TEXT')")
                ),
                code::WRONG_NULLABILITY,
                "jobs.state",
            ),
        ],
        Database::Postgres => vec![
            edit(
                "ALTER TABLE jobs DROP CONSTRAINT jobs_state; UPDATE jobs SET state = 'paused' WHERE state = 'queued'",
                code::MISSING_CHECK,
                "jobs_state",
            ),
            edit(
                "ALTER TABLE vms ALTER seed_path TYPE varchar(20)",
                code::WRONG_TYPE,
                "vms.seed_path",
            ),
            edit(
                "ALTER TABLE vms DROP CONSTRAINT vms_pkey",
                code::MISSING_KEY,
                "vms",
            ),
            edit(
                "ALTER TABLE events ALTER seq DROP IDENTITY",
                code::WRONG_DEFAULT,
                "events.seq",
            ),
            edit(
                "ALTER TABLE persist_owners SET UNLOGGED",
                code::WRONG_TABLE,
                "persist_owners",
            ),
            edit("CREATE INDEX mine ON jobs (state)", code::EXTRA_INDEX, "mine"),
            edit(
                "ALTER TABLE jobs ADD mine text NOT NULL DEFAULT '' ; ALTER TABLE jobs ALTER mine DROP DEFAULT",
                code::EXTRA_COLUMN,
                "jobs.mine",
            ),
            edit(
                "ALTER TABLE jobs SET (autovacuum_enabled = false)",
                code::VACUUM_OVERDUE,
                "jobs",
            ),
        ],
    };
    both.into_iter().chain(own).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn m9_what_needs_a_person_is_named_and_left_as_it_is() {
    for database in Database::BOTH {
        for Edit {
            statements,
            code,
            place: at,
        } in harmful(database)
        {
            let place = store(database).await;
            place.execute(&statements).await;
            let told = doctor(&place, &[]);
            let finding = told.of(code, at);
            assert!(
                !finding.is_safe && finding.severity > Severity::Info,
                "{finding:#?}"
            );
            assert_eq!(told.ran.code(), 1, "{database:?}, {statements}");
            let again = doctor(&place, &["--fix"]);
            assert_eq!(again.ran.code(), 1, "{database:?}, {statements}: {again:#?}");
            assert_eq!(
                (again.bad(), again.mended.len()),
                (told.bad(), 0),
                "{database:?}, {statements}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m9_rows_that_do_not_fit_are_counted_and_none_is_told() {
    for database in Database::BOTH {
        let place = store(database).await;
        let dropped = match database {
            Database::Sqlite => rewritten("vms", "replace(sql, 'state TEXT NOT NULL', 'state TEXT')"),
            Database::Postgres => "ALTER TABLE vms ALTER state DROP NOT NULL".to_owned(),
        };
        place
            .execute(&format!("{dropped}; UPDATE vms SET state = NULL"))
            .await;
        let told = doctor(&place, &["--fix"]);
        let finding = told.of(code::WRONG_NULLABILITY, "vms.state");
        assert!(finding.what.contains("3 rows do not fit"), "{finding:#?}");
        assert!(!finding.is_safe && told.mended.is_empty(), "{told:#?}");
        assert_eq!(
            place.count("FROM vms WHERE state IS NULL").await,
            3,
            "{database:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_doctor_says_of_a_lost_table_makes_it_anew() {
    for database in Database::BOTH {
        let place = store(database).await;
        place.execute("DROP TABLE vms; DROP TABLE persist_owners").await;
        let told = doctor(&place, &[]);
        for table in ["vms", "persist_owners"] {
            let mend = told.of(code::MISSING_TABLE, table).mend.join(";\n");
            place.execute(&mend).await;
        }
        assert_eq!(doctor(&place, &[]).bad(), [], "{database:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_migration_is_no_drift() {
    for database in Database::BOTH {
        let place = store(database).await;
        let backend = place.open().await.unwrap();
        let schema = backend.schema().unwrap();
        let optional = schema.down(Down::steps(4).confirmed(true)).await.unwrap();
        let told = doctor(&place, &["--fix"]);
        let pending: Vec<_> = optional
            .iter()
            .rev()
            .map(|name| (code::PENDING_MIGRATION, name.as_str()))
            .collect();
        assert_eq!(told.bad(), pending, "{database:?}");
        assert_eq!(told.of(pending[0].0, pending[0].1).mend, ["persist migrate up"]);
        assert_eq!(told.of(pending[0].0, pending[0].1).severity, Severity::Warning);
        // One that is needed: what else differs is what it brings.
        let needed = schema.down(Down::steps(1).confirmed(true)).await.unwrap();
        let told = doctor(&place, &[]);
        assert_eq!(
            told.bad()[0],
            (code::PENDING_MIGRATION, needed[0].as_str()),
            "{database:?}"
        );
        assert_eq!((told.bad().len(), told.now[0].severity), (5, Severity::Error));
        backend.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_an_earlier_orchestrator_is_well_once_it_is_adopted() {
    let place = Place::empty(Database::Postgres);
    place.execute(&format!("CREATE SCHEMA {}", place.schema())).await;
    place
        .execute(&[seed::TABLES, seed::ROWS, seed::RECORDS].concat())
        .await;
    let told = doctor(&place, &[]);
    assert_eq!(told.ran.code(), 1);
    assert!(
        told.bad()
            .iter()
            .all(|(code, _)| *code == code::PENDING_MIGRATION),
        "{told:#?}"
    );
    place.migrated().await.unwrap().close().await.unwrap();
    let told = doctor(&place, &[]);
    assert_eq!((told.bad(), told.ran.code()), (vec![], 0), "{told:#?}");
}

#[test]
fn a_store_that_is_not_there_is_not_made() {
    let place = Place::empty(Database::Sqlite);
    for arguments in [&["doctor"][..], &["doctor", "--fix"]] {
        let ran = process::run(&mut process::persist(
            [&["--database-url", place.url()], arguments].concat(),
        ));
        let ran = ran.exits(5);
        assert!(ran.stderr.contains("does not exist"), "{}", ran.stderr);
    }
    let ran = process::run(&mut process::persist(["--database-url", "memory:", "doctor"])).exits(1);
    assert!(ran.stderr.contains("nothing to be looked over"), "{}", ran.stderr);
}
