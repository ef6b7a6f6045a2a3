//! The roles of `docs/roles.sql`, each with the rights that it needs and no more.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use persist::{ErrorKind, JobQuery, JobState, OnUnavailable, Persist, PersistExt as _, Prune};
use persist_tests::cluster::{self, Cluster, Options};
use persist_tests::{place, process, sample};

const ROLES: &str = include_str!("../../docs/roles.sql");

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_migrates_the_app_writes_and_the_reader_reads() {
    let cluster = Cluster::start(&Options::default());
    let database = cluster.fresh_database_url().await;
    cluster::sql(&database, ROLES).await;
    let url_of = |role: &str| {
        let mut url = url::Url::parse(&database).unwrap();
        url.set_username(role).unwrap();
        format!("{url}?persist_schema=persist")
    };
    let connect = async |role: &str| {
        let builder = Persist::builder(Some(url_of(role))).on_unavailable(OnUnavailable::Fail);
        builder.connect().await
    };

    let error = connect("persist_app").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth, "before the owner: {error:?}");
    assert!(error.to_string().contains("GRANT"), "{error}");
    let up = ["--database-url", &url_of("persist_owner"), "migrate", "up"];
    process::run(&mut process::persist(up)).ok();

    let app = connect("persist_app").await.unwrap();
    for n in [1, 2] {
        let ended = sample::job(n, JobState::Succeeded);
        assert_eq!(app.record_job_state(ended).await.unwrap(), sample::CREATED);
    }
    let pruned = app.prune(&Prune::default().ids([sample::id(1)])).await.unwrap();
    assert_eq!(pruned.jobs, 1);
    // Who may not note what went prunes all the same; it is told in the log.
    let revoke = "REVOKE INSERT, UPDATE ON persist.persist_meta FROM persist_app";
    cluster::sql(&database, revoke).await;
    let pruned = app.prune(&Prune::default().ids([sample::id(2)])).await.unwrap();
    assert_eq!((pruned.jobs, pruned.events), (1, 1));
    told_once(&url_of("persist_app"), &app, "no right to change persist_meta").await;
    let ended = sample::job(2, JobState::Succeeded);
    assert_eq!(app.record_job_state(ended).await.unwrap(), sample::CREATED);
    place::fold_holds(&app.backend()).await;
    assert!(app.health().await.unwrap().schema_version.is_some());
    let down = [
        "--database-url",
        &url_of("persist_app"),
        "migrate",
        "down",
        "--all",
        "--yes",
    ];
    let refused = process::run(&mut process::persist(down)).exits(5);
    assert!(refused.stderr.contains("owner"), "{}", refused.stderr);
    // A store that lacks what only makes it better, as one that an older program has made, is used as it is.
    let owner = url_of("persist_owner");
    let down = [
        "--database-url",
        &owner,
        "migrate",
        "down",
        "--steps",
        "1",
        "--yes",
    ];
    process::run(&mut process::persist(down)).ok();
    let newer = connect("persist_app").await.unwrap();
    let status = newer.backend().schema().unwrap().status().await.unwrap();
    assert_eq!(status.pending(), ["m20261128_000008_ledger"]);
    let queued = sample::job(4, JobState::Queued);
    assert_eq!(newer.record_job_state(queued).await.unwrap(), sample::CREATED);
    // What it refuses then can't be kept, which costs nobody an answer; the story says that it does not know.
    let refused = newer.record_job_state(sample::job(2, JobState::Failed)).await;
    assert_eq!(refused.unwrap().name(), "refused");
    let story = newer
        .backend()
        .explain(sample::id(2), None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(story.refusals, None);
    newer.close().await.unwrap();
    app.close().await.unwrap();

    // A role that may read what was refused, and not forget it, may prune all the same.
    let up = ["--database-url", &owner, "migrate", "up"];
    process::run(&mut process::persist(up)).ok();
    cluster::sql(&database, "REVOKE DELETE ON persist.refusals FROM persist_app").await;
    let pruner = connect("persist_app").await.unwrap();
    let pruned = pruner
        .prune(&Prune::default().ids([sample::id(4)]))
        .await
        .unwrap();
    assert_eq!(pruned.jobs, 1);
    told_once(
        &url_of("persist_app"),
        &pruner,
        "no right to delete from refusals",
    )
    .await;
    pruner
        .record_job_state(sample::job(4, JobState::Queued))
        .await
        .unwrap();
    pruner.close().await.unwrap();

    let reader = connect("persist_read").await.unwrap();
    let jobs = reader.jobs(&JobQuery::default()).await.unwrap();
    assert_eq!(jobs.items.len(), 2);
    let error = reader
        .record_job_state(sample::job(3, JobState::Queued))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth, "{error:?}");
    reader.close().await.unwrap();
}

/// What a run of several batches says of a right that it lacks.
async fn told_once(url: &str, writer: &Persist, line: &str) {
    for n in [11, 12, 13] {
        let ended = sample::job(n, JobState::Lost);
        writer.record_job_state(ended).await.unwrap();
    }
    let prune = [
        "--database-url",
        url,
        "prune",
        "--state",
        "lost",
        "--batch",
        "1",
        "--yes",
    ];
    let ran = process::run(&mut process::persist(prune)).ok();
    assert_eq!(ran.stderr.matches(line).count(), 1, "{}", ran.stderr);
    for n in [11, 12, 13] {
        assert!(writer.job(sample::id(n)).await.unwrap().is_none());
    }
}
