//! How long a call takes at most, and what is said of it then.

use std::time::Duration;

use tokio::time::{Instant, advance};

use super::gate::{BAD, Gate, call, claim, outcomes, writer};
use crate::layer::Coalesce;
use crate::{ErrorKind, UpdateOutcome};

#[tokio::test(start_paused = true)]
async fn what_waits_too_long_is_withdrawn_and_what_is_in_the_air_is_unknown() {
    let gate = Gate::new();
    let settings = Coalesce::default()
        .patience(Duration::from_secs(10))
        .flushers(1)
        .room(2);
    let writer = writer(&gate, settings);
    let begun = Instant::now();
    let flying = call(&writer, [1]).await;
    gate.begun(1).await;
    let queued = call(&writer, [2]).await;
    let outside = writer.apply(&[claim(3)]).await.unwrap_err();
    assert_eq!(
        (outside.kind(), outside.outcome()),
        (ErrorKind::Busy, UpdateOutcome::NotApplied)
    );
    let error = queued.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::Timeout, UpdateOutcome::NotApplied)
    );
    let error = flying.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::Timeout, UpdateOutcome::Unknown)
    );
    assert_eq!(begun.elapsed().as_secs(), 10);
    gate.open(1);
    writer.close().await;
    assert_eq!(gate.flushes(), [[1]], "neither of the others is sent later");
}

/// A frozen server: the flush before took nine seconds, and the next one never ends.
#[tokio::test(start_paused = true)]
async fn c6_the_time_in_the_queue_is_part_of_the_deadline() {
    let gate = Gate::new();
    let settings = Coalesce::default().patience(Duration::from_secs(10)).flushers(1);
    let writer = writer(&gate, settings);
    let first = call(&writer, [1]).await;
    gate.begun(1).await;
    let begun = Instant::now();
    let second = call(&writer, [2]).await;
    advance(Duration::from_secs(9)).await;
    gate.open(1);
    assert_eq!(first.await.unwrap().unwrap(), outcomes([1]));
    gate.begun(2).await;
    let error = second.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::Timeout, UpdateOutcome::Unknown)
    );
    assert_eq!(begun.elapsed().as_secs(), 10, "not once more from its flush on");
    gate.open(1);
}

/// Whoever waits for the halves of a flush that was refused does so within the same deadline.
#[tokio::test(start_paused = true)]
async fn halving_is_within_the_deadline() {
    let gate = Gate::new();
    let settings = Coalesce::default().patience(Duration::from_secs(10)).flushers(1);
    let writer = writer(&gate, settings);
    let first = call(&writer, [1]).await;
    gate.begun(1).await;
    let begun = Instant::now();
    let calls = [
        call(&writer, [2]).await,
        call(&writer, [3]).await,
        call(&writer, [BAD]).await,
    ];
    gate.open(2);
    first.await.unwrap().unwrap();
    gate.begun(3).await;
    for called in calls {
        let error = called.await.unwrap().unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome()),
            (ErrorKind::Timeout, UpdateOutcome::Unknown)
        );
    }
    assert_eq!(begun.elapsed().as_secs(), 10);
    gate.open(1_000);
}

#[tokio::test(start_paused = true)]
async fn settings_without_end_are_cut_to_what_a_clock_can_count() {
    let gate = Gate::new();
    let settings = Coalesce::default().patience(Duration::MAX).hold(Duration::MAX);
    let writer = writer(&gate, settings);
    let first = call(&writer, [1]).await;
    gate.begun(1).await;
    let second = call(&writer, [2]).await;
    gate.open(2);
    assert_eq!(first.await.unwrap().unwrap(), outcomes([1]));
    assert_eq!(second.await.unwrap().unwrap(), outcomes([2]));
}
