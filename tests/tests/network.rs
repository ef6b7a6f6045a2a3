//! A network that cuts, stalls and crawls. Numbers are those of the table of failures.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::time::{Duration, Instant};

use persist::{
    Deadlines, ErrorKind, EventQuery, JobQuery, JobState, JobUpdate, OnUnavailable, Outcome, Persist,
    UpdateOutcome,
};
use persist_tests::cluster::{self, shared};
use persist_tests::place::{Database, Place};
use persist_tests::process;
use persist_tests::proxy::{Proxy, STARTUP, Way};
use persist_tests::sample;

/// How much longer than its deadline a call may take on a busy machine.
const SLACK: Duration = Duration::from_secs(10);

/// A handle with one connection through a proxy, to a migrated schema.
async fn through_proxy(deadline: Duration) -> (Proxy, Persist) {
    let place = Place::empty(Database::Postgres);
    through_proxy_to(&place, deadline, 1).await
}

async fn through_proxy_to(place: &Place, deadline: Duration, connections: u32) -> (Proxy, Persist) {
    let proxy = Proxy::start(shared().port()).await;
    place.migrated().await.unwrap().close().await.unwrap();
    let mut deadlines = Deadlines::default();
    (deadlines.connect, deadlines.write, deadlines.read) = (deadline, deadline, deadline);
    (deadlines.health, deadlines.migration) = (deadline, deadline);
    let builder = Persist::builder(Some(proxy.url(place.url()))).on_unavailable(OnUnavailable::Fail);
    let persist = builder
        .deadlines(deadlines)
        .connections(connections)
        .connect()
        .await
        .expect("connects");
    (proxy, persist)
}

fn update(n: u64) -> JobUpdate {
    let update = sample::job(n, JobState::Queued)
        .repo_url("https://example.org/a.git")
        .commit_sha("abcd");
    update.runs_on("small").actor("somebody").reason("because")
}

/// Sends until there is an answer, as a caller does.
async fn insist(persist: &Persist, n: u64) -> Outcome {
    for _ in 0..50 {
        match persist.record_job_state(update(n)).await {
            Ok(outcome) => return outcome,
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    }
    panic!("never an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn c8_c9_a_cut_at_every_byte_leaves_one_whole_slot() {
    let (proxy, persist) = through_proxy(Duration::from_secs(5)).await;
    let mut n = 0;
    let mut next = async || {
        n += 1;
        let before = [Way::There, Way::Back].map(|way| proxy.passed(way));
        let outcome = insist(&persist, n).await;
        let after = [Way::There, Way::Back].map(|way| proxy.passed(way));
        (n, outcome, [after[0] - before[0], after[1] - before[1]])
    };
    // The first call prepares statements; the next ones are the exchange that is cut.
    next().await;
    let (.., [there, back]) = next().await;
    assert!(there > 100 && back > 20, "the proxy is between: {there} {back}");
    let mut unanswered = 0;
    for (way, length) in [(Way::There, there), (Way::Back, back)] {
        for bytes in 1..=length {
            next().await;
            proxy.cut_after(way, bytes);
            let (n, outcome, _) = next().await;
            proxy.heal();
            // An update whose answer was lost reads unchanged when it is sent again.
            assert!(
                ["applied", "unchanged"].contains(&outcome.name()),
                "{way:?} {bytes}: {outcome}"
            );
            unanswered += u32::from(outcome.name() == "unchanged");
            let query = EventQuery::default().request_id(sample::id(n));
            let page = loop {
                match persist.events(&query).await {
                    Ok(page) => break page,
                    // The last byte of the answer had passed: the next call meets the dead connection.
                    Err(error) => assert!(error.is_retryable(), "{error:?}"),
                }
            };
            assert_eq!(page.items.len(), 1, "{way:?} {bytes}: one slot");
            let slot = page.items[0].slot();
            assert_eq!(
                slot,
                persist::Slot::claimed_by(&sample::claims([update(n)]).unwrap()[0]),
                "a whole one"
            );
            let job = persist.job(sample::id(n)).await.unwrap().unwrap();
            assert_eq!(
                (job.state, job.runs_on.as_deref()),
                (JobState::Queued, Some("small"))
            );
        }
    }
    assert!(unanswered > 0, "some answers were lost after the commit");
    persist.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn c12_a_crawling_network_keeps_deadlines_and_doubles_nothing() {
    let bound = Duration::from_secs(1);
    let (proxy, persist) = through_proxy(bound).await;
    insist(&persist, 1).await;
    proxy.slow(Duration::from_millis(200));
    for n in 2..4 {
        let begun = Instant::now();
        let answer = persist.record_job_state(update(n)).await;
        assert!(begun.elapsed() < bound + SLACK, "{:?}", begun.elapsed());
        if let Err(error) = answer {
            assert!(error.is_retryable(), "{error:?}");
        }
    }
    proxy.slow(Duration::ZERO);
    process::until("it works again", async || {
        let mut all = true;
        for n in 2..4 {
            all &= persist.record_job_state(update(n)).await.is_ok();
        }
        all
    })
    .await;
    let page = persist.events(&EventQuery::default()).await.unwrap();
    assert_eq!(page.items.len(), 3, "nothing is there twice");
    persist.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn c15_a_connection_that_was_silently_dropped_is_replaced() {
    let bound = Duration::from_secs(1);
    let (proxy, persist) = through_proxy(bound).await;
    insist(&persist, 1).await;
    // From now on nothing of the old connection arrives anywhere, and nobody is told.
    proxy.silent(true);
    let begun = Instant::now();
    let error = persist.jobs(&JobQuery::default()).await.unwrap_err();
    assert!(begun.elapsed() < bound + SLACK, "{:?}", begun.elapsed());
    let kinds = [
        ErrorKind::Timeout,
        ErrorKind::Unavailable,
        ErrorKind::OutcomeUnknown,
        ErrorKind::Busy,
    ];
    assert!(kinds.contains(&error.kind()), "{error:?}");
    proxy.silent(false);
    let begun = Instant::now();
    assert_eq!(
        persist.jobs(&JobQuery::default()).await.unwrap().items.len(),
        1,
        "on a connection that is alive"
    );
    assert!(begun.elapsed() < bound + SLACK, "{:?}", begun.elapsed());
    persist.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn c15_of_many_connections_that_were_forgotten_at_once_one_costs_a_call() {
    let bound = Duration::from_secs(3);
    let all = 4;
    let (proxy, persist) = through_proxy_to(&Place::empty(Database::Postgres), bound, all).await;
    insist(&persist, 1).await;
    // Calls that overlap have a connection each.
    process::until("all of them are made", async || {
        proxy.slow(Duration::from_millis(2));
        let calls = (0..all).map(|_| {
            let persist = persist.clone();
            tokio::spawn(async move { persist.job(sample::id(1)).await })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap().unwrap();
        }
        proxy.slow(Duration::ZERO);
        // One more is the update's.
        begun(&proxy) > u64::from(all)
    })
    .await;
    proxy.forget();
    let error = persist.job(sample::id(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    for _ in 0..2 * all {
        persist.job(sample::id(1)).await.unwrap();
    }
    let outcome = persist.record_job_state(update(2)).await.unwrap();
    assert_eq!(outcome.name(), "applied", "updates have learnt it too");
    persist.close().await.unwrap();
}

/// How many connections have begun. Each asks for TLS first.
fn begun(proxy: &Proxy) -> u64 {
    proxy.messages(Way::There, STARTUP) / 2
}

/// So much later, as far as timers know.
async fn later(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn c15_after_a_quiet_time_a_connection_is_asked_and_an_old_one_replaced() {
    let (proxy, persist) = through_proxy(process::BOUND).await;
    insist(&persist, 1).await;
    let job = async || persist.job(sample::id(1)).await.unwrap().unwrap();
    job().await;
    let made = begun(&proxy);
    // Of five minutes, give or take a tenth.
    later(240).await;
    job().await;
    assert_eq!(begun(&proxy), made, "it answered");
    later(100).await;
    job().await;
    assert_eq!(begun(&proxy), made + 1, "it was too old");
    // Forgotten while it was quiet: nobody waits for an answer until a deadline.
    proxy.forget();
    later(40).await;
    let asked = Instant::now();
    job().await;
    assert!(asked.elapsed() < process::BOUND / 2, "{:?}", asked.elapsed());
    assert_eq!(begun(&proxy), made + 2);
    persist.close().await.unwrap();
}

async fn execute(connection: &mut sqlx::PgConnection, statements: String) {
    let statements = sqlx::raw_sql(sqlx::AssertSqlSafe(statements));
    sqlx::Executor::execute(connection, statements).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn c6_a_server_that_freezes_under_a_migration_ends_connecting_at_its_deadline() {
    let bound = Duration::from_secs(3);
    let mut deadlines = Deadlines::default();
    (deadlines.connect, deadlines.read, deadlines.migration) = (bound, bound, process::BOUND);
    let ended = "state = 'idle' AND query = 'ROLLBACK'";
    let begun = "state = 'idle in transaction' AND query LIKE 'BEGIN%'";
    let asked = "state = 'idle in transaction' AND query LIKE '%pg_locks%'";
    // Bytes trickle, one piece in so many milliseconds, so that a moment lasts: between two transactions, inside of
    // one, and while the answer to its end is on the way.
    for moments in [
        vec![(0, ended)],
        vec![(20, begun)],
        vec![(20, asked), (100, ended)],
    ] {
        let proxy = Proxy::start(shared().port()).await;
        let place = Place::empty(Database::Postgres);
        let name = shared().fresh_name("a");
        // Somebody else migrates: it has read the records, and asks for the lock again and again.
        let mut other = cluster::connect(place.url()).await;
        let lock = format!(
            "BEGIN; SELECT pg_advisory_xact_lock(x'70727374'::int, hashtext('{}'))",
            place.schema()
        );
        execute(&mut other, lock).await;
        let url = format!("{}&application_name={name}", proxy.url(place.url()));
        let builder = Persist::builder(Some(url)).on_unavailable(OnUnavailable::Fail);
        let connecting = tokio::spawn(builder.deadlines(deadlines).connect());
        let is = async |moment: &str| {
            let found = format!("FROM pg_stat_activity WHERE application_name = '{name}' AND {moment}");
            place.count(&found).await > 0
        };
        process::until("it has asked for the lock", async || {
            is("query = 'ROLLBACK'").await
        })
        .await;
        for (pause, moment) in &moments {
            proxy.slow(Duration::from_millis(*pause));
            process::until(moment, async || is(moment).await).await;
        }
        proxy.silent(true);
        let ended = tokio::time::timeout(bound + SLACK, connecting).await;
        let error = ended.unwrap_or_else(|_| panic!("it waits for ever after {moments:?}"));
        let error = error.unwrap().unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome()),
            (ErrorKind::Timeout, UpdateOutcome::NotApplied),
            "{error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c9_an_unknown_outcome_stays_unknown_when_the_server_is_gone_afterwards() {
    let place = Place::empty(Database::Postgres);
    let (proxy, persist) = through_proxy_to(&place, process::BOUND, 1).await;
    insist(&persist, 1).await;
    let events = format!("{}.events", place.schema());
    let mut other = cluster::connect(place.url()).await;
    execute(
        &mut other,
        format!("BEGIN; LOCK TABLE {events} IN ACCESS EXCLUSIVE MODE"),
    )
    .await;
    let call = tokio::spawn({
        let persist = persist.clone();
        async move { persist.record_job_state(update(2)).await }
    });
    let waits = format!("FROM pg_locks WHERE relation = '{events}'::regclass AND NOT granted");
    process::until("it was sent", async || place.count(&waits).await > 0).await;
    // The answer is swallowed, and then there is no server to ask again.
    proxy.silent(true);
    execute(&mut other, "ROLLBACK".into()).await;
    process::until("it is stored", async || place.count("FROM events").await == 2).await;
    drop(proxy);
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::Unavailable, UpdateOutcome::Unknown),
        "{error:?}"
    );
}
