//! A store that can't be read, and what says so.

use std::sync::Arc;

use persist::layer::{Fault, Faults, Faulty};
use persist::{
    Down, FixedClock, JobState, JobUpdate, OnUnavailable, Persist, PersistBackend, VmState, VmUpdate, open,
    time,
};
use persist_page::Options;
use serde_json::{Value, json};

use crate::ADDRESSES;
use crate::asked::{self, Site, id};

#[tokio::test]
async fn a_store_that_fails_is_503_with_its_cause_and_never_an_empty_list() {
    let driver = open(&"memory:".parse().unwrap(), &persist::OpenOptions::default())
        .await
        .unwrap();
    let faults = Faults::seeded(1).rate(1.0, Fault::FailBefore);
    let faulty: Arc<dyn PersistBackend> = Arc::new(Faulty::new(driver, faults));
    let persist = Persist::builder_over(faulty).on_unavailable(OnUnavailable::BestEffort);
    let site = Site::over(persist.connect().await.unwrap(), Options::default());
    let but = [
        "/orphans",
        "/api/v1/orphans",
        "/api/v1/refusals",
        "/api/v1/events",
        "/live",
    ];
    away(&site, &but).await;
    assert_eq!(
        site.get("/healthz").await.status,
        200,
        "the process lives all the same"
    );

    let closed = Site::filled().await;
    closed.persist.close().await.unwrap();
    away(&closed, &[]).await;

    let off = Site::over(Persist::new(None).await.unwrap(), Options::default());
    away(&off, &["/orphans", "/api/v1/orphans", "/api/v1/refusals"]).await;
}

/// Of every address but those whose power has no faults.
async fn away(site: &Site, but: &[&str]) {
    let paths = ADDRESSES
        .into_iter()
        .chain(["/readyz", "/api/v1/events", "/live"]);
    for path in paths.filter(|path| !but.contains(path)) {
        let answer = site.get(path).await;
        assert_eq!(answer.status, 503, "{path}: {}", answer.body);
        assert!(
            !answer.header("retry-after").is_empty() || path == "/health" || path == "/readyz",
            "{path}"
        );
        if answer.header("content-type").starts_with("application/json") {
            let told: Value = serde_json::from_str(&answer.body).unwrap();
            assert!(
                !told["error"].as_str().unwrap().is_empty() && told["kind"].is_string(),
                "{path}: {told}"
            );
        } else {
            assert!(
                answer.body.contains("The store can&#39;t be read")
                    || answer.body.contains("The store can't be read"),
                "{path}"
            );
            assert!(
                !answer.body.contains("The store is empty") && !answer.body.contains("id=\"list\""),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn a_store_that_fails_half_way_is_no_page_with_less_on_it() {
    let driver = open(&"memory:".parse().unwrap(), &persist::OpenOptions::default())
        .await
        .unwrap();
    let now = time::parse("now", "2026-11-01T12:00:00Z").unwrap();
    let clock = FixedClock(now);
    let failed = JobUpdate::new(id(1), JobState::Failed).check(&clock).unwrap();
    let vm = VmUpdate::new(id(1), "vm-7", VmState::Running)
        .check(&clock)
        .unwrap();
    driver.apply(&[failed, vm]).await.unwrap();
    let over = async |begin: u64| {
        let faults = (begin..100).fold(Faults::default(), |faults, call| {
            faults.at(call, Fault::FailBefore)
        });
        let faulty: Arc<dyn PersistBackend> = Arc::new(Faulty::new(Arc::clone(&driver), faults));
        let persist = Persist::builder_over(faulty).on_unavailable(OnUnavailable::BestEffort);
        let options = Options::default().clock(Arc::new(clock));
        Site::over(persist.connect().await.unwrap(), options)
    };
    for path in [
        "/",
        "/jobs/0190c2f4-0001",
        "/vms",
        "/stats",
        "/api/v1/jobs",
        "/api/v1/jobs/0190c2f4-0001",
        "/api/v1/vms",
        "/api/v1/stats",
    ] {
        let whole = over(100).await.get(path).await;
        assert_eq!(whole.status, 200, "{path}");
        let mut lost = 0;
        loop {
            let answer = over(lost).await.get(path).await;
            if answer.status == 200 {
                assert_eq!(answer.body, whole.body, "{path} with call {lost} on lost");
                break;
            }
            assert_eq!(answer.status, 503, "{path} with call {lost} on lost");
            lost += 1;
        }
        assert!(lost > 0, "{path} asks the store");
    }
}

#[tokio::test]
async fn a_store_that_can_be_read_and_does_not_fit_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("ci.db").display());
    let persist = Persist::builder(Some(url)).connect().await.unwrap();
    let backend = persist.backend();
    let schema = backend.schema().unwrap();
    let site = Site::over(persist.clone(), Options::default());
    assert_eq!(site.get("/readyz").await.status, 200);
    while schema.check().await.is_ok() {
        schema.down(Down::steps(1).confirmed(true)).await.unwrap();
    }
    assert_eq!(site.get("/api/v1/jobs").await.status, 200, "it can be read");
    let ready = site.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("persist migrate up"), "{}", ready.body);
}

#[tokio::test]
async fn a_store_without_a_schema_is_told_what_to_run_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ci.db");
    let url = format!("sqlite://{}?mode=rwc", file.display());
    let persist = Persist::builder(Some(url))
        .migrate(false)
        .on_unavailable(OnUnavailable::BestEffort);
    let site = Site::over(persist.connect().await.unwrap(), Options::default());
    let answer = site.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("persist migrate up"), "{}", answer.body);
    assert!(!file.exists(), "nothing was made");
    std::fs::write(&file, "").unwrap();
    let persist = Persist::builder(Some(format!("sqlite://{}", file.display()))).migrate(false);
    let site = Site::over(
        persist
            .on_unavailable(OnUnavailable::BestEffort)
            .connect()
            .await
            .unwrap(),
        Options::default(),
    );
    let page = site.get("/").await;
    assert_eq!(page.status, 503);
    assert!(
        page.body.contains("persist migrate up") && page.body.contains("never changes a schema"),
        "{}",
        page.body
    );
    // The one page of a database without any table.
    let size = std::fs::metadata(&file).unwrap().len();
    assert!(size <= 4_096, "{size} bytes");
}

#[tokio::test]
async fn probes_tell_their_truth_and_metrics_are_the_embedders() {
    let site = Site::over(
        asked::memory().await,
        Options::default().metrics(|| "persist_up 1\n".to_owned()),
    );
    assert_eq!(site.get("/healthz").await.body, "ok\n");
    let ready = site.json("/readyz").await;
    assert_eq!((&ready["ready"], &ready["mode"]), (&json!(true), &json!("ready")));
    let metrics = site.get("/metrics").await;
    assert_eq!(metrics.body, "persist_up 1\n");
    assert!(metrics.header("content-type").starts_with("text/plain"));
    let without = Site::filled().await;
    assert_eq!(without.get("/metrics").await.status, 404);
}
