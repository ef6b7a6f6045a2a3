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

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_kept_at_once_and_counted_later() {
    for policy in POLICIES {
        let builder = Persist::builder(Some("memory:".into())).on_unavailable(policy.clone());
        let persist = builder.connect().await.unwrap();
        for number in [1, 2] {
            persist
                .record_job_state(ended(number, JobState::Succeeded))
                .await
                .unwrap();
        }
        let refused = persist
            .record_job_state(ended(1, JobState::Failed))
            .await
            .unwrap();
        assert!(matches!(refused, Outcome::Refused { .. }), "{refused}");
        let id = Uuid::from_u128;
        assert_eq!(
            kept(&persist).await,
            [(id(1), "failed", "succeeded", 1)],
            "{policy:?}"
        );
        let batch = vec![
            ended(1, JobState::Failed).into(),
            ended(2, JobState::Lost).into(),
            ended(2, JobState::Failed).into(),
        ];
        persist.record(batch).await.unwrap();
        let both = [
            (id(1), "failed", "succeeded", 1),
            (id(2), "failed", "succeeded", 1),
        ];
        assert_eq!(kept(&persist).await, both, "what comes soon again waits");
        tokio::time::advance(Duration::from_secs(10)).await;
        persist
            .record_job_state(ended(1, JobState::Failed))
            .await
            .unwrap();
        let both = [
            (id(1), "failed", "succeeded", 3),
            (id(2), "failed", "succeeded", 1),
        ];
        assert_eq!(kept(&persist).await, both, "and is counted with the next");
        let story = persist.backend().explain(id(1), None).await.unwrap().unwrap();
        assert_eq!(story.refusals.unwrap().len(), 1);
        persist.close().await.unwrap();
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
    until("it is ready", async || !kept(&persist).await.is_empty()).await;
    assert_eq!(
        kept(&persist).await,
        [(Uuid::from_u128(1), "failed", "succeeded", 1)]
    );
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
    assert_eq!(lines.of("WARN", "a refusal could not be kept").len(), 1);
    assert_eq!(
        persist.health().await.unwrap().mode,
        Mode::Ready,
        "it is no outage"
    );
    let explain = async || persist.backend().explain(Uuid::from_u128(1), None).await;
    assert_eq!(explain().await.unwrap().unwrap().refusals, None);
    *account.lock() = Some(ErrorKind::Unavailable);
    assert_eq!(explain().await.unwrap_err().kind(), ErrorKind::Unavailable);
    persist.close().await.unwrap();
}
