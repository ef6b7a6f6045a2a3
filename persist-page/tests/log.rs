//! What a log has of a store that is away. A program of its own, with one test: the line of a minute is the process's.
#![expect(clippy::unwrap_used, reason = "tests, and what they share")]

use std::io;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::Request;
use persist::{OnUnavailable, Persist};
use persist_page::Options;
use tower::ServiceExt as _;

/// How often each address is asked: an hour of one open page, which looks every 20 s.
const LOOKS: usize = 180;

/// What is asked of open pages, their streams, programs and probes.
const ASKED: [&str; 9] = [
    "/",
    "/jobs/0190c2f4-0001",
    "/vms",
    "/stats",
    "/health",
    "/live",
    "/api/v1/jobs",
    "/api/v1/events",
    "/readyz",
];

/// The lines of a log.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line).into_owned();
        self.0.lock().unwrap().push(text);
        Ok(line.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Those of these levels.
    fn of(&self, levels: &[&str]) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        let is_meant = |line: &&String| levels.iter().any(|level| line.trim_start().starts_with(level));
        lines.iter().filter(is_meant).cloned().collect()
    }
}

#[tokio::test]
async fn r5_a_store_that_is_away_is_one_line_however_many_ask() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .init();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rw", folder.path().join("ci.db").display());
    let away = Persist::builder(Some(url))
        .migrate(false)
        .on_unavailable(OnUnavailable::BestEffort);
    let persist = away.connect().await.unwrap();
    let pages = persist_page::router(persist, Options::default());
    for _ in 0..LOOKS {
        for path in ASKED {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let answer = pages.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), 503, "{path}");
        }
    }
    let loud = lines.of(&["ERROR", "WARN", "INFO"]);
    let (of_pages, others): (Vec<_>, Vec<_>) = loud.iter().partition(|line| line.contains("persist_page"));
    // Two where a minute went by meanwhile, on a busy machine.
    assert!((1..=2).contains(&of_pages.len()), "{of_pages:#?}");
    assert!(
        others.len() <= 2,
        "the handle has a line a minute too: {others:#?}"
    );
    let quiet = lines.of(&["DEBUG"]);
    let unanswered = quiet
        .iter()
        .filter(|line| line.contains("a request was not answered"));
    assert!(
        unanswered.count() >= LOOKS * ASKED.len() - of_pages.len(),
        "each is there for who looks closely"
    );
}
