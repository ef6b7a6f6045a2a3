//! What goes out together, and who waits for whom.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::super::queue::share_of;
use super::gate::{FREEZES, Gate, call, call_with, claim, claim_of, writer};
use crate::layer::Coalesce;
use crate::{ErrorKind, UpdateOutcome};

#[tokio::test(start_paused = true)]
async fn updates_of_one_job_are_never_in_two_flushes_and_keep_their_order() {
    let gate = Gate::new();
    let settings = Coalesce::default().batch(8).beside(3).flushers(4);
    let writer = writer(&gate, settings);
    let mut calls = Vec::new();
    for attempt in 1..=40 {
        for job in 1..=5 {
            calls.push(call_with(&writer, vec![claim_of(job, attempt)]).await);
        }
    }
    // Flushes end in any order; a job that is in the air must not be in another one.
    let mut seen = 0;
    while calls.iter().any(|call| !call.is_finished()) {
        gate.begun(seen + 1).await;
        let flushes = gate.flushes();
        let flying = &flushes[seen..];
        for (at, flush) in flying.iter().enumerate() {
            for other in &flying[at + 1..] {
                assert!(
                    !flush.iter().any(|job| other.contains(job)),
                    "one job in two flushes: {flying:?}"
                );
            }
        }
        assert!(flushes.iter().all(|flush| flush.len() <= 8));
        seen = flushes.len();
        gate.open(flying.len());
        while gate.permits.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
    for called in calls {
        called.await.unwrap().unwrap();
    }
    for job in 1..=5 {
        let claims = gate.claims.lock();
        let attempts = claims
            .iter()
            .filter(|claim| claim.subject().request_id().as_u128() == job)
            .map(|claim| claim.attempt().get());
        assert!(attempts.eq(1..=40), "each once, in the order in which they came");
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_dealt_to_as_many_flushes_as_are_worth_their_commit() {
    let gate = Gate::new();
    let settings = Coalesce::default().beside(10).flushers(4);
    let writer = writer(&gate, settings);
    let first = call(&writer, [1]).await;
    gate.begun(1).await;
    let mut calls = Vec::new();
    for job in 2..=36 {
        calls.push(call(&writer, [job]).await);
    }
    gate.begun(2).await;
    gate.open(1_000);
    first.await.unwrap().unwrap();
    for called in calls {
        called.await.unwrap().unwrap();
    }
    let flushes = gate.flushes();
    assert!(
        flushes.len() >= 3 && flushes[1].len() >= 10,
        "more than one, none but the last for a few: {flushes:?}"
    );
    assert_eq!(flushes.concat().len(), 36);
}

/// So many jobs, each of another share.
pub(super) fn jobs_of(shares: usize) -> Vec<u128> {
    let mut seen = HashSet::new();
    let is_new = |job: &u128| seen.insert(share_of(&[claim(*job)]));
    (1..).filter(is_new).take(shares).collect()
}

#[tokio::test(start_paused = true)]
async fn c6_a_flush_that_is_held_up_holds_up_its_own_shares_only() {
    let gate = Gate::new();
    let writer = writer(&gate, Coalesce::default());
    let first = call(&writer, [999_999]).await;
    gate.begun(1).await;
    // Eight callers in one flush, and one of them is the one whose job is held up.
    let (together, others) = jobs_of(64).into_iter().partition::<Vec<_>, _>(|job| job % 8 == 0);
    let mut held = vec![call(&writer, [FREEZES]).await];
    for job in together.iter().take(7) {
        held.push(call(&writer, [*job]).await);
    }
    gate.open(1_000);
    first.await.unwrap().unwrap();
    gate.begun(2).await;
    assert_eq!(gate.flushes()[1].len(), 8);
    let shares: Vec<_> = gate.flushes()[1]
        .iter()
        .map(|job| share_of(&[claim(*job)]))
        .collect();
    for job in others {
        let begun = Instant::now();
        if shares.contains(&share_of(&[claim(job)])) {
            continue;
        }
        writer.apply(&[claim(job)]).await.unwrap();
        let waited = begun.elapsed();
        assert!(waited < Duration::from_millis(20), "{job} waited {waited:?}");
    }
    let behind = writer.apply(&[claim_of(FREEZES, 2)]).await.unwrap_err();
    assert_eq!(
        (behind.kind(), behind.outcome()),
        (ErrorKind::Timeout, UpdateOutcome::NotApplied)
    );
    for called in held {
        let error = called.await.unwrap().unwrap_err();
        assert_eq!(error.outcome(), UpdateOutcome::Unknown);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lone_caller_is_not_passed_over_for_busy_shares() {
    let gate = Gate::new();
    let writer = writer(&gate, Coalesce::default().hold(Duration::from_secs(60)));
    let jobs = jobs_of(4);
    let mut busy = JoinSet::new();
    for job in jobs[..2].iter().copied() {
        for _ in 0..2 {
            let writer = Arc::clone(&writer);
            let claims: Vec<_> = (1..=512).map(|attempt| claim_of(job, attempt)).collect();
            busy.spawn(async move { while writer.apply(&claims).await.is_ok() {} });
        }
    }
    busy.spawn({
        let gate = Arc::clone(&gate);
        async move {
            loop {
                sleep(Duration::from_millis(3)).await;
                gate.open(1);
            }
        }
    });
    gate.begun(4).await;
    for job in jobs[2..].iter().copied().cycle().take(20) {
        let begun = Instant::now();
        writer.apply(&[claim(job)]).await.unwrap();
        let waited = begun.elapsed();
        assert!(waited < Duration::from_millis(30), "{job} waited {waited:?}");
    }
}

/// Two rows are locked: sixty others go on as if nobody was.
#[tokio::test(start_paused = true)]
async fn c6_flushes_that_are_held_up_are_not_waited_for() {
    let gate = Gate::new();
    let writer = writer(&gate, Coalesce::default());
    let mut held = vec![call(&writer, [FREEZES]).await];
    gate.begun(1).await;
    let mut jobs = jobs_of(64);
    jobs.retain(|job| share_of(&[claim(*job)]) != share_of(&[claim(FREEZES)]));
    let second = jobs.remove(0);
    held.push(call_with(&writer, vec![claim(second), claim(FREEZES)]).await);
    gate.begun(2).await;
    sleep(Duration::from_secs(1)).await;
    gate.open(1_000);
    let begun = Instant::now();
    let mut calls = JoinSet::new();
    for job in jobs {
        let writer = Arc::clone(&writer);
        calls.spawn(async move { writer.apply(&[claim(job)]).await });
    }
    for answered in calls.join_all().await {
        answered.unwrap();
    }
    let waited = begun.elapsed();
    assert!(waited < Duration::from_millis(5), "{waited:?}");
    assert!(held.iter().all(|called| !called.is_finished()));
}

/// The connections are that many: where all of them are held up, so is everybody, until a deadline passes.
#[tokio::test(start_paused = true)]
async fn c6_as_many_flushes_as_there_may_be_hold_up_everybody_until_a_deadline() {
    let gate = Gate::new();
    let writer = writer(
        &gate,
        Coalesce::default().flushers(2).patience(Duration::from_secs(3)),
    );
    let mut jobs = jobs_of(3);
    let free = jobs.pop().unwrap();
    let mut held = Vec::new();
    for (nth, job) in jobs.into_iter().enumerate() {
        held.push(call_with(&writer, vec![claim(job), claim(FREEZES)]).await);
        gate.begun(nth + 1).await;
    }
    let error = writer.apply(&[claim(free)]).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::Timeout, UpdateOutcome::NotApplied)
    );
    for called in held {
        let error = called.await.unwrap().unwrap_err();
        assert_eq!(error.outcome(), UpdateOutcome::Unknown);
    }
}

#[tokio::test(start_paused = true)]
async fn more_than_two_flushes_go_for_a_long_queue_or_after_a_while() {
    let gate = Gate::new();
    let writer = writer(&gate, Coalesce::default().batch(30));
    let begun = Instant::now();
    let mut calls = Vec::new();
    for (nth, (job, after_ms)) in jobs_of(4).into_iter().zip([0, 10, 60, 110]).enumerate() {
        calls.push(call(&writer, [job]).await);
        gate.begun(nth + 1).await;
        let waited = begun.elapsed().as_millis();
        assert!(
            (after_ms..after_ms + 5).contains(&waited),
            "{nth} waited {waited} ms"
        );
    }
    // Four are the most.
    for job in jobs_of(50).split_off(4) {
        calls.push(call(&writer, [job]).await);
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(gate.flushes().len(), 4);
    gate.open(2);
    gate.begun(6).await;
    let flushes = gate.flushes();
    assert_eq!((flushes[4].len(), flushes[5].len()), (30, 16), "{flushes:?}");
    gate.open(1_000);
    for called in calls {
        called.await.unwrap().unwrap();
    }
}
