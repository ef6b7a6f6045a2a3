//! PgBouncer in transaction mode between us and the server. Numbers are those of the table of failures; the whole
//! suite passes through it in `conformance_pgbouncer`.

use std::time::Duration;

use persist::{Down, Error, ErrorKind, EventQuery, JobState, OnUnavailable, Persist};
use persist_tests::cluster::{self, Cluster, Options, Stop, shared};
use persist_tests::place::{Database, Place, fold_holds};
use persist_tests::pooler::{self, Pooler};
use persist_tests::process;
use persist_tests::sample;

use super::{SLACK, connect};

/// Startup parameters that a pooler lets pass, and forgets.
const IGNORES: [(&str, &str); 1] = [("ignore_startup_parameters", "extra_float_digits,options")];

async fn patient(url: &str) -> Persist {
    connect(url, OnUnavailable::Fail, process::BOUND).await.0.unwrap()
}

/// The error with which connecting ends at once, also where an outage would be waited for.
async fn refused(url: &str) -> Error {
    let within = process::BOUND;
    let (refused, took) = connect(url, OnUnavailable::Retry { within }, within).await;
    let error = refused.map(drop).unwrap_err();
    assert!(took < within / 2 && !error.is_retryable(), "{took:?}: {error:?}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn c14_without_the_setting_the_error_names_it() {
    let Some(strict) = pooler::before_shared() else {
        return;
    };
    let forgetful = Pooler::start(shared(), &IGNORES);
    let url = shared().url("postgres");
    for pooler in [strict, &forgetful] {
        pooler.open_all(&url).await;
        let error = refused(&pooler.bare_url(&url)).await;
        assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{error:?}");
        assert!(
            error.to_string().contains("persist_pooler=transaction"),
            "{error}"
        );
        patient(&pooler.url(&url)).await.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c14_our_settings_hold_in_every_transaction_and_are_left_nowhere() {
    let Some(pooler) = pooler::before_shared() else {
        return;
    };
    // The weakest that a role can be set to.
    let url = shared().fresh_database_url().await;
    let name = url::Url::parse(&url).unwrap();
    let name = name.path().trim_start_matches('/');
    shared()
        .sql(&format!(
            "ALTER DATABASE {name} SET synchronous_commit = off; \
             ALTER DATABASE {name} SET default_transaction_isolation = serializable"
        ))
        .await;
    let persist = patient(&pooler.url(&url)).await;
    assert!(persist.health().await.unwrap().durable);
    let place = Place::at(url.clone());
    place
        .execute(
            "CREATE TABLE seen (what text); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             INSERT INTO seen SELECT concat_ws(' ', current_setting('synchronous_commit'), \
             current_setting('transaction_isolation'), current_setting('statement_timeout'), \
             current_setting('lock_timeout'), current_setting('application_name')); RETURN NEW; END $$; \
             CREATE TRIGGER note AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION note()",
        )
        .await;
    pooler.open_all(&url).await;
    for n in 1..=2 * u64::from(pooler::SERVERS) {
        persist
            .record_job_state(sample::job(n, JobState::Queued))
            .await
            .unwrap();
    }
    let seen = place.texts("SELECT DISTINCT what FROM seen").await;
    assert_eq!(seen, ["on read committed 30s 22500ms persist"]);
    // Whoever gets a server after us finds it as it was. One connection sees one after the other of them.
    let mut other = pooler.connect(&url).await;
    let mut servers = std::collections::BTreeSet::new();
    for _ in 0..4 * pooler::SERVERS {
        let query = "SELECT pg_backend_pid()::text, current_setting('statement_timeout'), \
                     current_setting('enable_hashjoin'), (SELECT count(*)::text FROM pg_prepared_statements)";
        let row = sqlx::raw_sql(query).fetch_one(&mut other).await.unwrap();
        let text = |column: usize| sqlx::Row::get::<String, _>(&row, column);
        servers.insert(text(0));
        assert_eq!([text(1), text(2), text(3)], ["0", "on", "0"]);
    }
    assert!(servers.len() > 1, "the servers take turns: {servers:?}");
    persist.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn c14_a_server_that_restarts_behind_a_pooler_costs_nothing_that_was_told() {
    if !pooler::is_here() {
        return;
    }
    let cluster = Cluster::start(&Options::default());
    let pooler = Pooler::start(&cluster, &[("server_login_retry", "1")]);
    let place = Place::at(pooler.url(&cluster.fresh_schema_url()));
    let persist = patient(place.url()).await;
    let mut told = Vec::new();
    for round in 0..2 {
        let calls = (0..24).map(|n| {
            let persist = persist.clone();
            let n = round * 24 + n + 1;
            tokio::spawn(async move {
                match persist.record_job_state(sample::job(n, JobState::Queued)).await {
                    Ok(_) => Some(n),
                    Err(error) if error.is_retryable() => None,
                    Err(error) => panic!("{error:?}"),
                }
            })
        });
        let calls: Vec<_> = calls.collect();
        cluster.restart(if round == 0 { Stop::Fast } else { Stop::Immediate });
        for call in calls {
            told.extend(call.await.unwrap());
        }
        process::until("it works again", async || {
            let sent = persist
                .record_job_state(sample::job(100 + round, JobState::Queued))
                .await;
            match sent {
                Ok(_) => true,
                Err(error) if error.is_retryable() => false,
                Err(error) => panic!("{error:?}"),
            }
        })
        .await;
        told.push(100 + round);
    }
    for n in told {
        assert!(
            persist.job(sample::id(n)).await.unwrap().is_some(),
            "{n} was told"
        );
    }
    fold_holds(&persist.backend()).await;
    persist.close().await.unwrap();

    // A start meanwhile says so, as an outage that passes.
    cluster.stop(Stop::Fast);
    let (away, took) = connect(place.url(), OnUnavailable::Fail, Duration::from_secs(2)).await;
    let error = away.map(drop).unwrap_err();
    assert!(
        error.is_retryable() && took < Duration::from_secs(2) + SLACK,
        "{took:?}: {error:?}"
    );
    cluster.resume();
    let within = process::BOUND;
    let (back, _) = connect(place.url(), OnUnavailable::Retry { within }, within).await;
    back.unwrap().close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn m6_migrations_go_through_a_pooler_also_many_at_once() {
    let Some(pooler) = pooler::before_shared() else {
        return;
    };
    // More of them than the pooler has servers.
    let direct = Place::empty(Database::Postgres);
    let place = Place::at(pooler.url(direct.url()));
    let all = (0..2 * pooler::SERVERS).map(|_| {
        let url = place.url().to_owned();
        tokio::spawn(async move { patient(&url).await })
    });
    let all: Vec<_> = all.collect();
    for (n, started) in (1..).zip(all) {
        let persist = started.await.unwrap();
        assert!(persist.is_enabled());
        persist
            .record_job_state(sample::job(n, JobState::Queued))
            .await
            .unwrap();
        persist.close().await.unwrap();
    }
    let twice = "SELECT name FROM persist_migrations GROUP BY name HAVING count(*) > 1";
    assert_eq!(direct.texts(twice).await, [""; 0]);
    // A lock of a session, and not of its transaction, would stay with a server of the pooler. The class is ours.
    let locks = format!(
        "FROM pg_locks WHERE locktype = 'advisory' AND classid = 1886548852 \
         AND objid = (hashtext('{}')::bigint & 4294967295)::oid",
        direct.schema()
    );
    assert_eq!(direct.count(&locks).await, 0, "no lock is left behind");
    let backend = place.open().await.unwrap();
    let schema = backend.schema().unwrap();
    assert!(schema.plan().await.unwrap().is_empty(), "nothing is left to do");
    let listed = backend.events(&EventQuery::default()).await.unwrap();
    assert_eq!(listed.items.len(), 2 * pooler::SERVERS as usize);

    let down = Down::all().confirmed(true);
    let gone = schema.down(down).await.unwrap();
    assert_eq!(schema.up().await.unwrap().len(), gone.len());
    fold_holds(&backend).await;
    backend.close().await.unwrap();
}

#[test]
fn c14_settings_that_a_pooler_drops_are_refused() {
    let url = format!(
        "postgres://ci@127.0.0.1:{}/ci?persist_pooler=transaction",
        cluster::free_port()
    );
    for (more, of_process, words) in [
        ("&options=-cwork_mem%3D8MB", None, "options"),
        ("&options[work_mem]=8MB", None, "options"),
        ("&statement-cache-capacity=1", None, "statement-cache-capacity"),
        ("", Some(("PGOPTIONS", "-c work_mem=8MB")), "PGOPTIONS"),
    ] {
        let mut command = process::persist(["--database-url", &format!("{url}{more}"), "health"]);
        command.envs(of_process);
        let ran = process::run(&mut command).exits(2);
        let told = ran.stderr.contains(words) && ran.stderr.contains("persist_pooler");
        assert!(told, "{more}: {}", ran.stderr);
    }
}
