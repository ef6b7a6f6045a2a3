//! What of an update that is refused is kept, by whichever way it came.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::flaky::{Failure, Opener, connect, until};
use super::held::{BYTES, HeldOutbox, spool};
use super::told::Lines;
use crate::*;

fn ended(number: u128, state: JobState) -> JobUpdate {
    JobUpdate::new(Uuid::from_u128(number), state).actor("me")
}

async fn kept(persist: &Persist) -> Vec<(Uuid, &'static str, &'static str, u64)> {
    let backend = persist.backend();
    let query = RefusalQuery::default().limit(1_000);
    let page = backend.ledger().unwrap().refusals(&query).await.unwrap();
    let mut kept: Vec<_> = page
        .items
        .iter()
        .map(|one| {
            let claim = &one.claim;
            (
                claim.subject().request_id(),
                claim.state().name(),
                one.standing.name(),
                one.tries,
            )
        })
        .collect();
    kept.sort();
    kept
}

const POLICIES: [OnUnavailable; 3] = [
    OnUnavailable::Fail,
    OnUnavailable::Retry {
        within: Duration::from_secs(1),
    },
    OnUnavailable::BestEffort,
];

/// Waits, by the paused clock, until this is kept.
async fn until_kept(persist: &Persist, expected: &[(u128, u64)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(id, tries)| (Uuid::from_u128(*id), "failed", "succeeded", *tries))
        .collect();
    until("it is kept", async || kept(persist).await == expected).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_kept_with_all_its_tries() {
    for policy in POLICIES {
        let builder = Persist::builder(Some("memory:".into())).on_unavailable(policy.clone());
        let persist = builder.connect().await.unwrap();
        for number in [1, 2] {
            let ended = ended(number, JobState::Succeeded);
            persist.record_job_state(ended).await.unwrap();
        }
        let again = || ended(1, JobState::Failed);
        let refused = persist.record_job_state(again()).await.unwrap();
        assert!(matches!(refused, Outcome::Refused { .. }), "{refused}");
        until_kept(&persist, &[(1, 1)]).await;
        let batch = vec![
            again().into(),
            ended(2, JobState::Lost).into(),
            ended(2, JobState::Failed).into(),
            again().into(),
        ];
        persist.record(batch).await.unwrap();
        until_kept(&persist, &[(1, 3), (2, 1)]).await;
        // When all was kept the task has ended, and begins anew.
        tokio::time::sleep(Duration::from_secs(60)).await;
        persist.record_job_state(again()).await.unwrap();
        until_kept(&persist, &[(1, 4), (2, 1)]).await;
        let story = persist.backend().explain(Uuid::from_u128(1), None).await;
        assert_eq!(story.unwrap().unwrap().refusals.unwrap().len(), 1);
        persist.close().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn who_tries_in_vain_all_the_time_costs_one_write_a_second() {
    let mut open = Opener::new("in vain");
    open.keeping = Some(Duration::from_millis(5));
    let keeps = Arc::clone(&open.keeps);
    let persist = connect(open, OnUnavailable::Fail).await.unwrap();
    persist
        .record_job_state(ended(1, JobState::Succeeded))
        .await
        .unwrap();
    let (begun, mut tries) = (tokio::time::Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(10) {
        tries += 1;
        persist
            .record_job_state(ended(1, JobState::Failed))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let keeps = keeps.load(std::sync::atomic::Ordering::Relaxed);
    assert!((5..=11).contains(&keeps), "{keeps} writes for {tries} tries");
    until_kept(&persist, &[(1, tries)]).await;
    persist.close().await.unwrap();
}

/// A layer that hides a power turns the cases of it into skips.
#[tokio::test]
async fn every_way_to_a_store_leads_to_its_account() {
    let driver = open(&"memory:".parse().unwrap(), &OpenOptions::default())
        .await
        .unwrap();
    for policy in POLICIES {
        let brought = Persist::builder_over(Arc::clone(&driver)).on_unavailable(policy.clone());
        let opened = Persist::builder(Some("memory:".into())).on_unavailable(policy);
        for builder in [brought, opened] {
            let persist = builder.connect().await.unwrap();
            assert!(persist.backend().ledger().is_some());
            assert!(persist.backend_as_it_stands().ledger().is_some());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn closing_keeps_what_was_refused_until_then() {
    for (number, policy) in (0..).zip(POLICIES) {
        let url = format!("memory:refused-{number}");
        let other = Persist::builder(Some(url.clone())).connect().await.unwrap();
        let builder = Persist::builder(Some(url)).on_unavailable(policy);
        let persist = builder.connect().await.unwrap();
        let states = [JobState::Succeeded, JobState::Failed, JobState::Failed];
        for state in states {
            persist.record_job_state(ended(1, state)).await.unwrap();
        }
        persist.close().await.unwrap();
        until_kept(&other, &[(1, 2)]).await;
    }
}

/// A facade with a spool over a store, and what makes that fail.
async fn spooling(name: &str, outbox: &Arc<HeldOutbox>) -> (Persist, Failure) {
    let open = Opener::new(name);
    let failure = Arc::clone(&open.failure);
    (spool(open, outbox, WhenFull::Fail).await.unwrap(), failure)
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_when_it_is_replayed_is_kept_too() {
    let outbox = HeldOutbox::bounded(BYTES);
    let (persist, failure) = spooling("replayed refusals", &outbox).await;
    persist
        .record_job_state(ended(1, JobState::Succeeded))
        .await
        .unwrap();
    *failure.lock() = Some(ErrorKind::Unavailable);
    let spooled = persist
        .record_job_state(ended(1, JobState::Failed))
        .await
        .unwrap();
    assert_eq!(spooled, Outcome::Spooled);
    *failure.lock() = None;
    until("it is emptied", async || outbox.status().waiting == 0).await;
    until_kept(&persist, &[(1, 1)]).await;
    persist.close().await.unwrap();
}

/// A store whose account can't be kept answers as any other, says it once, and its stories know that they don't know.
#[tokio::test(start_paused = true)]
async fn an_account_that_cannot_be_kept_costs_no_answer() {
    let (lines, _guard) = Lines::read();
    let open = Opener::new("no account");
    *open.ledger.lock() = Some(ErrorKind::SchemaMismatch);
    let account = Arc::clone(&open.ledger);
    let persist = connect(open, OnUnavailable::BestEffort).await.unwrap();
    persist
        .record_job_state(ended(1, JobState::Succeeded))
        .await
        .unwrap();
    persist
        .record_job_state(ended(2, JobState::Succeeded))
        .await
        .unwrap();
    for number in [1, 2] {
        let refused = persist
            .record_job_state(ended(number, JobState::Failed))
            .await
            .unwrap();
        assert!(matches!(refused, Outcome::Refused { .. }), "{refused}");
    }
    let told = || lines.of("WARN", "refusals could not be kept").len();
    until("it is told", async || told() > 0).await;
    // Tried again after a minute, and then told again, with what waits.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(told(), 1);
    assert_eq!(
        persist.health().await.unwrap().mode,
        Mode::Ready,
        "it is no outage"
    );
    let explain = async || persist.backend().explain(Uuid::from_u128(1), None).await;
    assert_eq!(explain().await.unwrap().unwrap().refusals, None);
    *account.lock() = Some(ErrorKind::Unavailable);
    assert_eq!(explain().await.unwrap_err().kind(), ErrorKind::Unavailable);
    *account.lock() = None;
    until_kept(&persist, &[(1, 1), (2, 1)]).await;
    persist.close().await.unwrap();
}
