//! What a recovery ends, and what it leaves as it is.

use std::time::Duration;

use persist_memory::MemoryBackend;
use uuid::Uuid;

use super::flaky::{Opener, connect, queued};
use crate::*;

fn job(number: u128, state: JobState) -> JobUpdate {
    JobUpdate::new(Uuid::from_u128(number), state)
}

fn vm(number: u128, state: VmState) -> VmUpdate {
    VmUpdate::new(Uuid::from_u128(number), "vm", state)
}

async fn handle(name: &str, actor: &str) -> Persist {
    let builder = Persist::builder(Some(format!("memory:{name}"))).actor(actor);
    builder.connect().await.expect("connects")
}

/// Two jobs and a VM that an earlier run has left, in a second attempt or a first, and one job of somebody else.
async fn left(name: &str) -> Persist {
    let earlier = handle(name, "me").await;
    drop(earlier.keep_alive(Duration::from_secs(60)).await.expect("beats"));
    let updates = vec![
        job(1, JobState::Running).attempt(2).into(),
        vm(1, VmState::Running).into(),
        queued(2).into(),
        job(3, JobState::Running).actor("other").into(),
        job(4, JobState::Succeeded).into(),
    ];
    earlier.record(updates).await.expect("is recorded");
    let now = handle(name, "me").await;
    let all = now.events(&EventQuery::default()).await.expect("is read").items;
    let latest = all
        .iter()
        .map(|slot| slot.recorded_at)
        .max()
        .expect("was recorded");
    // A later start than all of that, by the clock of the store.
    while now
        .keep_alive(Duration::from_secs(60))
        .await
        .expect("beats")
        .owner()
        .expect("has beaten")
        .started_at
        <= latest
    {
        tokio::task::yield_now().await;
    }
    now
}

fn mine() -> Recovery {
    Recovery::of(OrphanQuery::default().actor("me")).reason("restarted")
}

#[tokio::test]
async fn what_an_earlier_run_left_is_ended_once_and_nothing_else_is() {
    let _kept = MemoryBackend::named("recovered");
    let persist = left("recovered").await;
    let dry = persist.recover(&mine().dry_run(true)).await.unwrap();
    assert_eq!(
        dry,
        Recovered {
            jobs: 2,
            vms: 1,
            passed: 0
        }
    );
    assert_eq!(
        persist.events(&EventQuery::default()).await.unwrap().items.len(),
        5
    );
    assert_eq!(persist.recover(&mine()).await.unwrap(), dry);
    let states = async |number| {
        let job = persist.job(Uuid::from_u128(number)).await.unwrap().unwrap();
        (job.state, job.attempt.get())
    };
    assert_eq!(states(1).await, (JobState::Lost, 2));
    assert_eq!(states(2).await, (JobState::Lost, 1));
    assert_eq!(states(3).await, (JobState::Running, 1));
    assert_eq!(states(4).await, (JobState::Succeeded, 1));
    let of_first = EventQuery::default().request_id(Uuid::from_u128(1));
    let ended = persist.events(&of_first).await.unwrap().items;
    let ended: Vec<_> = ended.iter().filter(|slot| slot.state.is_ended()).collect();
    let told: Vec<_> = ended
        .iter()
        .map(|slot| (slot.actor.as_deref(), slot.reason.as_deref()))
        .collect();
    assert_eq!(told, [(Some("me"), Some("restarted")); 2]);
    assert_eq!(persist.recover(&mine()).await.unwrap(), Recovered::default());
    persist
        .record_job_state(job(1, JobState::Succeeded).attempt(2))
        .await
        .unwrap();
    assert_eq!(
        states(1).await,
        (JobState::Succeeded, 2),
        "what is reported heals"
    );
}

#[tokio::test]
async fn nothing_is_ended_because_of_what_was_ended_just_before() {
    let _kept = MemoryBackend::named("once");
    let persist = left("once").await;
    // Nobody is known who sees to this one: it is an orphan only once its job has ended.
    let of_a_stranger = VmUpdate::new(Uuid::from_u128(2), "vm", VmState::Running).actor("who never beats");
    persist.record_vm_event(of_a_stranger).await.unwrap();
    let all = Recovery::of(OrphanQuery::default());
    let first = persist.recover(&all).await.unwrap();
    assert_eq!((first.jobs, first.vms), (2, 1));
    let second = persist.recover(&all).await.unwrap();
    assert_eq!((second.jobs, second.vms), (0, 1));
}

#[tokio::test]
async fn more_than_a_page_is_ended() {
    let persist = handle("", "me").await;
    let vms = (1..=2_500).map(|number| vm(number, VmState::Running).into());
    persist.record(vms.collect()).await.unwrap();
    let without_job = OrphanQuery::default().kinds([OrphanKind::VmWithoutJob]).limit(1);
    let recovered = persist.recover(&Recovery::of(without_job)).await.unwrap();
    assert_eq!((recovered.jobs, recovered.vms), (0, 2_500));
}

#[tokio::test]
async fn a_database_that_goes_away_in_between_is_an_error_that_says_how_far_it_came() {
    let open = Opener::new("goes away");
    let (failure, fails_after) = (open.failure.clone(), open.fails_after.clone());
    let persist = connect(open, OnUnavailable::BestEffort).await.unwrap();
    let vms = (1..=2_500).map(|number| vm(number, VmState::Running).into());
    persist.record(vms.collect()).await.unwrap();
    *fails_after.lock() = Some(2);
    let without_job = OrphanQuery::default().kinds([OrphanKind::VmWithoutJob]);
    let recovery = Recovery::of(without_job);
    let error = persist.recover(&recovery).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let told = format!(
        "{} of 2500 orphans are recorded as ended",
        2 * persist_core::CHUNK
    );
    assert!(error.to_string().contains(&told), "{error}");
    *failure.lock() = None;
    super::flaky::until_ready(&persist).await;
    let rest = persist.recover(&recovery).await.unwrap();
    assert_eq!(rest.vms, 2_500 - 2 * persist_core::CHUNK as u64);
}

#[tokio::test]
async fn without_a_database_there_is_no_empty_answer() {
    let off = Persist::new(None).await.unwrap();
    let error = off.recover(&mine()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let closed = handle("", "me").await;
    closed.close().await.unwrap();
    let error = closed.recover(&mine()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}
