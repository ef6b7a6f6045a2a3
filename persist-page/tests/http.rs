//! What each address answers, without a browser.
#![expect(clippy::unwrap_used, reason = "tests, and what they share")]

#[path = "http/asked.rs"]
mod asked;
#[path = "http/away.rs"]
mod away;
#[path = "http/bounds.rs"]
mod bounds;
#[path = "http/lists.rs"]
mod lists;
#[path = "http/live.rs"]
mod live;
#[path = "http/refused.rs"]
mod refused;
#[path = "http/served.rs"]
mod served;

use std::time::Duration;

use asked::{Site, id};
use axum::http::{Method, StatusCode};
use persist::{JobState, JobUpdate, VmState, VmUpdate};
use persist_page::{LOOPBACK, Options};
use serde_json::{Value, json};

/// Every address that answers about the store.
const ADDRESSES: [&str; 14] = [
    "/",
    "/jobs",
    "/jobs/0190c2f4-0001",
    "/vms",
    "/orphans",
    "/stats",
    "/health",
    "/api/v1/jobs",
    "/api/v1/jobs/0190c2f4-0001",
    "/api/v1/vms",
    "/api/v1/orphans",
    "/api/v1/refusals",
    "/api/v1/stats",
    "/api/v1/health",
];

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

#[tokio::test]
async fn every_address_answers_with_its_headers_and_only_to_reads() {
    let site = Site::filled().await;
    for path in
        ADDRESSES
            .into_iter()
            .chain(["/healthz", "/readyz", "/assets/page.js", "/nothing", "/jobs/zz"])
    {
        let answer = site.get(path).await;
        let expected = match path {
            "/nothing" => 404,
            "/jobs/zz" => 400,
            _ => 200,
        };
        assert_eq!(answer.status, expected, "{path}");
        assert_eq!(answer.header("content-security-policy"), POLICY, "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
        for name in ["cross-origin-resource-policy", "cross-origin-opener-policy"] {
            assert_eq!(answer.header(name), "same-origin", "{path}");
        }
        let kept = if path.starts_with("/assets/") {
            "no-cache"
        } else {
            "no-store"
        };
        assert_eq!(answer.header("cache-control"), kept, "{path}");
        let kind = answer.header("content-type");
        let is_json = path.starts_with("/api/") || path == "/readyz";
        assert_eq!(kind.starts_with("application/json"), is_json, "{path}: {kind}");
        assert!(
            !answer.body.contains(" style=") && !answer.body.contains(" onclick="),
            "{path} keeps the policy"
        );

        let head = site.ask(Method::HEAD, path, &[]).await;
        assert_eq!((head.status, head.body.len()), (answer.status, 0), "{path}");
        for method in [
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::PATCH,
            Method::OPTIONS,
        ] {
            let refused = site.ask(method.clone(), path, &[]).await;
            assert_eq!(refused.status, 405, "{method} {path}");
            assert_eq!(refused.header("allow"), "GET, HEAD", "{method} {path}");
            assert_eq!(refused.header("content-security-policy"), POLICY);
        }
    }
    for body in [("content-length", "7"), ("transfer-encoding", "chunked")] {
        assert_eq!(site.ask(Method::GET, "/", &[body]).await.status, 413, "{body:?}");
    }
}

#[tokio::test]
async fn only_the_hosts_that_are_named_are_answered() {
    let persist = asked::memory().await;
    let site = Site::over(
        persist,
        Options::default()
            .hosts(LOOPBACK)
            .hosts(["localhost", "ci.example.org"]),
    );
    for (host, status) in [
        ("localhost:8080", 200),
        ("ci.example.org", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("", 421),
    ] {
        for path in ["/", "/healthz", "/metrics", "/assets/page.css"] {
            let answer = site.ask(Method::GET, path, &[("host", host)]).await;
            let expected = if path == "/metrics" && status == 200 {
                404
            } else {
                status
            };
            assert_eq!(answer.status, expected, "{host} {path}");
        }
    }
}

#[tokio::test]
async fn a_beginning_of_an_id_opens_its_job_or_tells_the_candidates() {
    let site = Site::filled().await;
    let whole = site.get(&format!("/jobs/{}", id(1))).await;
    let short = site.get("/jobs/0190c2f4-0001").await;
    assert_eq!((whole.status, short.status), (StatusCode::OK, StatusCode::OK));
    assert!(short.body.contains(&id(1).to_string()) && short.body.contains("class=\"gantt\""));
    let found = site.get("/find?id=0190c2f4-0001").await;
    assert_eq!(
        (found.status.as_u16(), found.header("location")),
        (303, format!("/jobs/{}", id(1)))
    );
    for path in ["/jobs/0190c2f4", "/find?id=0190c2f4", "/api/v1/jobs/0190c2f4"] {
        let several = site.get(path).await;
        assert_eq!(several.status, 409, "{path}");
        assert!(several.body.contains(&id(1).to_string()) && several.body.contains(&id(2).to_string()));
    }
    for path in [
        "/jobs/ffff",
        "/api/v1/jobs/ffff",
        "/find?id=ffff",
        "/jobs/ffffffff-ffff-ffff-ffff-ffffffffffff",
    ] {
        assert_eq!(site.get(path).await.status, 404, "{path}");
    }
    // Of a VM whose job has not reported there is a page too.
    site.record(VmUpdate::new(id(9), "early", VmState::Prepared))
        .await;
    let early = site.get("/jobs/0190c2f4-0009").await;
    assert!(
        early.body.contains("Only its VMs have reported"),
        "{}",
        early.body
    );
}

#[tokio::test]
async fn every_text_of_the_store_is_escaped_everywhere() {
    const HOSTILE: &str = "<script>alert(1)</script>\"'\u{202e}\u{1b}[31m";
    let site = Site::filled().await;
    let hostile = JobUpdate::new(id(7), JobState::Failed)
        .actor(HOSTILE)
        .reason(HOSTILE);
    let hostile = hostile
        .repo_url(format!("javascript:alert(1)//{HOSTILE}"))
        .runs_on(HOSTILE);
    site.record(hostile).await;
    let vm = VmUpdate::new(id(7), HOSTILE, VmState::Running)
        .backend(HOSTILE)
        .actor(HOSTILE);
    site.record(vm.overlay_path(HOSTILE).seed_path(HOSTILE)).await;
    site.persist.keep_alive(Duration::from_secs(60)).await.ok();
    let path = format!(
        "/?runs_on={}",
        "%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%27%E2%80%AE%1B%5B31m"
    );
    for path in [
        "/",
        "/vms",
        "/orphans?grace=0s",
        "/jobs/0190c2f4-0007",
        "/stats?since=5000d&by=repo,runner",
        &path,
    ] {
        let page = site.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(
            page.body.contains("script&#62;alert(1)") || page.body.contains("script&gt;alert(1)"),
            "{path} shows it: {}",
            page.body
        );
        assert!(!page.body.contains("<script>alert"), "{path}");
        assert!(
            !page.body.contains('\u{202e}') && !page.body.contains('\u{1b}'),
            "{path}"
        );
        assert!(!page.body.contains("href=\"javascript:"), "{path}");
    }
    for path in ["/api/v1/jobs", "/api/v1/vms", "/api/v1/jobs/0190c2f4-0007"] {
        let answer = site.get(path).await;
        assert!(
            !answer.body.contains('\u{202e}') && !answer.body.contains('\u{1b}'),
            "{path}"
        );
        assert!(
            serde_json::from_str::<Value>(&answer.body)
                .unwrap()
                .to_string()
                .contains('\u{202e}'),
            "{path}"
        );
    }
}

#[tokio::test]
async fn an_empty_store_says_so_and_a_filter_that_finds_nothing_says_that() {
    let site = Site::over(asked::memory().await, Options::default());
    let page = site.get("/").await;
    assert!(page.body.contains("The store is empty") && page.body.contains("persist record job"));
    let page = site.get("/?state=failed").await;
    assert!(page.body.contains("No job is like that") && !page.body.contains("The store is empty"));
    assert_eq!(
        site.json("/api/v1/jobs").await,
        json!({ "items": [], "next": null })
    );
}

#[tokio::test]
async fn a_history_beyond_the_bound_is_told_as_such() {
    let site = Site::filled().await;
    let updates = (1..=2_500).map(|attempt| JobUpdate::new(id(5), JobState::Failed).attempt(attempt).into());
    site.persist.record(updates.collect()).await.unwrap();
    let page = site.get("/jobs/0190c2f4-0005").await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("the first 2000 slots"), "it says so");
    assert!(page.body.len() < 2_000_000, "{}", page.body.len());
    let whole = site.json("/api/v1/jobs/0190c2f4-0005").await;
    assert_eq!(whole["timeline"].as_array().unwrap().len(), 2_500);
}

#[tokio::test]
async fn files_are_answered_once() {
    let site = Site::filled().await;
    for file in ["/assets/page.css", "/assets/page.js", "/assets/icon.svg"] {
        let first = site.get(file).await;
        let tag = first.header("etag");
        let again = site.ask(Method::GET, file, &[("if-none-match", &tag)]).await;
        assert_eq!(
            (first.status.as_u16(), again.status.as_u16(), again.body.len()),
            (200, 304, 0),
            "{file}"
        );
    }
    assert_eq!(site.get("/assets/other").await.status, 404);
}
