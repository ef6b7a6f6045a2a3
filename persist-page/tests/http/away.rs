//! A store that can't be read, and what says so.

use std::sync::Arc;

use persist::layer::{Fault, Faults, Faulty};
use persist::{OnUnavailable, Persist, PersistBackend, open};
use persist_page::Options;
use serde_json::{Value, json};

use crate::ADDRESSES;
use crate::asked::{self, Site};

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
