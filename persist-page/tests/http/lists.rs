//! Lists: walks, filters, and what is asked wrongly.

use persist::{Heartbeat, JobState, JobUpdate, VmState, VmUpdate};
use persist_page::Options;
use serde_json::{Value, json};

use crate::asked::{self, Site, id};

#[tokio::test]
async fn lists_are_walked_and_filters_are_kept() {
    let site = Site::filled().await;
    let (mut path, mut seen) = ("/api/v1/jobs?limit=2&state=queued,running".to_owned(), Vec::new());
    loop {
        let page = site.json(&path).await;
        seen.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|job| job["request_id"].clone()),
        );
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/jobs?limit=2&state=queued,running&after={next}");
    }
    assert_eq!(seen, [json!(id(3)), json!(id(2)), json!(id(1))]);

    let page = site
        .get("/?state=queued&state=running&limit=2&repo_url=&since=5000d")
        .await;
    let next = page.link("next");
    assert!(
        next.starts_with("/?state=queued&state=running&since=5000d&limit=2&after="),
        "{next}"
    );
    let second = site.get(&next).await;
    assert!(second.body.contains(&id(1).to_string()) && !second.body.contains(&id(3).to_string()));
    assert_eq!(
        second.link("first"),
        "/?state=queued&state=running&since=5000d&limit=2"
    );
    assert!(
        second.body.contains("value=\"queued\" checked"),
        "{}",
        second.body
    );

    for (path, ids) in [
        (
            "/api/v1/jobs?repo_url=https%3A%2F%2Fme%3Asecret%40git.example.org%2Facme%2Fapp.git",
            vec![1],
        ),
        ("/api/v1/jobs?commit_sha=3F2A", vec![1]),
        ("/api/v1/jobs?runs_on=debian-13", vec![2]),
        ("/api/v1/jobs?since=1h", vec![]),
        ("/api/v1/jobs?until=2026-11-01T08:00:02Z", vec![1]),
        ("/api/v1/jobs?order=oldest&limit=1", vec![1]),
    ] {
        let page = site.json(path).await;
        let found: Vec<_> = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["request_id"].clone())
            .collect();
        assert_eq!(
            found,
            ids.into_iter().map(|n| json!(id(n))).collect::<Vec<_>>(),
            "{path}"
        );
    }
    let filtered = site
        .get("/?repo_url=https%3A%2F%2Fme%3Asecret%40git.example.org%2Facme%2Fapp.git")
        .await;
    assert!(
        !filtered.body.contains("secret"),
        "credentials of a filter are shown nowhere"
    );
}

#[tokio::test]
async fn a_filter_without_an_index_looks_at_so_many_jobs_and_goes_on() {
    let site = Site::over(asked::memory().await, Options::default());
    let begun = persist::time::parse("at", "2026-11-01T08:00:00Z").unwrap();
    let at = |n: u128| begun + chrono::TimeDelta::seconds(i64::try_from(n).unwrap());
    let job = |n: u128| JobUpdate::new(uuid::Uuid::from_u128(n + 1), JobState::Succeeded).at(at(n));
    let mut jobs: Vec<_> = (0..20_500).map(|n| job(n).runs_on("common").into()).collect();
    jobs.push(
        JobUpdate::new(id(1), JobState::Queued)
            .at(begun)
            .runs_on("rare")
            .into(),
    );
    site.persist.record(jobs).await.unwrap();
    let first = site.json("/api/v1/jobs?runs_on=rare").await;
    assert_eq!(first["items"], json!([]), "not among the newest");
    let next = first["next"].as_str().expect("there is more to look at");
    let second = site
        .json(&format!("/api/v1/jobs?runs_on=rare&after={next}"))
        .await;
    assert_eq!(
        (&second["items"][0]["request_id"], &second["next"]),
        (&json!(id(1)), &Value::Null)
    );
    // Nor is it walked without an end for what several indices would have to serve.
    let several = site.json("/api/v1/jobs?state=queued&state=lost").await;
    assert_eq!(several["items"], json!([]));
    let next = several["next"].as_str().expect("there is more to look at");
    let rest = site
        .json(&format!("/api/v1/jobs?state=queued&state=lost&after={next}"))
        .await;
    assert_eq!(rest["items"][0]["request_id"], json!(id(1)));
    let page = site.get("/?runs_on=rare").await;
    assert!(page.body.contains("among the 20000 jobs that were looked at") && !page.link("next").is_empty());
    let common = site.json("/api/v1/jobs?runs_on=common&limit=2").await;
    let next = common["next"].as_str().unwrap();
    let after = site
        .json(&format!("/api/v1/jobs?runs_on=common&limit=2&after={next}"))
        .await;
    assert_eq!(
        after["items"][0]["request_id"],
        json!(uuid::Uuid::from_u128(20_498))
    );
}

#[tokio::test]
async fn a_name_of_a_vm_is_looked_for_within_the_same_bound() {
    let site = Site::over(asked::memory().await, Options::default());
    let begun = persist::time::parse("at", "2026-11-01T08:00:00Z").unwrap();
    let at = |n: u128| begun + chrono::TimeDelta::seconds(i64::try_from(n).unwrap());
    let vm =
        |n: u128, name: &str| VmUpdate::new(uuid::Uuid::from_u128(n + 1), name, VmState::Stopped).at(at(n));
    let mut vms: Vec<_> = (1..20_500).map(|n| vm(n, "common").into()).collect();
    vms.push(vm(0, "rare").into());
    site.persist.record(vms).await.unwrap();
    let first = site.json("/api/v1/vms?name=rare").await;
    assert_eq!(first["items"], json!([]));
    let next = first["next"].as_str().expect("there is more to look at");
    let second = site.json(&format!("/api/v1/vms?name=rare&after={next}")).await;
    assert_eq!(
        (&second["items"][0]["domain_name"], &second["next"]),
        (&json!("rare"), &Value::Null)
    );
    let page = site.get("/vms?name=rare").await;
    assert!(page.body.contains("among the 20000 VMs that were looked at") && !page.link("next").is_empty());
    // Of one job the key has them.
    let job = uuid::Uuid::from_u128(1);
    let of_job = site.json(&format!("/api/v1/vms?name=rare&job={job}")).await;
    assert_eq!(of_job["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn of_many_orchestrators_those_of_now_are_shown() {
    let site = Site::over(asked::memory().await, Options::default());
    let backend = site.persist.backend();
    let owners = backend.owners().unwrap();
    for n in 0..201 {
        owners
            .heartbeat(&Heartbeat::new(format!("a-{n:03}"), 1))
            .await
            .unwrap();
    }
    owners.heartbeat(&Heartbeat::new("zeta", 1)).await.unwrap();
    let page = site.get("/orphans").await.body;
    let (_, beats) = page.split_once("id=\"beats\"").unwrap();
    assert!(
        beats.contains(">zeta<"),
        "the last of them is there, whatever its name"
    );
    assert!(beats.contains("And 2 more"), "it says so");
    assert_eq!(beats.matches("<tr role=\"row\"><td").count(), 200);
}

#[tokio::test]
async fn orphans_are_walked() {
    let site = Site::filled().await;
    for name in ["left-1", "left-2", "left-3"] {
        site.record(VmUpdate::new(id(4), name, VmState::Running)).await;
    }
    let all = site.json("/api/v1/orphans?grace=0s").await;
    let all = all["items"].as_array().unwrap();
    assert_eq!(all.len(), 3, "{all:?}");
    let (mut path, mut walked) = ("/api/v1/orphans?grace=0s&limit=1".to_owned(), Vec::new());
    while walked.len() <= all.len() {
        let page = site.json(&path).await;
        walked.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/orphans?grace=0s&limit=1&after={next}");
    }
    assert_eq!(&walked, all);
}

#[tokio::test]
async fn a_group_leads_to_the_jobs_that_were_counted() {
    let site = Site::filled().await;
    let lead = "href=\"/?repo_url=https%3A%2F%2Fgit.example.org%2Facme%2Fapp.git";
    site.record(JobUpdate::new(id(8), JobState::Queued).repo_url("https://git.example.org/acme/app.git"))
        .await;
    for (asked, said) in [
        ("", "since=24h\""),
        ("&since=5000d", "since=5000d\""),
        ("&since=5000d&until=0s", "since=5000d&until=0s\""),
    ] {
        let page = site.get(&format!("/stats?by=repo{asked}")).await;
        let body = page.body.replace("&#38;", "&").replace("&amp;", "&");
        assert!(body.contains(&format!("{lead}&{said}")), "{asked}: {body}");
    }
}

#[tokio::test]
async fn what_is_asked_wrongly_is_told_by_its_field() {
    let site = Site::filled().await;
    let of_vms = site.json("/api/v1/vms?limit=1").await["next"]
        .as_str()
        .unwrap()
        .to_owned();
    for (query, field) in [
        ("jobs?state=gone".to_owned(), "state"),
        ("jobs?stat=queued".to_owned(), "stat"),
        ("jobs?after=damaged".to_owned(), "cursor"),
        (format!("jobs?after={of_vms}"), "cursor"),
        ("jobs?limit=0".to_owned(), "limit"),
        ("jobs?limit=1001".to_owned(), "limit"),
        ("jobs?commit_sha=xyz".to_owned(), "commit_sha"),
        ("jobs?since=yesterday".to_owned(), "since"),
        ("vms?job=0190".to_owned(), "job"),
        ("orphans?kind=lonely".to_owned(), "kind"),
        ("orphans?grace=25h".to_owned(), "grace"),
        ("stats?by=weather".to_owned(), "by"),
        ("events?from=damaged".to_owned(), "cursor"),
        ("events?from=start&state=failed".to_owned(), "from"),
        ("events?from=start&job=0190".to_owned(), "from"),
        ("jobs/xyz".to_owned(), "request_id"),
    ] {
        let answer = site.get(&format!("/api/v1/{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        let told: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(told["kind"], "invalid_input", "{query}");
        assert!(told["error"].as_str().unwrap().contains(field), "{query}: {told}");
        assert_eq!(told.as_object().unwrap().len(), 2, "{told}");
    }
    let page = site.get("/?state=%3Cscript%3E").await;
    assert_eq!(page.status, 400);
    assert!(!page.body.contains("<script>"), "{}", page.body);
}
