//! What Postgres brings: an index that the order needs, stores that take the place of others, and numbers of transactions that
//! a dump takes along.

use std::sync::Arc;

use persist::{Persist, WatchQuery};
use persist_core::{
    ChangePosition, ChangeQuery, Changes, ErrorKind, JobState, PersistBackend, Prune, Result,
};
use persist_tests::place::{self, Database, Place};
use persist_tests::{cluster, process, sample};

fn of(backend: &Arc<dyn PersistBackend>) -> &dyn Changes {
    backend.changes().unwrap()
}

fn kind<T>(answer: Result<T>) -> Option<ErrorKind> {
    answer.err().map(|error| error.kind())
}

async fn queue(backend: &Arc<dyn PersistBackend>, jobs: impl IntoIterator<Item = u64>) {
    for number in jobs {
        let update = sample::job(number, JobState::Queued);
        backend.apply(&sample::claims([update]).unwrap()).await.unwrap();
    }
}

/// The present place, from which everything older has ended.
async fn here(backend: &Arc<dyn PersistBackend>) -> ChangePosition {
    let changes = of(backend);
    process::until("what was written is seen", async || {
        let changed = changes.since(&ChangeQuery::default()).await.unwrap();
        let written = backend.jobs(&persist_core::JobQuery::default()).await.unwrap();
        changed.changes.len() == written.items.len()
    })
    .await;
    changes.now().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_valid_index_it_can_not_be_watched_and_says_what_to_do() {
    let place = Place::empty(Database::Postgres);
    let backend = place.migrated().await.unwrap();
    let changes = of(&backend);
    let schema = place.schema();
    // As one is that was to be made concurrently, and failed.
    let valid = |is_valid: bool| {
        format!(
            "UPDATE pg_index SET indisvalid = {is_valid} WHERE indexrelid = '{schema}.events_xid'::regclass"
        )
    };
    let drop = format!("DROP INDEX {schema}.events_xid");
    // By whatever name, but of all rows.
    let partial = format!("CREATE INDEX mine ON {schema}.events (xid, seq) WHERE seq > 7");
    let whole = format!("CREATE INDEX ours ON {schema}.events (xid, seq)");
    for (statement, expected) in [
        (valid(false), Some(ErrorKind::SchemaMismatch)),
        (drop, Some(ErrorKind::SchemaMismatch)),
        (partial, Some(ErrorKind::SchemaMismatch)),
        (whole, None),
    ] {
        place.execute(&statement).await;
        let refused = changes.since(&ChangeQuery::default()).await;
        if let Err(error) = &refused {
            assert!(error.to_string().contains("run persist migrate up"), "{error}");
        }
        assert_eq!(kind(refused), expected, "{statement}");
        assert_eq!(kind(changes.now().await), expected, "{statement}");
    }
    backend.close().await.unwrap();
}

/// A row that says so stands for Citus itself.
#[tokio::test(flavor = "multi_thread")]
async fn where_citus_is_there_is_no_watching_and_all_else_is_let_through() {
    let database = cluster::shared().fresh_database_url().await;
    let place = Place::at(format!("{database}?persist_schema=ci"));
    let citus = "INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion) \
                 VALUES (99999, 'citus', 10, 'public'::regnamespace, false, '13.0')";
    place.execute(citus).await;
    let backend = place.migrated().await.unwrap();
    let persist = Persist::builder(Some(place.url().to_owned())).connect();
    let persist = persist.await.unwrap();
    let changes = of(&backend);
    let refused = [
        changes.now().await.map(drop),
        changes.since(&ChangeQuery::default()).await.map(drop),
        persist.watch(WatchQuery::default()).await.map(drop),
    ];
    for refused in refused {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        assert!(error.to_string().contains("can't be watched"), "{error}");
    }
    queue(&backend, [1, 2]).await;
    let failed = sample::job(1, JobState::Failed);
    assert_eq!(persist.record_job_state(failed).await.unwrap(), sample::MOVED);
    for dry_run in [true, false] {
        let prune = Prune::default().states([JobState::Failed]).dry_run(dry_run);
        let pruned = backend.prune(&prune).await.unwrap();
        assert_eq!((pruned.requests, pruned.jobs, pruned.events), (1, 1, 2));
    }
    let left = backend.jobs(&persist_core::JobQuery::default()).await.unwrap();
    assert_eq!(left.items.len(), 1);
    place::fold_holds(&backend).await;
    // It is asked each time, as long as the answer is no.
    place
        .execute("DELETE FROM pg_extension WHERE extname = 'citus'")
        .await;
    assert_eq!(kind(changes.now().await), None);
    persist.watch(WatchQuery::default()).await.unwrap();
    persist.close().await.unwrap();
    backend.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_the_place_of_another_is_noticed_by_an_open_handle() {
    let place = Place::empty(Database::Postgres);
    let backend = place.migrated().await.unwrap();
    let changes = of(&backend);
    queue(&backend, [1]).await;
    let old = ChangeQuery::default().after(Some(changes.now().await.unwrap().cursor()));
    changes.since(&old).await.unwrap();
    let other = sample::id(99);
    let schema = place.schema();
    let sql = format!("UPDATE {schema}.persist_meta SET value = '{other}' WHERE key = 'instance_id'");
    place.execute(&sql).await;
    assert_eq!(kind(changes.since(&old).await), Some(ErrorKind::InvalidInput));
    assert_eq!(changes.now().await.unwrap().store, other);
    backend.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_of_what_a_dump_brought_from_another_server_lets_nobody_lag() {
    let place = Place::empty(Database::Postgres);
    let backend = place.migrated().await.unwrap();
    let changes = of(&backend);
    queue(&backend, 1..=4).await;
    let now = here(&backend).await;
    let restored = format!(
        "UPDATE {}.events SET xid = '99999999999'::xid8 WHERE request_id IN ('{}', '{}')",
        place.schema(),
        sample::id(1),
        sample::id(2)
    );
    place.execute(&restored).await;
    let after_now = ChangeQuery::default().after(Some(now.cursor()));
    let from_start = ChangeQuery::default().after(Some(
        changes
            .since(&ChangeQuery::default().limit(1))
            .await
            .unwrap()
            .next
            .cursor(),
    ));
    let prune = async |jobs: &[u64]| {
        let ids = jobs.iter().map(|number| sample::id(*number));
        backend.prune(&Prune::default().ids(ids)).await.unwrap()
    };
    assert_eq!(prune(&[1]).await.events, 1);
    for query in [&after_now, &from_start] {
        assert_eq!(kind(changes.since(query).await), None);
    }
    // Of one that this server gave, and one that it did not, the first counts.
    assert_eq!(prune(&[2, 4]).await.events, 2);
    assert_eq!(kind(changes.since(&after_now).await), None);
    assert_eq!(kind(changes.since(&from_start).await), Some(ErrorKind::Lagged));
    backend.close().await.unwrap();
}
