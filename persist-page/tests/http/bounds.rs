//! How much one address may ask for, and how much of it is answered.

use persist::{JobState, JobUpdate};
use persist_page::Options;
use serde_json::json;

use crate::asked::{self, Site, id};

#[tokio::test]
async fn an_address_asks_for_so_much_and_no_more() {
    let site = Site::filled().await;
    let long = format!("runs_on={}", "x".repeat(17_000));
    for (path, status) in [
        ("/?limit=200", 200),
        ("/?limit=201", 400),
        ("/vms?limit=201", 400),
        ("/orphans?limit=201", 400),
        ("/api/v1/jobs?limit=1000", 200),
        ("/api/v1/vms?limit=1001", 400),
        ("/api/v1/orphans?limit=1001", 400),
        ("/api/v1/stats?limit=1000", 200),
        ("/api/v1/stats?limit=1001", 400),
        (&format!("/?{long}"), 414),
        (&format!("/api/v1/jobs?{long}"), 414),
        (&format!("/api/v1/events?{long}"), 414),
    ] {
        let answer = site.get(path).await;
        assert_eq!(answer.status, status, "{:.40}: {}", path, answer.body);
    }
}

#[tokio::test]
async fn half_a_story_is_no_answer_for_a_program() {
    let site = Site::filled().await;
    let updates = (1..=10_001).map(|attempt| JobUpdate::new(id(5), JobState::Failed).attempt(attempt).into());
    site.persist.record(updates.collect()).await.unwrap();
    let answer = site.get("/api/v1/jobs/0190c2f4-0005").await;
    assert_eq!(answer.status, 422);
    assert!(answer.body.contains("\"kind\":\"too_large\""), "{}", answer.body);
    assert!(
        answer.body.contains("persist job"),
        "it says what reads all of it"
    );
}

#[tokio::test]
async fn statistics_look_at_so_many_jobs_and_say_so() {
    let site = Site::over(asked::memory().await, Options::default().stats_jobs(2));
    for n in 1..=3 {
        site.record(JobUpdate::new(id(n), JobState::Queued).runs_on(format!("runner-{n}")))
            .await;
    }
    let stats = site.json("/api/v1/stats?by=runner").await;
    assert_eq!((&stats["all"]["jobs"], &stats["more"]), (&json!(2), &json!(true)));
    assert_eq!(stats["groups"].as_array().unwrap().len(), 2);
    let first = site.json("/api/v1/stats?by=runner&limit=1").await;
    assert_eq!(first["groups"].as_array().unwrap().len(), 1, "{first}");
    let page = site.get("/stats").await;
    assert!(page.body.contains("these are the newest 2"), "{}", page.body);
}
