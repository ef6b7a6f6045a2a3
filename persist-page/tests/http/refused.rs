//! What was tried in vain.

use std::time::Duration;

use persist::{
    Down, FixedClock, JobState, JobUpdate, Persist, State, Tried, Update, VmState, VmUpdate, time,
};
use persist_page::Options;
use serde_json::{Value, json};

use crate::asked::{Site, id};

/// Keeps the try of an update, as if it had come second.
async fn tried(site: &Site, update: impl Into<Update>, standing: impl Into<State>) {
    let clock = FixedClock(time::parse("at", "2026-11-01T09:00:00Z").unwrap());
    let tried = Tried::new(update.into().check(&clock).unwrap(), standing.into());
    let backend = site.persist.backend();
    backend.ledger().unwrap().keep(&[tried]).await.unwrap();
}

#[tokio::test]
async fn what_was_refused_is_told_with_what_stands() {
    let site = Site::filled().await;
    let second = JobUpdate::new(id(4), JobState::Failed).reason("it came second");
    site.record(second.clone()).await;
    site.record(second).await;
    // The facade keeps it a moment later.
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    while site.json("/api/v1/jobs/0190c2f4-0004").await["refusals"] == json!([]) {
        assert!(tokio::time::Instant::now() < end, "it is never kept");
        tokio::task::yield_now().await;
    }
    let page = site.get("/jobs/0190c2f4-0004").await;
    let refused = page.body.split_once("id=\"refused\"").unwrap().1;
    assert!(
        refused.contains("it came second") && refused.contains("succeeded"),
        "{refused}"
    );
}

#[tokio::test]
async fn refusals_are_walked_of_all_jobs_and_of_one() {
    let site = Site::filled().await;
    for state in [JobState::Failed, JobState::Cancelled, JobState::TimedOut] {
        let second = JobUpdate::new(id(4), state).actor("watchdog").reason("late");
        tried(&site, second, JobState::Succeeded).await;
    }
    site.record(VmUpdate::new(id(1), "vm-7", VmState::Failed)).await;
    let of_vm = VmUpdate::new(id(1), "vm-7", VmState::Stopped).actor("hv-agent");
    tried(&site, of_vm, VmState::Failed).await;

    let all = site.json("/api/v1/refusals").await;
    assert_eq!(
        (all["items"].as_array().unwrap().len(), &all["next"]),
        (4, &Value::Null)
    );
    let (mut path, mut walked) = ("/api/v1/refusals?limit=1".to_owned(), Vec::new());
    loop {
        let page = site.json(&path).await;
        walked.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/refusals?limit=1&after={next}");
    }
    assert_eq!(json!(walked), all["items"]);

    for job in ["0190c2f4-0001".to_owned(), id(1).to_string()] {
        let of_one = site.json(&format!("/api/v1/refusals?job={job}")).await;
        let mut one = of_one["items"][0].clone();
        let one = one.as_object_mut().unwrap();
        // By the store's own clock.
        assert_eq!(one.remove("first_at"), one.remove("last_at"));
        let told = json!({
            "request_id": id(1), "domain_name": "vm-7", "tried": "stopped", "attempt": 1, "standing": "failed",
            "tries": 1, "at": "2026-11-01T09:00:00.000000Z", "actor": "hv-agent", "reason": null, "repo_url": null,
            "commit_sha": null, "runs_on": null, "backend": null, "overlay_path": null, "seed_path": null,
        });
        assert_eq!((&json!(one), &of_one["next"]), (&told, &Value::Null), "{job}");
    }
    let nothing = json!({ "items": [], "next": null });
    assert_eq!(site.json("/api/v1/refusals?job=0190c2f4-0002").await, nothing);
}

#[tokio::test]
async fn a_job_that_there_is_not_is_no_job_without_refusals() {
    let site = Site::filled().await;
    let of_jobs = site.json("/api/v1/jobs?limit=1").await["next"].clone();
    let foreign = format!("after={}", of_jobs.as_str().unwrap());
    for (query, status) in [
        ("job=ffff", 404),
        ("job=ffffffff-ffff-ffff-ffff-ffffffffffff", 404),
        ("job=0190c2f4", 409),
        ("job=xyz", 400),
        ("limit=1001", 400),
        ("after=damaged", 400),
        (&foreign, 400),
        ("state=failed", 400),
    ] {
        let answer = site.get(&format!("/api/v1/refusals?{query}")).await;
        assert_eq!(answer.status, status, "{query}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_store_without_an_account_of_refusals_says_that_it_is_not_known() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ci.db");
    let url = format!("sqlite://{}?mode=rwc", file.display());
    let persist = Persist::builder(Some(url)).connect().await.unwrap();
    let site = Site::over(persist, Options::default());
    site.record(JobUpdate::new(id(1), JobState::Succeeded)).await;
    let known = site.get("/jobs/0190c2f4-0001").await;
    assert!(!known.body.contains("refused is not known"), "{}", known.body);
    let backend = site.persist.backend();
    let schema = backend.schema().unwrap();
    while site.get("/api/v1/refusals").await.status == 200 {
        schema.down(Down::steps(1).confirmed(true)).await.unwrap();
    }
    let page = site.get("/jobs/0190c2f4-0001").await;
    assert!(page.body.contains("refused is not known"), "{}", page.body);
    let answer = site.get("/api/v1/refusals").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("persist migrate up"), "{}", answer.body);
}
