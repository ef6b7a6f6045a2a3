//! The backend as its callers see it.

use persist_core::{
    Claim, ErrorKind, EventOrder, EventQuery, JobQuery, JobState, JobUpdate, Outcome, PersistBackend as _,
    Prune, Pruned, SystemClock, Timestamp, VmQuery, VmState, VmUpdate, time,
};
use uuid::Uuid;

use crate::MemoryBackend;

fn at(second: i64) -> Timestamp {
    time::from_micros(second * 1_000_000).unwrap()
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn job(number: u128, state: JobState, second: i64) -> Claim {
    JobUpdate::new(id(number), state)
        .at(at(second))
        .check(&SystemClock)
        .unwrap()
}

fn vm(number: u128, name: &str, state: VmState, second: i64) -> Claim {
    VmUpdate::new(id(number), name, state)
        .at(at(second))
        .check(&SystemClock)
        .unwrap()
}

#[tokio::test]
async fn every_outcome_is_told() {
    let backend = MemoryBackend::new();
    let filled = JobUpdate::new(id(1), JobState::Queued)
        .at(at(1))
        .runs_on("a")
        .check(&SystemClock)
        .unwrap();
    let batch = [
        job(1, JobState::Running, 2),
        job(1, JobState::Queued, 1),
        filled.clone(),
        filled,
        job(1, JobState::Failed, 3),
        job(1, JobState::Succeeded, 3),
    ];
    let outcomes = backend.apply(&batch).await.unwrap();
    let names: Vec<_> = outcomes.iter().map(Outcome::name).collect();
    assert_eq!(
        names,
        ["applied", "late", "filled", "unchanged", "applied", "refused"]
    );
    assert_eq!(outcomes[0], Outcome::Applied { created: true });
    assert_eq!(outcomes[4], Outcome::Applied { created: false });
    let found = backend.job(id(1)).await.unwrap().unwrap();
    assert_eq!(
        (found.state, found.runs_on.as_deref()),
        (JobState::Failed, Some("a"))
    );
    assert_eq!((found.created_at, found.updated_at), (at(1), at(3)));
}

#[tokio::test]
async fn a_fill_moves_its_slot_to_the_end_by_sequence() {
    let backend = MemoryBackend::new();
    backend
        .apply(&[job(1, JobState::Queued, 1), job(1, JobState::Running, 2)])
        .await
        .unwrap();
    let fill = JobUpdate::new(id(1), JobState::Queued)
        .at(at(1))
        .actor("me")
        .check(&SystemClock)
        .unwrap();
    backend.apply(&[fill]).await.unwrap();
    let query = EventQuery::default().order(EventOrder::BySeq).limit(1);
    let first = backend.events(&query).await.unwrap();
    let rest = backend.events(&query.clone().after(first.next)).await.unwrap();
    let seen: Vec<_> = [first.items, rest.items]
        .concat()
        .iter()
        .map(|e| (e.seq.get(), e.state.name()))
        .collect();
    assert_eq!(seen, [(2, "running"), (3, "queued")]);
    assert_eq!(rest.next, None);
}

#[tokio::test]
async fn the_history_by_key_has_a_job_before_its_vms_and_goes_on_where_a_slot_is_gone() {
    let backend = MemoryBackend::new();
    let claims = [
        vm(3, "a", VmState::Running, 1),
        job(2, JobState::Running, 2),
        vm(2, "b", VmState::Running, 3),
        vm(2, "a", VmState::Running, 4),
        job(2, JobState::Queued, 5),
        vm(1, "z", VmState::Running, 6),
        job(4, JobState::Queued, 7),
    ];
    backend.apply(&claims).await.unwrap();
    let mut query = EventQuery::default().limit(1);
    let (mut seen, mut cursors) = (Vec::new(), Vec::new());
    loop {
        let page = backend.events(&query).await.unwrap();
        seen.extend(page.items.iter().map(|event| event.at));
        if page.next.is_none() {
            break;
        }
        cursors.push(page.next.clone());
        query = query.after(page.next);
    }
    assert_eq!(seen, [6, 5, 2, 4, 3, 1, 7].map(at));

    backend.prune(&Prune::default().ids([id(2)])).await.unwrap();
    let of_3 = EventQuery::default().request_id(id(3));
    for (nth, cursor) in cursors.into_iter().enumerate() {
        let rest = backend
            .events(&EventQuery::default().after(cursor.clone()))
            .await
            .unwrap();
        let rest: Vec<_> = rest.items.iter().map(|event| event.at).collect();
        assert_eq!(rest, [1, 7].map(at)[usize::from(nth == 5)..], "after {nth}");
        let page = backend.events(&of_3.clone().after(cursor)).await.unwrap();
        assert_eq!(
            page.items.len(),
            usize::from(nth < 5),
            "of one request after {nth}"
        );
    }
}

#[tokio::test]
async fn pages_in_every_order_see_every_row_once() {
    use persist_core::Order;
    let backend = MemoryBackend::new();
    let claims: Vec<_> = (1..=7)
        .map(|n| vm(n, "a", VmState::Running, 100 - (n as i64 / 2)))
        .collect();
    backend.apply(&claims).await.unwrap();
    for order in [Order::NewestFirst, Order::OldestFirst, Order::ById] {
        let mut query = VmQuery::default().order(order).limit(3);
        let mut seen = Vec::new();
        loop {
            let page = backend.vms(&query).await.unwrap();
            seen.extend(page.items.iter().map(|vm| (vm.created_at, vm.request_id)));
            if page.next.is_none() {
                break;
            }
            query = query.after(page.next);
        }
        let mut sorted = seen.clone();
        match order {
            Order::NewestFirst => sorted.sort_by(|a, b| b.cmp(a)),
            Order::OldestFirst => sorted.sort(),
            Order::ById => sorted.sort_by_key(|(_, id)| *id),
        }
        assert_eq!((seen.len(), &seen), (7, &sorted), "{order:?}");
    }
}

#[tokio::test]
async fn prune_removes_whole_ended_requests_oldest_first() {
    let backend = MemoryBackend::new();
    let claims = [
        job(1, JobState::Succeeded, 1),
        vm(1, "a", VmState::Destroyed, 2),
        job(2, JobState::Failed, 3),
        vm(2, "a", VmState::Running, 3),
        vm(3, "a", VmState::Failed, 0),
        job(4, JobState::Lost, 5),
    ];
    backend.apply(&claims).await.unwrap();
    let all = Prune::default().ended_before(at(5));
    let mut dry = backend.prune(&all.clone().limit(1).dry_run(true)).await.unwrap();
    assert!(dry.next.take().is_some(), "more is to be had behind it");
    assert_eq!(dry, Pruned::new(1, 0, 1, 1, true));
    assert_eq!(backend.prune(&all).await.unwrap(), Pruned::new(2, 1, 2, 3, false));
    assert_eq!(
        backend.prune(&Prune::default().ids([id(2)])).await.unwrap(),
        Pruned::new(1, 1, 1, 2, false)
    );
    assert_eq!(backend.jobs(&JobQuery::default()).await.unwrap().items.len(), 1);
    let keep = Prune::default().keep_per_repo(1);
    assert_eq!(backend.prune(&keep).await.unwrap(), Pruned::default());
    assert_eq!(
        backend.events(&EventQuery::default()).await.unwrap().items.len(),
        1
    );
}

#[tokio::test]
async fn a_named_store_is_shared_and_a_closed_handle_is_closed_alone() {
    let (one, other) = (MemoryBackend::named("shared"), MemoryBackend::named("shared"));
    one.apply(&[job(1, JobState::Queued, 1)]).await.unwrap();
    one.close().await.unwrap();
    one.close().await.unwrap();
    assert_eq!(one.health().await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(one.apply(&[]).await.unwrap_err().kind(), ErrorKind::Closed);
    assert!(other.job(id(1)).await.unwrap().is_some());
    drop(other);
    assert!(MemoryBackend::named("shared").job(id(1)).await.unwrap().is_none());
}
