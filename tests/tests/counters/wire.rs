//! Round trips and statements, counted on the wire.

use futures_util::future::try_join_all;
use persist::{EventOrder, EventQuery, JobQuery, JobState, OnUnavailable, Persist, VmKey, VmQuery, VmState};
use persist_core::FLUSHERS;
use persist_tests::cluster::shared;
use persist_tests::place::{Database, Place};
use persist_tests::proxy::{Proxy, STARTUP, Way};
use persist_tests::sample;

use crate::load::lives;

/// What a handle and the server have said to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    connections: u64,
    /// Texts of statements without values.
    scripts: u64,
    /// Statements that were prepared.
    prepared: u64,
    /// Prepared statements that were run.
    run: u64,
    /// Ends of what the client sends before it waits.
    syncs: u64,
    /// Ends of what the server answers.
    ready: u64,
}

/// One prepared statement, one round trip.
const ONE: Said = Said {
    connections: 0,
    scripts: 0,
    prepared: 0,
    run: 1,
    syncs: 1,
    ready: 1,
};

impl Said {
    fn so_far(proxy: &Proxy) -> Self {
        let client = |letter| proxy.messages(Way::There, letter);
        Self {
            connections: client(STARTUP),
            scripts: client(b'Q'),
            prepared: client(b'P'),
            run: client(b'E'),
            syncs: client(b'S'),
            ready: proxy.messages(Way::Back, b'Z'),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            connections: self.connections - before.connections,
            scripts: self.scripts - before.scripts,
            prepared: self.prepared - before.prepared,
            run: self.run - before.run,
            syncs: self.syncs - before.syncs,
            ready: self.ready - before.ready,
        }
    }
}

/// A handle through a proxy, with one connection beside those of updates.
async fn through_proxy() -> (Proxy, Persist) {
    let place = Place::empty(Database::Postgres);
    place.migrated().await.unwrap().close().await.unwrap();
    let proxy = Proxy::start(shared().port()).await;
    // What is encrypted can't be counted.
    let url = format!("{}&sslmode=disable", proxy.url(place.url()));
    let builder = Persist::builder(Some(url)).on_unavailable(OnUnavailable::Fail);
    let persist = builder.connections(1).connect().await.unwrap();
    (proxy, persist)
}

/// What is said for a call whose statement is prepared.
async fn warm(proxy: &Proxy, mut call: impl AsyncFnMut()) -> Said {
    call().await;
    let before = Said::so_far(proxy);
    call().await;
    Said::so_far(proxy).since(before)
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_reads_are_one_round_trip_each() {
    let (proxy, persist) = through_proxy().await;
    for n in 1..5 {
        persist
            .record_job_state(sample::job(n, JobState::Queued))
            .await
            .unwrap();
        persist
            .record_vm_event(sample::vm(n, "vm", VmState::Prepared))
            .await
            .unwrap();
    }
    let key = VmKey::new(sample::id(1), "vm");
    let said = warm(&proxy, async || {
        assert!(persist.job(sample::id(1)).await.unwrap().is_some());
    })
    .await;
    assert_eq!(said, ONE, "a job");
    let said = warm(&proxy, async || {
        assert!(persist.job(sample::id(9)).await.unwrap().is_none());
    })
    .await;
    assert_eq!(said, ONE, "a job that is not there");
    let said = warm(&proxy, async || {
        assert!(persist.vm(&key).await.unwrap().is_some());
    })
    .await;
    assert_eq!(said, ONE, "a VM");
    let first = JobQuery::default().limit(2);
    let said = warm(&proxy, async || {
        assert!(persist.jobs(&first).await.unwrap().next.is_some());
    })
    .await;
    assert_eq!(said, ONE, "a page of jobs");
    let later = first.after(persist.jobs(&JobQuery::default().limit(2)).await.unwrap().next);
    let said = warm(&proxy, async || {
        assert_eq!(persist.jobs(&later).await.unwrap().items.len(), 2);
    })
    .await;
    assert_eq!(said, ONE, "the next page of jobs");
    let query = VmQuery::default().limit(2);
    let said = warm(&proxy, async || {
        assert_eq!(persist.vms(&query).await.unwrap().items.len(), 2);
    })
    .await;
    assert_eq!(said, ONE, "a page of VMs");
    for order in [EventOrder::ByKey, EventOrder::BySeq] {
        let query = EventQuery::default().order(order).limit(2);
        let said = warm(&proxy, async || {
            assert_eq!(persist.events(&query).await.unwrap().items.len(), 2);
        })
        .await;
        assert_eq!(said, ONE, "a page of the history {order:?}");
    }
    persist.close().await.unwrap();
}

/// On one thread, so that all have come before the first is sent.
#[tokio::test]
async fn postgres_reads_that_wait_together_are_one_round_trip() {
    let (proxy, persist) = through_proxy().await;
    for n in 0..20 {
        let job = sample::job(n, JobState::Queued);
        persist.record_job_state(job).await.unwrap();
        let vm = sample::vm(n, "vm", VmState::Prepared);
        persist.record_vm_event(vm).await.unwrap();
    }
    // A few go alone, all others together: 21 keys, of which one has no row and each is asked for twice.
    let said = warm(&proxy, async || {
        let reads = (0..50).map(|n| persist.job(sample::id(n / 2 % 21)));
        let rows = try_join_all(reads).await.unwrap();
        assert_eq!(rows.iter().flatten().count(), 48);
    })
    .await;
    // Five, or four where the last of the calls before had not landed yet.
    let few = |said: Said| {
        let Said { run, .. } = said;
        let each = Said {
            run,
            syncs: run,
            ready: run,
            ..ONE
        };
        said == each && (4..=5).contains(&run)
    };
    assert!(few(said), "jobs: {said:?}");
    let keys: Vec<_> = (0..50)
        .map(|n| VmKey::new(sample::id(n / 2 % 21), "vm"))
        .collect();
    let said = warm(&proxy, async || {
        let rows = try_join_all(keys.iter().map(|key| persist.vm(key)))
            .await
            .unwrap();
        assert_eq!(rows.iter().flatten().count(), 48);
    })
    .await;
    assert!(few(said), "VMs: {said:?}");
    persist.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_updates_are_one_round_trip_each() {
    let (proxy, persist) = through_proxy().await;
    let mut n = 0;
    let said = warm(&proxy, async || {
        n += 1;
        let outcome = persist
            .record_job_state(sample::job(n, JobState::Queued))
            .await
            .unwrap();
        assert_eq!(outcome, sample::CREATED);
    })
    .await;
    assert_eq!(said, ONE, "an update that makes a row");
    let mut n = 0;
    let said = warm(&proxy, async || {
        n += 1;
        let outcome = persist
            .record_job_state(sample::job(n, JobState::Running))
            .await
            .unwrap();
        assert_eq!(outcome, sample::MOVED);
    })
    .await;
    assert_eq!(said, ONE, "an update that moves a row");
    let said = warm(&proxy, async || {
        let outcome = persist
            .record_job_state(sample::job(1, JobState::Queued))
            .await
            .unwrap();
        assert_eq!(outcome, sample::unchanged(JobState::Running, 1));
    })
    .await;
    let two = Said {
        run: 2,
        syncs: 2,
        ready: 2,
        ..ONE
    };
    assert_eq!(said, two, "one that changes nothing is looked up");
    persist.close().await.unwrap();
}

/// Of each flush one statement goes out, whoever waits for it, and each connection prepares it once.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_flushes_are_one_round_trip_each() {
    let (proxy, persist) = through_proxy().await;
    let before = Said::so_far(&proxy);
    lives(&persist).await;
    let said = Said::so_far(&proxy).since(before);
    let flushes = persist.backend().health().await.unwrap().flushes;
    assert!((1..=FLUSHERS as u64).contains(&said.prepared), "{said:?}");
    assert!(said.connections <= FLUSHERS as u64, "{said:?}");
    let expected = Said {
        connections: said.connections,
        // What the session is set to, asked once a connection.
        scripts: said.connections,
        prepared: said.prepared,
        run: flushes,
        syncs: flushes + said.prepared,
        // Each connection begins with the server being ready.
        ready: flushes + said.prepared + 2 * said.connections,
    };
    assert_eq!(said, expected);
    persist.close().await.unwrap();
}
