//! The modes of the facade, over a driver that fails on demand and under a paused clock.

mod alive;
mod drained;
mod flaky;
mod held;
mod outages;
mod recover;
mod refused;
mod retention;
mod spool;
mod told;
mod watched;

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use self::flaky::{Opener, connect, queued, start, until_ready};
use crate::*;

#[tokio::test]
async fn no_url_is_off_and_a_wrong_one_is_an_error() {
    for url in [None, Some(""), Some("  "), Some("none:")] {
        let persist = Persist::new(url.map(str::to_owned)).await.unwrap();
        assert!(!persist.is_enabled());
        assert_eq!(
            persist.record_job_state(queued(1)).await.unwrap(),
            Outcome::Dropped
        );
        assert_eq!(
            persist.job(Uuid::from_u128(1)).await.unwrap_err().kind(),
            ErrorKind::Unavailable
        );
        let health = persist.health().await.unwrap();
        assert_eq!((health.mode, health.dropped), (Mode::Disabled, 1));
        persist.close().await.unwrap();
        assert_eq!(
            persist.record_job_state(queued(1)).await.unwrap_err().kind(),
            ErrorKind::Closed
        );
    }
    for url in ["hello", "mysql://db/ci", "memory:/x"] {
        assert_eq!(
            Persist::new(Some(url.to_owned())).await.unwrap_err().kind(),
            ErrorKind::InvalidUrl
        );
    }
}

#[tokio::test]
async fn a_ready_store_records_with_the_actor_and_ends_with_close() {
    let persist = Persist::builder(Some("memory:".into()))
        .actor("me")
        .connect()
        .await
        .unwrap();
    assert!(persist.is_enabled());
    assert_eq!(
        persist.record_job_state(queued(1)).await.unwrap(),
        Outcome::Applied { created: true }
    );
    let events = persist.events(&EventQuery::default()).await.unwrap();
    assert_eq!(events.items[0].actor.as_deref(), Some("me"));
    let bad = persist
        .record(vec![queued(1).into(), queued(0).into()])
        .await
        .unwrap_err();
    assert_eq!(
        (bad.kind(), bad.context("index")),
        (ErrorKind::InvalidInput, Some("1"))
    );
    let backend = persist.backend();
    persist.close().await.unwrap();
    persist.close().await.unwrap();
    assert!(!persist.is_enabled());
    assert_eq!(backend.apply(&[]).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(persist.health().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn best_effort_starts_without_the_database_and_turns_itself_on() {
    let (persist, failure) = start("late", OnUnavailable::BestEffort, Some(ErrorKind::Auth)).await;
    let persist = persist.unwrap();
    assert!(!persist.is_enabled());
    assert_eq!(
        persist.record_job_state(queued(1)).await.unwrap(),
        Outcome::Dropped
    );
    assert_eq!(
        persist.job(Uuid::from_u128(1)).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    let health = persist.health().await.unwrap();
    assert_eq!(
        (health.mode, health.dropped, health.last_error.as_deref()),
        (Mode::Degraded, 1, Some("auth"))
    );
    *failure.lock() = None;
    until_ready(&persist).await;
    assert!(persist.is_enabled());
    assert_eq!(
        persist.record_job_state(queued(1)).await.unwrap(),
        Outcome::Applied { created: true }
    );
}

#[tokio::test(start_paused = true)]
async fn retry_waits_for_the_database_but_not_for_a_better_password() {
    let policy = OnUnavailable::Retry {
        within: Duration::from_secs(60),
    };
    let begun = tokio::time::Instant::now();
    for kind in [ErrorKind::Auth, ErrorKind::SchemaMismatch, ErrorKind::InvalidUrl] {
        let (result, _) = start("wrong", policy.clone(), Some(kind)).await;
        assert_eq!(result.unwrap_err().kind(), kind);
        let (result, _) = start("wrong", OnUnavailable::Fail, Some(kind)).await;
        assert_eq!(result.unwrap_err().kind(), kind);
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let (result, _) = start("away", policy.clone(), Some(ErrorKind::Unavailable)).await;
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(begun.elapsed() > Duration::from_secs(10) && begun.elapsed() <= Duration::from_secs(60));

    let (persist, failure) = start("passing", policy, None).await;
    let persist = persist.unwrap();
    *failure.lock() = Some(ErrorKind::Unavailable);
    let heal = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        *failure.lock() = None;
    };
    let (outcome, ()) = tokio::join!(persist.record_job_state(queued(1)), heal);
    assert_eq!(outcome.unwrap(), Outcome::Applied { created: true });
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_background_hangs_no_one() {
    let mut open = Opener::new("panics");
    open.panics = true;
    let persist = connect(open, OnUnavailable::BestEffort).await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(
        persist.record_job_state(queued(1)).await.unwrap(),
        Outcome::Dropped
    );
    assert_eq!(
        persist.health().await.unwrap().last_error.as_deref(),
        Some("internal")
    );
    persist.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_ends_the_background_task() {
    let (persist, failure) = start("dropped", OnUnavailable::BestEffort, Some(ErrorKind::Unavailable)).await;
    drop(persist.unwrap());
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(
        Arc::strong_count(&failure),
        1,
        "no task holds the opener any more"
    );
}

#[test]
fn handles_go_anywhere() {
    fn anywhere<T: Send + Sync + Clone + 'static>() {}
    anywhere::<Persist>();
}

#[test]
fn what_is_not_stored_yet_shows_no_secret_either() {
    let url = "https://me:hunter2@example.org/a.git";
    let texts = [
        format!(
            "{:?}",
            Persist::builder(Some("postgres://me:hunter2@db/ci".to_owned()))
        ),
        format!("{:?}", queued(1).repo_url(url)),
        format!("{:?}", persist_core::JobQuery::default().repo_url(url)),
    ];
    for text in texts {
        assert!(!text.contains("hunter2"), "{text}");
    }
}
