//! Every call ends, and what is said of its outcome is true.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::layer::Deadlined;

fn deadlines() -> Deadlines {
    Deadlines {
        write: Duration::from_secs(10),
        read: Duration::from_secs(5),
        health: Duration::from_secs(2),
        ..Deadlines::default()
    }
}

fn layer(manner: Manner) -> Deadlined<Stub> {
    Deadlined::new(Stub::new(manner), deadlines())
}

async fn ended<T>(call: impl Future<Output = Result<T>>) -> (u64, Result<T>) {
    let begun = Instant::now();
    let result = call.await;
    (begun.elapsed().as_secs(), result)
}

async fn is_cut<T: std::fmt::Debug>(operation: &str, after: u64, call: impl Future<Output = Result<T>>) {
    let (took, result) = ended(call).await;
    let error = result.unwrap_err();
    assert_eq!((took, error.kind()), (after, ErrorKind::Timeout), "{operation}");
    assert_eq!(error.operation(), Some(operation));
    assert_eq!(
        error.outcome(),
        UpdateOutcome::Unknown,
        "{operation}: it was handed on"
    );
}

#[tokio::test(start_paused = true)]
async fn heartbeats_and_orphans_that_hang_end_at_the_deadlines_of_a_write_and_a_read() {
    let layer = layer(Manner::Hangs);
    let owners = layer.owners().unwrap();
    is_cut("heartbeat", 10, owners.heartbeat(&Heartbeat::new("me", 1))).await;
    is_cut("owners", 5, owners.list()).await;
    is_cut("orphans", 5, owners.orphans(&OrphanQuery::default())).await;
}

#[tokio::test(start_paused = true)]
async fn an_account_of_refusals_that_hangs_ends_at_the_deadlines_of_a_write_and_a_read() {
    let layer = layer(Manner::Hangs);
    let ledger = layer.ledger().unwrap();
    is_cut("keep", 10, ledger.keep(&[])).await;
    is_cut("refusals", 5, ledger.refusals(&RefusalQuery::default())).await;
}

#[tokio::test(start_paused = true)]
async fn many_refusals_have_the_deadline_of_each_chunk() {
    let layer = layer(Manner::HangsAfter(2));
    let standing = JobState::Succeeded.into();
    let tried: Vec<_> = claims(3 * CHUNK as u128)
        .into_iter()
        .map(|claim| Tried::new(claim, standing))
        .collect();
    is_cut("keep", 10, layer.ledger().unwrap().keep(&tried)).await;
    assert_eq!(layer.inner.called.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn changes_and_marks_that_hang_end_at_the_deadlines_of_a_read_and_a_write() {
    let layer = layer(Manner::Hangs);
    let (changes, marks) = (layer.changes().unwrap(), layer.marks().unwrap());
    is_cut("now", 5, changes.now()).await;
    is_cut("changes", 5, changes.since(&ChangeQuery::default())).await;
    is_cut("mark", 5, marks.mark("copy")).await;
    is_cut("set_mark", 10, marks.set_mark("copy", None)).await;
}

#[tokio::test(start_paused = true)]
async fn every_call_that_hangs_ends_at_its_deadline() {
    let layer = layer(Manner::Hangs);
    let id = Uuid::from_u128(1);
    is_cut("apply", 10, layer.apply(&claims(1))).await;
    is_cut("apply", 10, layer.apply(&[])).await;
    is_cut("job", 5, layer.job(id)).await;
    is_cut("vm", 5, layer.vm(&VmKey::new(id, "vm-1"))).await;
    is_cut("jobs", 5, layer.jobs(&JobQuery::default())).await;
    is_cut("vms", 5, layer.vms(&VmQuery::default())).await;
    is_cut("events", 5, layer.events(&EventQuery::default())).await;
    is_cut("prune", 10, layer.prune(&Prune::default())).await;
    is_cut("health", 2, layer.health()).await;
    is_cut("close", 12, layer.close()).await;
    tokio::task::yield_now().await;
    let (called, gone) = (
        layer.inner.called.load(Ordering::SeqCst),
        layer.inner.gone.load(Ordering::SeqCst),
    );
    assert_eq!((called, gone), (10, 9), "all were dropped but the draining");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_that_of_a_chunk_and_what_was_stored_is_not_denied() {
    let layer = layer(Manner::HangsAfter(2));
    let (took, result) = ended(layer.apply(&claims(3 * CHUNK as u128))).await;
    let error = result.unwrap_err();
    assert_eq!((took, error.outcome()), (10, UpdateOutcome::Unknown));
    assert_eq!(layer.inner.called.load(Ordering::SeqCst), 3);
    // An error that says of itself that nothing was applied is true of the first chunk only.
    for (answered, outcome) in [(0, UpdateOutcome::NotApplied), (1, UpdateOutcome::Unknown)] {
        let failing = self::layer(Manner::FailsAfter(answered));
        let error = failing.apply(&claims(2 * CHUNK as u128)).await.unwrap_err();
        assert_eq!(error.outcome(), outcome, "{answered} chunks before it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_takes_its_call_along() {
    let layer = layer(Manner::Hangs);
    let gave_up = tokio::time::timeout(Duration::from_secs(1), layer.apply(&claims(1))).await;
    gave_up.unwrap_err();
    tokio::task::yield_now().await;
    assert_eq!(layer.inner.gone.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_panic_is_an_error() {
    let error = layer(Manner::Panics).job(Uuid::from_u128(1)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::OutcomeUnknown, UpdateOutcome::Unknown)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_blocks_its_thread_is_given_up_too() {
    let short = Deadlines {
        read: Duration::from_millis(50),
        ..deadlines()
    };
    let layer = Deadlined::new(Stub::new(Manner::Blocks), short);
    let error = layer.job(Uuid::from_u128(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(layer.inner.gone.load(Ordering::SeqCst), 0, "it still blocks");
}

#[tokio::test]
async fn what_answers_in_time_is_passed_on() {
    let layer = layer(Manner::Answers);
    let outcomes = layer.apply(&claims(CHUNK as u128 + 1)).await.unwrap();
    assert_eq!(outcomes.len(), CHUNK + 1);
    assert_eq!(layer.health().await.unwrap().mode, Mode::Ready);
    layer.close().await.unwrap();
}
