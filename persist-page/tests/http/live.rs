//! Streams of what changes.

use std::time::Duration;

use axum::http::Method;
use axum::response::Response;
use futures_util::StreamExt as _;
use persist::{JobState, JobUpdate, Prune, VmState, VmUpdate};
use persist_page::Options;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::asked::{Site, id, memory};

const PATIENCE: Duration = Duration::from_secs(60);

/// A stream as a browser reads it.
struct Stream {
    body: axum::body::BodyDataStream,
    read: String,
    /// Ids of blocks that tell nothing else.
    places: Vec<String>,
}

struct Told {
    event: String,
    id: String,
    data: String,
}

impl Stream {
    fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            body: response.into_body().into_data_stream(),
            read: String::new(),
            places: Vec::new(),
        }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Told> {
        // Of all of it: lines that say nothing come for ever.
        timeout(PATIENCE, self.told()).await.expect("something is told")
    }

    async fn told(&mut self) -> Option<Told> {
        loop {
            if let Some((block, rest)) = self.read.split_once("\n\n") {
                let field = |name: &str| {
                    let lead = format!("{name}: ");
                    let line = block.lines().find_map(|line| line.strip_prefix(&lead));
                    line.unwrap_or_default().to_owned()
                };
                let told = Told {
                    event: field("event"),
                    id: field("id"),
                    data: field("data"),
                };
                self.read = rest.to_owned();
                if told.event.is_empty() {
                    self.places.extend((!told.id.is_empty()).then_some(told.id));
                    continue;
                }
                return Some(told);
            }
            let bytes = self.body.next().await?;
            self.read.push_str(std::str::from_utf8(&bytes.unwrap()).unwrap());
        }
    }
}

#[tokio::test]
async fn changes_are_told_as_the_program_prints_them_and_gone_on_with() {
    let site = Site::filled().await;
    let mut stream = Stream::of(site.response(Method::GET, "/api/v1/events?from=start", &[]).await);
    let first = stream.next().await.unwrap();
    assert_eq!(first.event, "change");
    let line: Value = serde_json::from_str(&first.data).unwrap();
    assert_eq!(
        (&line["request_id"], &line["state"]),
        (&json!(id(1)), &json!("queued"))
    );
    assert_eq!(
        line["cursor"],
        json!(first.id),
        "the cursor of a line is the id of its event"
    );

    site.record(JobUpdate::new(id(3), JobState::Running).reason("\u{202e}\u{1b}[31m"))
        .await;
    let path = format!("/api/v1/events?from={}", first.id);
    let mut hostile = Stream::of(site.response(Method::GET, &path, &[]).await);
    loop {
        let told = hostile.next().await.unwrap().data;
        assert!(!told.contains('\u{202e}') && !told.contains('\u{1b}'), "{told}");
        let line: Value = serde_json::from_str(&told).unwrap();
        if (&line["request_id"], &line["state"]) == (&json!(id(3)), &json!("running")) {
            assert_eq!(line["reason"], "\u{202e}\u{1b}[31m");
            break;
        }
    }

    // Whoever lost the connection goes on there, whatever the address says.
    let headers = [("last-event-id", first.id.as_str())];
    let mut resumed = Stream::of(
        site.response(Method::GET, "/api/v1/events?from=start", &headers)
            .await,
    );
    let second: Value = serde_json::from_str(&resumed.next().await.unwrap().data).unwrap();
    assert_eq!(second["state"], "running");

    let mut failed = Stream::of(
        site.response(Method::GET, "/api/v1/events?state=failed", &[])
            .await,
    );
    site.record(JobUpdate::new(id(2), JobState::Running)).await;
    site.record(VmUpdate::new(id(1), "vm-7", VmState::Failed)).await;
    let told: Value = serde_json::from_str(&failed.next().await.unwrap().data).unwrap();
    assert_eq!(
        (&told["domain_name"], &told["state"]),
        (&json!("vm-7"), &json!("failed"))
    );
}

#[tokio::test]
async fn a_page_is_told_in_brief_of_what_came_since_it_was_made() {
    let site = Site::filled().await;
    let page = site.get("/jobs/0190c2f4-0001").await.body;
    let live = page
        .split_once("data-live=\"")
        .unwrap()
        .1
        .split_once('"')
        .unwrap()
        .0;
    let live = live.replace("&#38;", "&").replace("&amp;", "&");
    // Between the page and its stream.
    site.record(VmUpdate::new(id(1), "vm-7", VmState::Stopped)).await;
    site.record(VmUpdate::new(id(1), "vm-7", VmState::Destroyed))
        .await;
    let mut stream = Stream::of(site.response(Method::GET, &live, &[]).await);
    let told = stream.next().await.unwrap();
    assert_eq!(
        (told.event.as_str(), told.data.as_str()),
        ("changed", "."),
        "both at once"
    );
    assert!(!told.id.is_empty());
}

#[tokio::test]
async fn what_is_passed_over_is_told_by_its_place() {
    let site = Site::filled().await;
    let mut all = Stream::of(site.response(Method::GET, "/api/v1/events?from=start", &[]).await);
    let begin = all.next().await.unwrap().id;
    let others = (0..2_500).map(|n| JobUpdate::new(uuid::Uuid::from_u128(n + 1), JobState::Queued).into());
    site.persist.record(others.collect()).await.unwrap();
    site.record(VmUpdate::new(id(1), "vm-9", VmState::Prepared)).await;
    for filter in ["job=0190c2f4-0001", "state=prepared"] {
        let path = format!("/api/v1/events?{filter}&from={begin}");
        let mut stream = Stream::of(site.response(Method::GET, &path, &[]).await);
        loop {
            let told: Value = serde_json::from_str(&stream.next().await.unwrap().data).unwrap();
            if told["domain_name"] == json!("vm-9") {
                break;
            }
        }
        assert_eq!(stream.places.len(), 2, "{filter}");
        // From such a place on, nothing of before.
        let headers = [("last-event-id", stream.places[1].as_str())];
        let mut resumed = Stream::of(site.response(Method::GET, &path, &headers).await);
        let told: Value = serde_json::from_str(&resumed.next().await.unwrap().data).unwrap();
        assert_eq!(told["domain_name"], json!("vm-9"), "{filter}");
        assert!(resumed.places.is_empty(), "{filter}");
    }
}

#[tokio::test]
async fn who_lags_is_told_to_begin_anew() {
    let site = Site::filled().await;
    let mut stream = Stream::of(site.response(Method::GET, "/api/v1/events?from=start", &[]).await);
    let old = stream.next().await.unwrap().id;
    drop(stream);
    site.persist
        .prune(&Prune::default().ids([id(1), id(2), id(3), id(4)]))
        .await
        .unwrap();
    let answer = site.get(&format!("/api/v1/events?from={old}")).await;
    assert_eq!(answer.status, 410, "{}", answer.body);
    assert!(answer.body.contains("lagged"), "{}", answer.body);
    let mut brief = Stream::of(
        site.response(Method::GET, &format!("/live?after={old}"), &[])
            .await,
    );
    assert_eq!(brief.next().await.unwrap().event, "lagged");
    assert!(brief.next().await.is_none());
    // A browser that comes again says where it was, which counts before its address.
    let headers = [("last-event-id", old.as_str())];
    let mut again = Stream::of(site.response(Method::GET, "/live", &headers).await);
    assert_eq!(again.next().await.unwrap().event, "lagged");
}

#[tokio::test]
async fn there_are_so_many_streams_and_one_that_ends_makes_room() {
    let (end, ending) = watch::channel(false);
    let site = Site::over(
        memory().await,
        Options::default()
            .subscribers(2)
            .within(PATIENCE * 60)
            .ending(ending),
    );
    let first = site.response(Method::GET, "/live", &[]).await;
    let mut second = Stream::of(site.response(Method::GET, "/api/v1/events", &[]).await);
    for path in ["/live", "/api/v1/events"] {
        let third = timeout(PATIENCE, site.get(path))
            .await
            .expect("it is told at once");
        assert_eq!(
            (third.status.as_u16(), third.header("retry-after")),
            (503, "5".to_owned()),
            "{path}"
        );
        let told: Value = serde_json::from_str(&third.body).unwrap();
        assert_eq!(told["kind"], "too_many");
    }
    let page = site.get("/").await;
    let why = "data-full=\"2 live streams are open, as many as there may be\"";
    assert!(page.body.contains(why), "{}", page.body);
    drop(first);
    assert!(!site.get("/").await.body.contains("data-full"));
    let _again = Stream::of(site.response(Method::GET, "/live", &[]).await);
    end.send_replace(true);
    assert!(
        second.next().await.is_none(),
        "a server that stops ends its streams"
    );
}

#[tokio::test]
async fn a_stream_ends_after_its_time() {
    let options = Options::default().longest_stream(Duration::from_millis(20));
    let site = Site::over(memory().await, options);
    for path in ["/live", "/api/v1/events"] {
        let mut stream = Stream::of(site.response(Method::GET, path, &[]).await);
        assert!(stream.next().await.is_none(), "{path}");
    }
}
