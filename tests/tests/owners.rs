//! Heartbeats and orphans on real databases: a store that lacks their table, locks and rights, and the two commands.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use persist::{OpenOptions, Update};
use persist_core::JobState::{Queued, Running, Succeeded};
use persist_core::VmState::{Destroyed, Running as VmRunning};
use persist_core::{DbUrl, ErrorKind, Heartbeat, OrphanKind, OrphanQuery, PersistBackend};
use persist_tests::place::{self, Database, Place};
use persist_tests::process::{self, Ran};
use persist_tests::{cluster, sample};
use serde_json::{Value, json};
use sqlx::Executor as _;

fn lasting(actor: &str, epoch: u64) -> Heartbeat {
    Heartbeat::new(actor, epoch).valid_for(Duration::from_secs(3_600))
}

async fn apply(backend: &Arc<dyn PersistBackend>, updates: Vec<Update>) {
    backend.apply(&sample::claims(updates).unwrap()).await.unwrap();
}

/// What the three calls say, where they fail.
async fn errors(backend: &Arc<dyn PersistBackend>) -> Vec<persist_core::Error> {
    let owners = backend.owners().unwrap();
    let told = [
        owners.heartbeat(&lasting("me", 1)).await.err(),
        owners.list().await.err(),
        owners.orphans(&OrphanQuery::default()).await.err(),
    ];
    told.into_iter().flatten().collect()
}

/// The migration is optional: a role without the right to make tables may be all that there is.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_the_table_names_what_to_run_and_is_whole_otherwise() {
    for database in Database::BOTH {
        let place = Place::empty(database);
        let backend = place.migrated().await.unwrap();
        assert!(errors(&backend).await.is_empty());
        place.execute("ALTER TABLE persist_owners RENAME TO gone").await;
        let errors_now = errors(&backend).await;
        assert_eq!(errors_now.len(), 3, "{database:?}");
        for error in errors_now {
            assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{database:?}: {error:?}");
            let told = error.to_string();
            let is_told = told.contains("persist_owners") && told.contains("run persist migrate up");
            assert!(is_told, "{database:?}: {told}");
        }
        backend.schema().unwrap().check().await.unwrap();
        apply(&backend, vec![sample::job(1, Queued).into()]).await;
        place
            .execute("ALTER TABLE gone RENAME COLUMN valid_until TO lost")
            .await;
        place.execute("ALTER TABLE gone RENAME TO persist_owners").await;
        for error in errors(&backend).await {
            assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{database:?}: {error:?}");
            assert!(error.to_string().contains("valid_until"), "{database:?}: {error}");
        }
        place
            .execute("ALTER TABLE persist_owners RENAME COLUMN lost TO valid_until")
            .await;
        assert!(
            errors(&backend).await.is_empty(),
            "{database:?}: all is well again"
        );
        backend.close().await.unwrap();
    }
}

/// Every call ends by its deadline.
#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_that_is_locked_out_ends_by_the_deadline_of_a_write() {
    for database in Database::BOTH {
        let place = Place::empty(database);
        place.migrated().await.unwrap().close().await.unwrap();
        let mut deadlines = sample::deadlines(Duration::from_secs(20));
        deadlines.write = Duration::from_millis(700);
        let url: DbUrl = place.url().parse().unwrap();
        let options = OpenOptions::default().deadlines(deadlines);
        let backend = persist::open(&url, &options).await.unwrap();
        let owners = backend.owners().unwrap();
        let (file, mut connection) = match database {
            Database::Sqlite => (Some(place.file()), None),
            Database::Postgres => (None, Some(cluster::connect(place.url()).await)),
        };
        if let Some(file) = &file {
            file.execute_batch("BEGIN IMMEDIATE").unwrap();
        }
        if let Some(connection) = &mut connection {
            let lock = format!(
                "BEGIN; LOCK TABLE {}.persist_owners IN SHARE MODE",
                place.schema()
            );
            let lock = sqlx::raw_sql(sqlx::AssertSqlSafe(lock));
            connection.execute(lock).await.unwrap();
        }
        let begun = Instant::now();
        let error = owners.heartbeat(&lasting("me", 1)).await.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Busy),
            "{database:?}: {error:?}"
        );
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{database:?}: {:?}",
            begun.elapsed()
        );
        assert!(
            owners.list().await.unwrap().is_empty(),
            "{database:?}: reads go on"
        );
        drop((file, connection));
        process::until("the lock is gone", async || {
            owners.heartbeat(&lasting("me", 1)).await.is_ok()
        })
        .await;
        backend.close().await.unwrap();
    }
}

/// Its first beat was by a clock that went ahead by an hour, which somebody set right.
#[tokio::test(flavor = "multi_thread")]
async fn k2_a_clock_that_was_set_back_makes_no_orphans_of_who_goes_on_beating() {
    for database in Database::BOTH {
        let place = Place::empty(database);
        let backend = place.migrated().await.unwrap();
        let owners = backend.owners().unwrap();
        owners.heartbeat(&lasting("one", 1)).await.unwrap();
        let ahead = match database {
            Database::Sqlite => "started_at + 3600000000",
            Database::Postgres => "started_at + interval '1 hour'",
        };
        place
            .execute(&format!("UPDATE persist_owners SET started_at = {ahead}"))
            .await;
        apply(&backend, vec![sample::vm(1, "vm", VmRunning).actor("one").into()]).await;
        owners.heartbeat(&lasting("one", 1)).await.unwrap();
        apply(&backend, vec![sample::vm(2, "vm", VmRunning).actor("one").into()]).await;
        let query = OrphanQuery::default().kinds([OrphanKind::OwnerGone]);
        let gone = owners.orphans(&query.grace(Duration::ZERO)).await.unwrap();
        let gone: Vec<_> = gone.items.iter().map(|one| one.subject.request_id()).collect();
        assert!(
            !gone.contains(&sample::id(2)),
            "{database:?}: reported after the beat: {gone:?}"
        );
        backend.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_only_read_takes_no_heartbeat_and_tells_its_orphans() {
    let place = Place::empty(Database::Sqlite);
    let backend = place.migrated().await.unwrap();
    apply(&backend, vec![sample::vm(1, "vm", VmRunning).into()]).await;
    let url: DbUrl = place.url().replace("mode=rwc", "mode=ro").parse().unwrap();
    let reader = persist::open(&url, &OpenOptions::default()).await.unwrap();
    let owners = reader.owners().unwrap();
    let error = owners.heartbeat(&lasting("me", 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error:?}");
    let left = owners.orphans(&OrphanQuery::default()).await.unwrap();
    assert_eq!(left.items.len(), 1);
    reader.close().await.unwrap();
    backend.close().await.unwrap();
}

fn persist(place: &Place, arguments: &[&str]) -> Ran {
    let arguments = [&["--database-url", place.url()], arguments].concat();
    process::run(&mut process::persist(arguments))
}

fn lines(ran: &Ran) -> Vec<Value> {
    let lines = ran.stdout.lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Of an orchestrator that started anew: a job that it runs no more, with its VM. And a VM that never had a job.
async fn left(place: &Place) -> Arc<dyn PersistBackend> {
    let backend = place.migrated().await.unwrap();
    let owners = backend.owners().unwrap();
    let mine = vec![
        sample::job(1, Running).actor("me").into(),
        sample::vm(1, "vm\u{1b}1", VmRunning).actor("me").into(),
        sample::vm(2, "vm-2", VmRunning).into(),
        sample::job(3, Succeeded).actor("me").into(),
        sample::vm(3, "vm-3", Destroyed).actor("me").into(),
    ];
    apply(&backend, mine).await;
    let latest = place
        .texts("SELECT CAST(max(recorded_at) AS text) FROM events")
        .await;
    process::until("the clock goes on", async || {
        owners.heartbeat(&Heartbeat::new("clock", 0)).await.unwrap();
        place
            .texts("SELECT CAST(max(beat_at) AS text) FROM persist_owners")
            .await
            > latest
    })
    .await;
    owners.heartbeat(&lasting("me", 2)).await.unwrap();
    backend
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_listed_in_every_format_page_by_page() {
    for database in Database::BOTH {
        let place = Place::empty(database);
        let backend = left(&place).await;
        let now = ["--grace", "0s"];
        let list = |arguments: &[&str]| persist(&place, &[&["orphans"], arguments].concat()).ok();
        let list_now = |arguments: &[&str]| list(&[&now, arguments].concat());

        let young = list(&[]);
        assert_eq!(
            (young.stdout.as_str(), young.stderr.trim()),
            ("", "persist: nothing to list"),
            "a minute has not gone by"
        );

        let table = list_now(&[]).stdout;
        let rows: Vec<_> = table.lines().collect();
        assert_eq!(rows.len(), 4, "{database:?}: {table}");
        assert!(
            rows[0].starts_with("JOB ") && rows[0].contains(" WHY "),
            "{table}"
        );
        assert!(
            !table.contains('\u{1b}') && rows[2].contains("vm\\u{1b}1"),
            "{table}"
        );

        let all = lines(&list_now(&["--format", "jsonl", "--all"]));
        let (job, vm) = (&all[0], &all[2]);
        let recorded_at = job["recorded_at"].as_str().unwrap();
        assert!(
            recorded_at.ends_with('Z') && recorded_at.len() == 27,
            "{recorded_at}"
        );
        let expected = json!({
            "request_id": sample::id(1), "domain_name": null, "state": "running", "attempt": 1,
            "kinds": ["owner_gone"], "actor": "me", "recorded_at": recorded_at
        });
        assert_eq!(*job, expected, "{database:?}");
        assert_eq!(
            (&vm["kinds"], &vm["actor"]),
            (&json!(["vm_without_job"]), &Value::Null)
        );

        let page = list_now(&["--format", "json", "--limit", "2"]);
        let first: Value = serde_json::from_str(&page.stdout).unwrap();
        let next = first["next"].as_str().unwrap();
        assert!(
            page.stderr.contains(&format!("--after {next}")),
            "{}",
            page.stderr
        );
        let second = lines(&list_now(&["--format", "jsonl", "--after", next]));
        assert_eq!([&first["items"][0], &first["items"][1]], [&all[0], &all[1]]);
        assert_eq!(second, all[2..]);

        let of_me = lines(&list_now(&[
            "--format",
            "jsonl",
            "--actor",
            "me",
            "--kind",
            "OWNER-GONE",
        ]));
        assert_eq!(of_me, all[..2]);
        let kinds = ["--format", "jsonl", "--kind", "vm_without_job,job_without_vm"];
        assert_eq!(lines(&list_now(&kinds)), all[2..]);
        persist(&place, &["orphans", "--kind", "lost"]).exits(2);
        persist(&place, &["orphans", "--after", "nothing"]).exits(1);
        backend.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_ends_what_is_listed_says_why_and_is_counted() {
    for database in Database::BOTH {
        let place = Place::empty(database);
        let backend = left(&place).await;
        let recover = |arguments: &[&str]| {
            let always = ["recover", "--mark", "lost", "--reason", "its host died"];
            persist(&place, &[&always, arguments].concat())
        };
        let all = recover(&[]).ok();
        assert_eq!(
            all.stdout, "0 jobs marked lost, and 0 VMs failed\n",
            "a minute has not gone by"
        );
        let dry = recover(&["--grace", "0s", "--dry-run"]).ok();
        assert_eq!(
            dry.stdout, "1 job would be marked lost, and 2 VMs failed\n",
            "{database:?}"
        );
        assert_eq!(
            place.count("FROM events").await,
            5,
            "{database:?}: nothing was ended"
        );

        let of_me = [
            "--grace", "0s", "--actor", "me", "--format", "json", "--by", "on-call",
        ];
        let told: Value = serde_json::from_str(&recover(&of_me).ok().stdout).unwrap();
        assert_eq!(told, json!({"jobs": 1, "vms": 1, "passed": 0, "dry_run": false}));
        let why = "FROM events WHERE actor = 'on-call' AND reason = 'its host died' AND state IN ('lost', 'failed')";
        assert_eq!(place.count(why).await, 2, "{database:?}");

        let rest = recover(&["--grace", "0s"]).ok();
        assert_eq!(rest.stdout, "0 jobs marked lost, and 1 VM failed\n");
        let by = "FROM events WHERE actor = 'persist:recover' AND state = 'failed'";
        assert_eq!(place.count(by).await, 1, "{database:?}");
        assert_eq!(persist(&place, &["orphans", "--grace", "0s"]).ok().stdout, "");

        let id = sample::id(1).to_string();
        persist(&place, &["record", "job", &id, "succeeded"]).ok();
        let job = backend.job(sample::id(1)).await.unwrap().unwrap();
        assert_eq!(job.state, Succeeded, "{database:?}: what is reported heals");
        place::fold_holds(&backend).await;
        backend.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_reason_a_store_or_its_table_a_recovery_says_so_and_makes_nothing() {
    let place = Place::empty(Database::Sqlite);
    let recover = ["recover", "--mark", "lost", "--reason", "test"];
    persist(&place, &recover).exits(5);
    persist(&place, &["orphans"]).exits(5);
    place.migrated().await.unwrap().close().await.unwrap();
    persist(&place, &recover[..3]).exits(2);
    persist(&place, &["recover", "--mark", "failed", "--reason", "test"]).exits(2);
    place.execute("DROP TABLE persist_owners").await;
    for arguments in [&recover[..], &["orphans"]] {
        let ran = persist(&place, arguments).exits(6);
        assert!(ran.stderr.contains("persist migrate up"), "{}", ran.stderr);
    }
    let tables = "FROM sqlite_schema WHERE name = 'persist_owners'";
    assert_eq!(place.count(tables).await, 0, "neither makes anything");
}
