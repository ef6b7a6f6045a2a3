//! What becomes of callers, whatever their flush meets.

mod deadlines;
mod gate;
mod queue;
mod shares;

use std::sync::Arc;

use self::gate::{BAD, DAMAGED, Gate, PANICS, SHORT, call, claim, outcomes, writer};
use super::{Coalesce, Writer};
use crate::{ErrorKind, UpdateOutcome};

#[tokio::test(start_paused = true)]
async fn whoever_comes_while_a_flush_is_in_the_air_goes_into_the_next() {
    let gate = Gate::new();
    let writer = writer(&gate, Coalesce::default());
    let lone = call(&writer, [1]).await;
    gate.begun(1).await;
    let pair = call(&writer, [2, 3]).await;
    let single = call(&writer, [4]).await;
    gate.open(1);
    assert_eq!(lone.await.unwrap().unwrap(), outcomes([1]));
    gate.begun(2).await;
    gate.open(1);
    assert_eq!(
        pair.await.unwrap().unwrap(),
        outcomes([2, 3]),
        "each caller has its own outcomes, by position"
    );
    assert_eq!(single.await.unwrap().unwrap(), outcomes([4]));
    let flushes = gate.flushes();
    assert_eq!(
        flushes.len(),
        2,
        "one for the lone caller, one for both others: {flushes:?}"
    );
    assert_eq!(flushes[0], [1]);
    assert_eq!(flushes[1].len(), 3);
    assert_eq!(writer.depth(), 0);
}

#[tokio::test(start_paused = true)]
async fn t7_a_claim_that_is_refused_fails_for_its_own_caller_alone() {
    let gate = Gate::new();
    let writer = writer(&gate, Coalesce::default());
    let first = call(&writer, [1]).await;
    gate.begun(1).await;
    let mut good = Vec::new();
    for number in 2..20 {
        good.push(call(&writer, [number, number + 100]).await);
    }
    let bad = call(&writer, [20, BAD]).await;
    let damaged = call(&writer, [22, DAMAGED]).await;
    good.push(call(&writer, [21, 121]).await);
    gate.open(1_000);
    assert_eq!(first.await.unwrap().unwrap(), outcomes([1]));
    for (number, called) in (2..20).chain([21]).zip(good) {
        assert_eq!(
            called.await.unwrap().unwrap(),
            outcomes([number, number + 100]),
            "{number}"
        );
    }
    let error = bad.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::InvalidInput, UpdateOutcome::NotApplied)
    );
    assert_eq!(damaged.await.unwrap().unwrap_err().kind(), ErrorKind::Corrupt);
    let tries = gate.flushes().len();
    assert!(tries <= 2 + 4 * 6, "halved, not one by one: {tries} flushes");
}

#[tokio::test(start_paused = true)]
async fn t6_a_panic_is_an_error_of_those_that_it_concerned() {
    let gate = Gate::new();
    let writer = writer(&gate, Coalesce::default());
    let first = call(&writer, [1]).await;
    gate.begun(1).await;
    let (beside, panics) = (call(&writer, [2]).await, call(&writer, [PANICS]).await);
    gate.open(2);
    first.await.unwrap().unwrap();
    for called in [beside, panics] {
        let error = called.await.unwrap().unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome()),
            (ErrorKind::OutcomeUnknown, UpdateOutcome::Unknown)
        );
    }
    gate.open(1);
    assert_eq!(call(&writer, [3]).await.await.unwrap().unwrap(), outcomes([3]));
    writer.close().await;
}

#[tokio::test(start_paused = true)]
async fn t1_a_caller_that_goes_away_takes_nothing_back() {
    let gate = Gate::new();
    let writer = writer(&gate, Coalesce::default());
    let first = call(&writer, [1]).await;
    gate.begun(1).await;
    let gone = call(&writer, [2]).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    gate.open(2);
    first.await.unwrap().unwrap();
    writer.close().await;
    assert_eq!(gate.flushes(), [[1], [2]], "what was queued is applied");
}

#[tokio::test(start_paused = true)]
async fn callers_wait_for_room_in_their_order() {
    let gate = Gate::new();
    let writer = writer(&gate, Coalesce::default().room(1));
    let held = call(&writer, [1]).await;
    gate.begun(1).await;
    let claims: Vec<_> = [2, 3, 4].map(claim).to_vec();
    let mut waiting = Vec::new();
    for claim in claims {
        let writer = Arc::clone(&writer);
        waiting.push(tokio::spawn(async move { writer.apply(&[claim]).await }));
        tokio::task::yield_now().await;
    }
    assert_eq!(writer.depth(), 1, "no more than there is room");
    gate.open(1);
    assert_eq!(held.await.unwrap().unwrap(), outcomes([1]));
    gate.open(3);
    for called in waiting {
        called.await.unwrap().unwrap();
    }
    let order: Vec<_> = gate.flushes().concat();
    assert_eq!(order, [1, 2, 3, 4]);
    // More than there is room for is applied all the same, by itself.
    gate.open(1);
    let large = (10..20).map(claim).collect::<Vec<_>>();
    assert_eq!(writer.apply(&large).await.unwrap(), outcomes(10..20));
}

#[tokio::test(start_paused = true)]
async fn close_drains_and_then_refuses() {
    let gate = Gate::new();
    let writer = writer(&gate, Coalesce::default());
    let first = call(&writer, [1]).await;
    gate.begun(1).await;
    let queued = call(&writer, [2]).await;
    let closing = tokio::spawn({
        let writer = Arc::clone(&writer);
        async move { writer.close().await }
    });
    while !writer.is_closed() {
        tokio::task::yield_now().await;
    }
    let error = writer.apply(&[claim(3)]).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::Closed, UpdateOutcome::NotApplied)
    );
    assert!(!closing.is_finished(), "something is in the air");
    gate.open(2);
    closing.await.unwrap();
    assert!(
        first.is_finished() && queued.is_finished(),
        "answered before close is"
    );
    queued.await.unwrap().unwrap();
    writer.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_flush_is_told_to_all_of_it_with_its_facts() {
    let gate = Gate::new();
    let writer = writer(&gate, Coalesce::default());
    let first = call(&writer, [1]).await;
    gate.begun(1).await;
    let others = [call(&writer, [2]).await, call(&writer, [3]).await];
    gate.open(1);
    first.await.unwrap().unwrap();
    gate.begun(2).await;
    *gate.failure.lock() = Some(ErrorKind::OutcomeUnknown);
    gate.open(1);
    for called in others {
        let error = called.await.unwrap().unwrap_err();
        assert_eq!(
            (error.kind(), error.context("sqlstate")),
            (ErrorKind::OutcomeUnknown, Some("57P01"))
        );
    }
    assert_eq!(gate.flushes().len(), 2, "an outage is not halved");
}

#[tokio::test(start_paused = true)]
async fn a_large_call_goes_by_chunks_and_what_is_stored_is_not_called_unapplied() {
    let gate = Gate::new();
    let writer = writer(&gate, Coalesce::default().batch(4));
    gate.open(3);
    let all: Vec<_> = (1..=10).map(claim).collect();
    assert_eq!(writer.apply(&all).await.unwrap(), outcomes(1..=10));
    let sizes: Vec<_> = gate.flushes().iter().map(Vec::len).collect();
    assert_eq!(sizes, [4, 4, 2]);
    gate.open(1_000);
    let mixed: Vec<_> = (1..=4).chain([BAD]).map(claim).collect();
    let error = writer.apply(&mixed).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::InvalidInput, UpdateOutcome::Unknown)
    );
    assert_eq!(writer.apply(&[]).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_answers_too_little_is_not_believed() {
    let gate = Gate::new();
    let writer = writer(&gate, Coalesce::default());
    let first = call(&writer, [1]).await;
    gate.begun(1).await;
    let others = [call(&writer, [2]).await, call(&writer, [SHORT]).await];
    gate.open(2);
    first.await.unwrap().unwrap();
    for called in others {
        let error = called.await.unwrap().unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome()),
            (ErrorKind::Internal, UpdateOutcome::Unknown)
        );
    }
}

#[test]
fn a_writer_outlives_its_runtime_and_says_so() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let gate = Gate::new();
    gate.open(1);
    let first = runtime();
    let writer = first.block_on(async { Writer::new(Arc::clone(&gate), Coalesce::default()) });
    drop(first);
    let error = runtime().block_on(writer.apply(&[claim(1)])).unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::Closed, UpdateOutcome::NotApplied)
    );
}
