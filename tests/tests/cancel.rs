//! Calls that are dropped while they wait. Numbers are those of the table of failures.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures_util::future::BoxFuture;
use persist::{
    ChangeQuery, EventQuery, Heartbeat, JobQuery, JobState, OrphanQuery, PersistBackend, Prune, RefusalQuery,
    State, Tried, VmKey, VmQuery,
};
use persist_tests::cluster::shared;
use persist_tests::place::{self, Database, Place};
use persist_tests::{process, sample};

/// Runs a call until it has waited so many times, then drops it. Says whether it had ended before.
async fn ended_within(waits: u32, call: impl Future) -> bool {
    let mut call = pin!(call);
    let mut left = waits;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        call.as_mut().poll(context).map(|_| true)
    })
    .await
}

type Call = fn(Arc<dyn PersistBackend>, u64) -> BoxFuture<'static, ()>;

/// Every operation, on the n-th job. Not `down`, which would take the store from the others, nor `mend`, whose steps are each
/// whole by themselves (an index is built outside of any transaction): their tests are of migrations and of the doctor.
const CALLS: [(&str, Call); 22] = [
    ("apply", |backend, n| {
        Box::pin(async move {
            let updates = [
                sample::job(n, JobState::Queued),
                sample::job(n, JobState::Running),
            ];
            let _ = backend.apply(&sample::claims(updates).unwrap()).await;
        })
    }),
    ("job", |backend, n| {
        Box::pin(async move {
            let _ = backend.job(sample::id(n)).await;
        })
    }),
    ("vm", |backend, n| {
        Box::pin(async move {
            let _ = backend.vm(&VmKey::new(sample::id(n), "vm")).await;
        })
    }),
    ("jobs", |backend, _| {
        Box::pin(async move {
            let _ = backend.jobs(&JobQuery::default()).await;
        })
    }),
    ("vms", |backend, _| {
        Box::pin(async move {
            let _ = backend.vms(&VmQuery::default()).await;
        })
    }),
    ("events", |backend, _| {
        Box::pin(async move {
            let _ = backend.events(&EventQuery::default()).await;
        })
    }),
    ("prune", |backend, n| {
        Box::pin(async move {
            let _ = backend.prune(&Prune::default().ids([sample::id(n - 1)])).await;
        })
    }),
    ("heartbeat", |backend, n| {
        Box::pin(async move {
            let owners = backend.owners().unwrap();
            let _ = owners.heartbeat(&Heartbeat::new("me", n)).await;
        })
    }),
    ("orphans", |backend, _| {
        Box::pin(async move {
            let owners = backend.owners().unwrap();
            let _ = owners.orphans(&OrphanQuery::default()).await;
        })
    }),
    ("owners", |backend, _| {
        Box::pin(async move {
            let _ = backend.owners().unwrap().list().await;
        })
    }),
    ("keep", |backend, n| {
        Box::pin(async move {
            let claims = sample::claims([sample::job(n - 1, JobState::Queued)]).unwrap();
            let standing = State::Job(JobState::Queued);
            let tried = claims.into_iter().map(|claim| Tried::new(claim, standing));
            let _ = backend.ledger().unwrap().keep(&tried.collect::<Vec<_>>()).await;
        })
    }),
    ("refusals", |backend, _| {
        Box::pin(async move {
            let ledger = backend.ledger().unwrap();
            let _ = ledger.refusals(&RefusalQuery::default()).await;
        })
    }),
    ("now", |backend, _| {
        Box::pin(async move {
            let _ = backend.changes().unwrap().now().await;
        })
    }),
    ("since", |backend, _| {
        Box::pin(async move {
            let changes = backend.changes().unwrap();
            let _ = changes.since(&ChangeQuery::default()).await;
        })
    }),
    ("findings", |backend, _| {
        Box::pin(async move {
            let _ = backend.inspect().unwrap().findings().await;
        })
    }),
    ("mark", |backend, _| {
        Box::pin(async move {
            let _ = backend.marks().unwrap().mark("t1").await;
        })
    }),
    ("set_mark", |backend, n| {
        Box::pin(async move {
            let marks = backend.marks().unwrap();
            let _ = marks.set_mark("t1", Some(&n.to_string())).await;
        })
    }),
    ("status", |backend, _| {
        Box::pin(async move {
            let _ = backend.schema().unwrap().status().await;
        })
    }),
    ("plan", |backend, _| {
        Box::pin(async move {
            let _ = backend.schema().unwrap().plan().await;
        })
    }),
    ("up", |backend, _| {
        Box::pin(async move {
            let _ = backend.schema().unwrap().up().await;
        })
    }),
    ("check", |backend, _| {
        Box::pin(async move {
            let _ = backend.schema().unwrap().check().await;
        })
    }),
    ("health", |backend, _| {
        Box::pin(async move {
            let _ = backend.health().await;
        })
    }),
];

#[tokio::test(flavor = "multi_thread")]
async fn t1_a_call_dropped_at_every_await_leaves_nothing_behind() {
    for database in Database::BOTH {
        let name = shared().fresh_name("t1");
        let place = match database {
            Database::Sqlite => Place::empty(database),
            Database::Postgres => {
                Place::at(format!("{}&application_name={name}", shared().fresh_schema_url()))
            }
        };
        let backend = place.migrated().await.unwrap();
        let mut n = 1;
        for (operation, call) in CALLS {
            let mut waits = 0;
            loop {
                n += 1;
                let ended = ended_within(waits, call(Arc::clone(&backend), n)).await;
                // Whatever was dropped: the next call works, on the same job too.
                let claims = sample::claims([sample::job(n, JobState::Queued)]).unwrap();
                let outcome = backend.apply(&claims).await.unwrap()[0];
                let clean = ["applied", "late", "unchanged"].contains(&outcome.name());
                assert!(clean, "{operation} dropped after {waits} waits: {outcome}");
                if ended {
                    break;
                }
                waits += 1;
                assert!(waits < 1_000, "{operation} never ends");
            }
        }
        if database == Database::Postgres {
            let open = format!(
                "FROM pg_stat_activity WHERE application_name = '{name}' AND state LIKE 'idle in transaction%'"
            );
            process::until("no transaction is open", async || place.count(&open).await == 0).await;
        }
        assert_eq!(place.strays().await, [""; 0]);
        place::fold_holds(&backend).await;
        backend.close().await.unwrap();
    }
}
