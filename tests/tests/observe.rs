//! What is told of calls: every documented metric, spans by the names of the conventions, and no secret in either.
//! Recorder and subscriber are those of the whole program, so this is a program of its own.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use parking_lot::Mutex;
use persist::metrics::{self, Metric, MetricKind};
use persist::{
    ErrorKind, EventQuery, JobQuery, JobState, JobUpdate, OnUnavailable, Outcome, Persist, Prune, Spool,
    VmKey, VmQuery, VmState, VmUpdate,
};
use persist_tests::cluster::{self, Cluster, Options, Stop};
use persist_tests::process;
use persist_tests::sample;
use tracing_subscriber::fmt::format::FmtSpan;

/// Part of each credential, and of each value of a row.
const SECRET: &str = "hunter2";
const VALUE: &str = "rowvalue";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(text);
        Ok(text.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a series came to, over all looks at it: its sum, its count, or its peak, and what it stands at.
#[derive(Debug, Clone, Copy, Default)]
struct Came {
    to: f64,
    now: f64,
}

struct Metrics {
    snapshotter: Snapshotter,
    series: BTreeMap<(String, Vec<(String, String)>), Came>,
}

impl Metrics {
    fn look(&mut self) {
        for (key, unit, help, value) in self.snapshotter.snapshot().into_vec() {
            let (name, labels) = key.key().clone().into_parts();
            let metric = declared(name.as_str());
            assert_eq!(
                (unit, help.as_deref()),
                (Some(metric.unit), Some(metric.help.trim())),
                "{name:?} is described"
            );
            let labels: Vec<_> = labels
                .iter()
                .map(|label| (label.key().to_owned(), label.value().to_owned()))
                .collect();
            let keys: Vec<_> = labels.iter().map(|(key, _)| key.as_str()).collect();
            assert_eq!(keys, metric.labels, "labels of {}", metric.name);
            let came = self.series.entry((metric.name.to_owned(), labels)).or_default();
            match value {
                DebugValue::Counter(more) => came.to += more as f64,
                DebugValue::Histogram(values) => came.to += values.len() as f64,
                // A look sets a gauge to 0: what it is then told is what was added since.
                DebugValue::Gauge(more) => {
                    came.now += more.0;
                    came.to = came.to.max(came.now);
                }
            }
        }
    }

    /// Of all series of this metric that have this label.
    fn came_to(&self, metric: Metric, label: &str) -> f64 {
        let series = self.series.iter();
        let is_meant = |name: &str, labels: &[(String, String)]| {
            name == metric.name && (label.is_empty() || labels.iter().any(|(_, value)| value == label))
        };
        let meant = series.filter(|((name, labels), _)| is_meant(name, labels));
        meant.map(|(_, came)| came.to).sum()
    }
}

fn declared(name: &str) -> Metric {
    let declared = metrics::ALL.iter().find(|metric| metric.name == name);
    *declared.unwrap_or_else(|| panic!("{name} is declared nowhere"))
}

fn builder(url: &str) -> persist::Builder {
    Persist::builder(Some(url.to_owned()))
        .deadlines(sample::deadlines(process::BOUND))
        .on_unavailable(OnUnavailable::Fail)
        .connections(1)
        .slow_after(Duration::ZERO)
}

/// A queued job with a secret, and a row's value, wherever a text can go.
fn secretive(n: u64) -> JobUpdate {
    sample::job(n, JobState::Queued)
        .repo_url(format!("https://me:{SECRET}@example.org/{VALUE}.git"))
        .runs_on(VALUE)
        .actor(VALUE)
        .reason(VALUE)
}

/// Every operation, and every outcome of an update but those of an outage.
async fn work(persist: &Persist) {
    let vm = VmUpdate::new(sample::id(1), VALUE, VmState::Prepared).overlay_path(VALUE);
    persist.record_vm_event(vm).await.unwrap();
    persist
        .record(vec![secretive(1).into(), secretive(2).into()])
        .await
        .unwrap();
    for (state, outcome) in [
        (JobState::Queued, "unchanged"),
        (JobState::Failed, "applied"),
        (JobState::Running, "late"),
        (JobState::Succeeded, "refused"),
    ] {
        let told = persist.record_job_state(sample::job(1, state)).await.unwrap();
        assert_eq!(told.name(), outcome);
    }
    let filling = sample::job(2, JobState::Queued).commit_sha("3f2a9c");
    assert_eq!(persist.record_job_state(filling).await.unwrap().name(), "filled");
    persist.job(sample::id(1)).await.unwrap().unwrap();
    persist
        .vm(&VmKey::new(sample::id(1), VALUE))
        .await
        .unwrap()
        .unwrap();
    persist.jobs(&JobQuery::default().runs_on(VALUE)).await.unwrap();
    persist.vms(&VmQuery::default().domain_name(VALUE)).await.unwrap();
    persist.events(&EventQuery::default()).await.unwrap();
    persist
        .prune(&Prune::default().ids([sample::id(2)]))
        .await
        .unwrap();
    persist.health().await.unwrap();
    // It is refused, and not told again.
    let nul = sample::job(1, JobState::Queued).actor(format!("{VALUE}\0"));
    let error = persist.record_job_state(nul).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

/// While a table is locked one read has the only connection, another waits for it, and an update is in the queue.
async fn hold_up(persist: &Persist, url: &str, metrics: &mut Metrics) {
    let mut other = cluster::connect(url).await;
    let lock = "BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE";
    sqlx::Executor::execute(&mut other, sqlx::raw_sql(lock))
        .await
        .unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let persist = persist.clone();
        calls.spawn(async move {
            persist.events(&EventQuery::default()).await.unwrap();
        });
    }
    let writer = persist.clone();
    calls.spawn(async move {
        writer.record_job_state(secretive(3)).await.unwrap();
    });
    process::until("they are held up", async || {
        metrics.look();
        metrics.came_to(metrics::POOL_WAITING, "reads") > 0.0
            && metrics.came_to(metrics::POOL_IN_USE, "reads") > 0.0
            && metrics.came_to(metrics::POOL_IN_USE, "updates") > 0.0
            && metrics.came_to(metrics::QUEUE_UPDATES, "postgres") > 0.0
    })
    .await;
    sqlx::Executor::execute(&mut other, "ROLLBACK").await.unwrap();
    calls.join_all().await;
}

/// Nothing listens there: the update goes to the spool.
async fn spooled(folder: &Path, metrics: &mut Metrics) {
    let spool = Spool::new(folder.join("spool.db"));
    let away = format!("postgres://postgres@127.0.0.1:{}/postgres", cluster::free_port());
    let persist = builder(&away)
        .on_unavailable(OnUnavailable::Spool(spool))
        .connect()
        .await
        .unwrap();
    let told = persist.record_job_state(secretive(8)).await.unwrap();
    assert_eq!(told, Outcome::Spooled);
    metrics.look();
    persist.close().await.unwrap();
}

/// A server that stops: one handle tries again and again, the other drops.
async fn stop(cluster: &Cluster, metrics: &mut Metrics) {
    let url = cluster.url("postgres");
    let within = Duration::from_secs(5);
    let mut patient = None;
    process::until("it connects in time", async || {
        let policy = OnUnavailable::Retry { within };
        patient = builder(&url).on_unavailable(policy).connect().await.ok();
        patient.is_some()
    })
    .await;
    let patient = patient.unwrap();
    let optional = builder(&url)
        .on_unavailable(OnUnavailable::BestEffort)
        .connect()
        .await
        .unwrap();
    cluster.stop(Stop::Immediate);
    for n in 4..7 {
        let told = optional.record_job_state(secretive(n)).await.unwrap();
        assert_eq!(told, Outcome::Dropped);
    }
    patient.record_job_state(secretive(7)).await.unwrap_err();
    optional.job(sample::id(1)).await.unwrap_err();
    metrics.look();
    optional.close().await.unwrap();
    patient.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_planted_secret_is_in_no_metric_and_no_span_and_every_metric_is_emitted() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let recorder = DebuggingRecorder::new();
    let mut metrics = Metrics {
        snapshotter: recorder.snapshotter(),
        series: BTreeMap::new(),
    };
    recorder.install().unwrap();

    let cluster = Cluster::start(&Options::default().password(SECRET));
    let url = cluster.url("postgres");
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite://{}?mode=rwc", folder.path().join("store.db").display());
    let persist = builder(&url).connect().await.unwrap();
    work(&persist).await;
    hold_up(&persist, &url, &mut metrics).await;
    persist.close().await.unwrap();
    for url in [file.as_str(), "memory:"] {
        let persist = builder(url).connect().await.unwrap();
        work(&persist).await;
        metrics.look();
        persist.close().await.unwrap();
    }
    let wrong = cluster.url_for("postgres", &format!("{SECRET}wrong"), "postgres");
    assert_eq!(
        builder(&wrong).connect().await.unwrap_err().kind(),
        ErrorKind::Auth
    );
    stop(&cluster, &mut metrics).await;
    spooled(folder.path(), &mut metrics).await;
    metrics.look();

    for metric in metrics::ALL {
        // Nothing was put aside, and what waits has just come.
        if [metrics::SPOOL_DEAD, metrics::SPOOL_AGE].contains(metric) {
            assert!(metrics.series.keys().any(|(name, _)| name == metric.name));
            continue;
        }
        assert!(
            metrics.came_to(*metric, "") > 0.0,
            "{} is never emitted",
            metric.name
        );
    }
    for outcome in ["applied", "late", "filled", "unchanged", "refused", "dropped"] {
        assert!(metrics.came_to(metrics::UPDATES, outcome) > 0.0, "{outcome}");
    }
    for backend in ["postgres", "sqlite"] {
        for metric in [metrics::FLUSH_UPDATES, metrics::QUEUE_AGE, metrics::POOL_SIZE] {
            assert!(
                metrics.came_to(metric, backend) > 0.0,
                "{} of {backend}",
                metric.name
            );
        }
    }
    assert!(metrics.came_to(metrics::MODE, "degraded") > 0.0);
    assert_eq!(metrics.came_to(metrics::DROPPED_UPDATES, ""), 3.0);
    // Handles are closed, and nothing is on its way.
    for metric in [
        metrics::QUEUE_UPDATES,
        metrics::POOL_SIZE,
        metrics::POOL_IN_USE,
        metrics::POOL_WAITING,
    ] {
        assert_eq!(metric.kind, MetricKind::Gauge);
        for ((name, labels), came) in metrics.series.iter().filter(|((name, _), _)| name == metric.name) {
            assert!(came.now == 0.0, "{name} {labels:?} stands at {}", came.now);
        }
    }
    for (name, labels) in metrics.series.keys() {
        let shown = format!("{name} {labels:?}");
        assert!(!shown.contains(SECRET) && !shown.contains(VALUE), "{shown}");
    }

    let log = String::from_utf8(log.0.lock().clone()).unwrap();
    for told in [
        "db.system.name=\"postgresql\"",
        "db.system.name=\"sqlite\"",
        "db.operation.name=\"apply\"",
        "db.operation.batch.size=2",
        "otel.kind=\"client\"",
        "otel.status_code=\"ERROR\"",
        "error.type=\"unavailable\"",
        "a slow operation",
    ] {
        assert!(log.contains(told), "{told} is not told");
    }
    for line in log.lines() {
        assert!(!line.contains(SECRET), "{line}");
        assert!(!line.contains(VALUE), "{line}");
    }
}
