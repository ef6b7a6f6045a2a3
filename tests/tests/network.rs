//! A network that cuts, stalls and crawls. Numbers are those of the table of failures.

use std::time::{Duration, Instant};

use persist::{
    Deadlines, ErrorKind, EventQuery, JobQuery, JobState, JobUpdate, OnUnavailable, Outcome, Persist,
};
use persist_tests::cluster::shared;
use persist_tests::process;
use persist_tests::proxy::{Proxy, Way};
use persist_tests::sample;

/// How much longer than its deadline a call may take on a busy machine.
const SLACK: Duration = Duration::from_secs(3);

/// A handle with one connection through a proxy, to a migrated schema.
async fn through_proxy(deadline: Duration) -> (Proxy, Persist) {
    let proxy = Proxy::start(shared().port()).await;
    let direct = shared().fresh_schema_url();
    let builder = Persist::builder(Some(direct.clone())).on_unavailable(OnUnavailable::Fail);
    builder
        .connect()
        .await
        .expect("migrates")
        .close()
        .await
        .expect("closes");
    let mut deadlines = Deadlines::default();
    (deadlines.connect, deadlines.write, deadlines.read) = (deadline, deadline, deadline);
    (deadlines.health, deadlines.migration) = (deadline, deadline);
    let builder = Persist::builder(Some(proxy.url(&direct))).on_unavailable(OnUnavailable::Fail);
    let persist = builder
        .deadlines(deadlines)
        .connections(1)
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
