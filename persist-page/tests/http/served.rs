//! Connections and limits, over real sockets.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use persist::layer::{Fault, Faults, Faulty};
use persist::{OnUnavailable, Persist, PersistBackend, open};
use persist_page::{Connections, Options, serve_with};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::asked::Site;

const PATIENCE: Duration = Duration::from_secs(60);

/// Over a store that never answers.
async fn frozen(options: Options) -> Site {
    let driver = open(&"memory:".parse().unwrap(), &persist::OpenOptions::default())
        .await
        .unwrap();
    let frozen = Faults::seeded(1).rate(1.0, Fault::FreezeBefore);
    let faulty: Arc<dyn PersistBackend> = Arc::new(Faulty::new(driver, frozen));
    let persist = Persist::builder_over(faulty).on_unavailable(OnUnavailable::BestEffort);
    Site::over(persist.connect().await.unwrap(), options)
}

#[tokio::test]
async fn a_request_that_waits_too_long_is_told_so() {
    let options = Options::default()
        .within(Duration::from_millis(50))
        .ready_within(Duration::from_millis(50));
    let site = frozen(options).await;
    for path in ["/vms", "/api/v1/jobs", "/readyz"] {
        // By its own deadline: that of the store is 5 s.
        let answer = timeout(Duration::from_secs(4), site.get(path))
            .await
            .expect("it ends");
        assert_eq!(answer.status, 503, "{path}: {}", answer.body);
        assert!(!answer.body.contains("Too many"), "{path}: {}", answer.body);
        assert!(answer.body.contains("timeout"), "{path}: {}", answer.body);
    }
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_place_is_told_so_while_there_is_time() {
    let site = frozen(Options::default().requests(1).within(Duration::from_millis(400))).await;
    for (path, told) in [
        ("/jobs", "Too many at a time"),
        ("/api/v1/jobs", "\"kind\":\"too_many\""),
    ] {
        let mut first = std::pin::pin!(site.get("/vms"));
        // It has the one place, for a little less than who comes then would have in all.
        assert!(timeout(Duration::from_millis(100), &mut first).await.is_err());
        let (second, first) = tokio::join!(biased; site.get(path), first);
        assert_eq!(second.status, 503, "{path}: {}", second.body);
        assert!(second.body.contains(told), "{path}: {}", second.body);
        assert_eq!(second.header("retry-after"), "5", "{path}");
        assert!(first.body.contains("timeout"), "{}", first.body);
    }
}

async fn get_all(stream: &mut TcpStream, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .expect("it ends")
        .unwrap();
    answer
}

#[tokio::test]
async fn who_says_nothing_is_let_go_and_who_stops_lets_answers_out() {
    let (started, starting) = oneshot::channel::<()>();
    let started = Arc::new(parking(started));
    let (release, released) = oneshot::channel::<()>();
    let released = Arc::new(tokio::sync::Mutex::new(Some(released)));
    let slow = move || async move {
        started.lock().await.take().map(|started| started.send(()));
        if let Some(released) = released.lock().await.take() {
            let _ = released.await;
        }
        "done"
    };
    let pages = Router::new()
        .route("/slow", get(slow))
        .route("/", get(|| async { "quick" }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut limits = Connections::default();
    limits.most = 2;
    limits.head_within = Duration::from_millis(100);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(serve_with(listener, pages, limits, async move {
        let _ = stopped.await;
    }));

    // Both places are taken by who says nothing, and are free again after the deadline of a head.
    let _mute = (
        TcpStream::connect(address).await.unwrap(),
        TcpStream::connect(address).await.unwrap(),
    );
    let mut third = TcpStream::connect(address).await.unwrap();
    assert!(get_all(&mut third, "/").await.ends_with("quick"));

    let mut slow = TcpStream::connect(address).await.unwrap();
    let answer = tokio::spawn(async move { get_all(&mut slow, "/slow").await });
    timeout(PATIENCE, starting).await.expect("it came").unwrap();
    stop.send(()).unwrap();
    // It has heard of its end as soon as nobody new gets in.
    let heard = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, heard).await.expect("it stops to listen");
    assert!(!serving.is_finished(), "it waits for what is under way");
    release.send(()).unwrap();
    assert!(
        answer.await.unwrap().ends_with("done"),
        "what was under way got out"
    );
    timeout(PATIENCE, serving)
        .await
        .expect("it stops")
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_head_of_a_request_has_so_many_bytes() {
    let pages = Router::new().route("/", get(|| async { "quick" }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(serve_with(
        listener,
        pages,
        Connections::default(),
        std::future::pending(),
    ));
    for (bytes, status) in [(16 << 10, "HTTP/1.1 200"), (256 << 10, "HTTP/1.1 431")] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: {}\r\n\r\n",
            "x".repeat(bytes)
        );
        // It may be let go in the middle of it, and of what was told then only a part come.
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut answer));
        let is_whole = read.await.expect("it ends").is_ok();
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.starts_with(status) || (!is_whole && answer.is_empty() && bytes > 32 << 10),
            "{bytes}: {answer}"
        );
    }
    serving.abort();
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_let_go() {
    // More than what sockets hold.
    let pages = Router::new()
        .route("/large", get(|| async { "x".repeat(64 << 20) }))
        .route("/", get(|| async { "quick" }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut limits = Connections::default();
    limits.most = 1;
    limits.write_within = Duration::from_millis(100);
    let serving = tokio::spawn(serve_with(listener, pages, limits, std::future::pending()));
    let mut greedy = TcpStream::connect(address).await.unwrap();
    let request = "GET /large HTTP/1.1\r\nhost: x\r\n\r\n";
    greedy.write_all(request.as_bytes()).await.unwrap();
    let mut next = TcpStream::connect(address).await.unwrap();
    assert!(get_all(&mut next, "/").await.ends_with("quick"));
    drop(greedy);
    serving.abort();
}

fn parking<T>(value: T) -> tokio::sync::Mutex<Option<T>> {
    tokio::sync::Mutex::new(Some(value))
}
