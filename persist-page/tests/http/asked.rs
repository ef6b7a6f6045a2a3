//! A store with pages over it that are asked directly.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use persist::{JobState, JobUpdate, Persist, Update, VmState, VmUpdate, time};
use persist_page::Options;
use serde_json::Value;
use tower::ServiceExt as _;
use uuid::Uuid;

pub(crate) struct Site {
    pub(crate) persist: Persist,
    pub(crate) pages: Router,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

pub(crate) async fn memory() -> Persist {
    Persist::builder(Some("memory:".to_owned()))
        .connect()
        .await
        .unwrap()
}

pub(crate) fn id(n: u128) -> Uuid {
    Uuid::from_u128(0x0190_c2f4_0000_7000_8000_0000_0000_0000 + (n << 80))
}

impl Site {
    pub(crate) fn over(persist: Persist, options: Options) -> Self {
        Self {
            pages: persist_page::router(persist.clone(), options),
            persist,
        }
    }

    /// A job that runs in a VM, two that wait, and one that is over.
    pub(crate) async fn filled() -> Self {
        let site = Self::over(memory().await, Options::default());
        let at = |n: u128| time::parse("at", &format!("2026-11-01T08:00:0{n}Z")).unwrap();
        let job = |n: u128, state| JobUpdate::new(id(n), state).at(at(n)).actor("scheduler");
        let first = job(1, JobState::Queued)
            .repo_url("https://git.example.org/acme/app.git")
            .commit_sha("3f2a9c");
        site.record(first).await;
        site.record(job(1, JobState::Running).at(at(5)).reason("a place was free"))
            .await;
        for name in ["vm-7", "vm-8"] {
            site.record(
                VmUpdate::new(id(1), name, VmState::Running)
                    .at(at(4))
                    .backend("libvirt"),
            )
            .await;
        }
        site.record(job(2, JobState::Queued).runs_on("debian-13")).await;
        site.record(job(3, JobState::Queued)).await;
        site.record(job(4, JobState::Succeeded)).await;
        site
    }

    pub(crate) async fn record(&self, update: impl Into<Update>) {
        self.persist.record(vec![update.into()]).await.unwrap();
    }

    pub(crate) async fn response(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> axum::response::Response {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.pages
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap()
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let response = self.response(method, path, headers).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[]).await
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> String {
        let value = self.headers.get(name).map(|value| value.to_str().unwrap());
        value.unwrap_or_default().to_owned()
    }

    /// The address of the link with this relation.
    pub(crate) fn link(&self, relation: &str) -> String {
        let before = self
            .body
            .split_once(&format!("\" rel=\"{relation}\""))
            .expect("it is there")
            .0;
        let address = before.rsplit_once("href=\"").unwrap().1;
        address.replace("&#38;", "&").replace("&amp;", "&")
    }
}
