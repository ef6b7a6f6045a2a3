//! The modes of the facade, over a driver that fails on demand and under a paused clock.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use persist_memory::MemoryBackend;
use uuid::Uuid;

use crate::connector::{Connector, Open};
use crate::*;

type Failure = Arc<Mutex<Option<ErrorKind>>>;
/// How calls that hang end.
type Held = Arc<Mutex<Vec<tokio::sync::oneshot::Receiver<ErrorKind>>>>;

#[derive(Debug)]
struct Flaky {
    store: Arc<MemoryBackend>,
    failure: Failure,
    held: Held,
}

impl Flaky {
    fn answer(&self) -> Result<()> {
        match *self.failure.lock() {
            Some(kind) => Err(Error::new(kind, "made to fail")),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl PersistBackend for Flaky {
    fn name(&self) -> &'static str {
        "memory"
    }
    async fn apply(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        let held = self.held.lock().pop();
        if let Some(held) = held {
            let kind = held.await.expect("the test says how it ends");
            return Err(Error::new(kind, "after a long time"));
        }
        self.answer()?;
        self.store.apply(claims).await
    }
    async fn job(&self, id: Uuid) -> Result<Option<Job>> {
        self.answer()?;
        self.store.job(id).await
    }
    async fn vm(&self, key: &VmKey) -> Result<Option<Vm>> {
        self.store.vm(key).await
    }
    async fn jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        self.store.jobs(query).await
    }
    async fn vms(&self, query: &VmQuery) -> Result<Page<Vm>> {
        self.store.vms(query).await
    }
    async fn events(&self, query: &EventQuery) -> Result<Page<Event>> {
        self.store.events(query).await
    }
    async fn prune(&self, request: &Prune) -> Result<Pruned> {
        self.store.prune(request).await
    }
    async fn health(&self) -> Result<Health> {
        self.answer()?;
        self.store.health().await
    }
    async fn close(&self) -> Result<()> {
        self.store.close().await
    }
}

impl Capabilities for Flaky {
    fn schema(&self) -> Option<&dyn Schema> {
        None
    }
}

/// Opens handles onto one store; what fails is up to the test.
#[derive(Debug)]
struct Opener {
    name: String,
    failure: Failure,
    held: Held,
    panics: bool,
}

#[async_trait]
impl Open for Opener {
    async fn open(&self) -> Result<Arc<dyn PersistBackend>> {
        assert!(!self.panics, "made to panic");
        let driver = Flaky {
            store: Arc::new(MemoryBackend::named(&self.name)),
            failure: Arc::clone(&self.failure),
            held: Arc::clone(&self.held),
        };
        driver.answer()?;
        Ok(Arc::new(driver))
    }
}

async fn start(name: &str, policy: OnUnavailable, failing: Option<ErrorKind>) -> (Result<Persist>, Failure) {
    let failure = Failure::new(Mutex::new(failing));
    let open = Opener {
        name: name.to_owned(),
        failure: Arc::clone(&failure),
        held: Held::default(),
        panics: false,
    };
    (connect(open, policy).await, failure)
}

async fn connect(open: Opener, policy: OnUnavailable) -> Result<Persist> {
    let connector = Connector {
        open: Arc::new(open),
        name: "memory",
        has_schema: false,
        migrate: true,
        lasting: true,
        within: Duration::from_secs(10),
    };
    Persist::builder(None)
        .actor("tester")
        .on_unavailable(policy)
        .connect_by(connector)
        .await
}

fn queued(number: u128) -> JobUpdate {
    JobUpdate::new(Uuid::from_u128(number), JobState::Queued)
}

async fn until_ready(persist: &Persist) {
    // The clock is paused: an hour passes as soon as nothing else can run.
    let ready = async {
        while persist.health().await.expect("an answer").mode != Mode::Ready {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(3_600), ready)
        .await
        .expect("it heals");
}

#[tokio::test]
async fn no_url_is_off_and_a_wrong_one_is_an_error() {
    for url in [None, Some(""), Some("  "), Some("none:")] {
        let persist = Persist::new(url.map(str::to_owned)).await.unwrap();
        assert!(!persist.is_enabled());
        assert_eq!(
            persist.record_job_state(queued(1)).await.unwrap(),
            Outcome::Dropped
        );
        assert_eq!(
            persist.job(Uuid::from_u128(1)).await.unwrap_err().kind(),
            ErrorKind::Unavailable
        );
        let health = persist.health().await.unwrap();
        assert_eq!((health.mode, health.dropped), (Mode::Disabled, 1));
        persist.close().await.unwrap();
        assert_eq!(
            persist.record_job_state(queued(1)).await.unwrap_err().kind(),
            ErrorKind::Closed
        );
    }
    for url in ["hello", "mysql://db/ci", "memory:/x"] {
        assert_eq!(
            Persist::new(Some(url.to_owned())).await.unwrap_err().kind(),
            ErrorKind::InvalidUrl
        );
    }
}

#[tokio::test]
async fn a_ready_store_records_with_the_actor_and_ends_with_close() {
    let persist = Persist::builder(Some("memory:".into()))
        .actor("me")
        .connect()
        .await
        .unwrap();
    assert!(persist.is_enabled());
    assert_eq!(
        persist.record_job_state(queued(1)).await.unwrap(),
        Outcome::Applied { created: true }
    );
    let events = persist.events(&EventQuery::default()).await.unwrap();
    assert_eq!(events.items[0].actor.as_deref(), Some("me"));
    let bad = persist
        .record(vec![queued(1).into(), queued(0).into()])
        .await
        .unwrap_err();
    assert_eq!(
        (bad.kind(), bad.context("index")),
        (ErrorKind::InvalidInput, Some("1"))
    );
    let backend = persist.backend();
    persist.close().await.unwrap();
    persist.close().await.unwrap();
    assert!(!persist.is_enabled());
    assert_eq!(backend.apply(&[]).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(persist.health().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn best_effort_starts_without_the_database_and_turns_itself_on() {
    let (persist, failure) = start("late", OnUnavailable::BestEffort, Some(ErrorKind::Auth)).await;
    let persist = persist.unwrap();
    assert!(!persist.is_enabled());
    assert_eq!(
        persist.record_job_state(queued(1)).await.unwrap(),
        Outcome::Dropped
    );
    assert_eq!(
        persist.job(Uuid::from_u128(1)).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    let health = persist.health().await.unwrap();
    assert_eq!(
        (health.mode, health.dropped, health.last_error.as_deref()),
        (Mode::Degraded, 1, Some("auth"))
    );
    *failure.lock() = None;
    until_ready(&persist).await;
    assert!(persist.is_enabled());
    assert_eq!(
        persist.record_job_state(queued(1)).await.unwrap(),
        Outcome::Applied { created: true }
    );
}

#[tokio::test(start_paused = true)]
async fn a_failing_write_flips_the_mode_and_is_counted_by_what_is_known() {
    let cases = [
        (ErrorKind::Unavailable, (1, 0)),
        (ErrorKind::OutcomeUnknown, (0, 1)),
        (ErrorKind::Timeout, (0, 1)),
    ];
    for (kind, (dropped, unknown)) in cases {
        let (persist, failure) = start(kind.name(), OnUnavailable::BestEffort, None).await;
        let persist = persist.unwrap();
        *failure.lock() = Some(kind);
        assert_eq!(
            persist.record_job_state(queued(1)).await.unwrap(),
            Outcome::Dropped
        );
        *failure.lock() = None;
        // Nothing is sent until the probe has healed it.
        assert_eq!(
            persist.record_job_state(queued(2)).await.unwrap(),
            Outcome::Dropped
        );
        assert_eq!(
            persist.record_job_state(queued(0)).await.unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        let health = persist.health().await.unwrap();
        assert_eq!(
            (health.mode, health.dropped, health.unknown),
            (Mode::Degraded, dropped + 1, unknown)
        );
        assert!(persist.is_enabled(), "enabled from the first readiness on");
        until_ready(&persist).await;
        assert_eq!(
            persist.record_job_state(queued(1)).await.unwrap(),
            Outcome::Applied { created: true }
        );
    }
}

#[tokio::test(start_paused = true)]
async fn retry_waits_for_the_database_but_not_for_a_better_password() {
    let policy = OnUnavailable::Retry {
        within: Duration::from_secs(60),
    };
    let begun = tokio::time::Instant::now();
    for kind in [ErrorKind::Auth, ErrorKind::SchemaMismatch, ErrorKind::InvalidUrl] {
        let (result, _) = start("wrong", policy, Some(kind)).await;
        assert_eq!(result.unwrap_err().kind(), kind);
        let (result, _) = start("wrong", OnUnavailable::Fail, Some(kind)).await;
        assert_eq!(result.unwrap_err().kind(), kind);
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let (result, _) = start("away", policy, Some(ErrorKind::Unavailable)).await;
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(begun.elapsed() > Duration::from_secs(10) && begun.elapsed() <= Duration::from_secs(60));

    let (persist, failure) = start("passing", policy, None).await;
    let persist = persist.unwrap();
    *failure.lock() = Some(ErrorKind::Unavailable);
    let heal = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        *failure.lock() = None;
    };
    let (outcome, ()) = tokio::join!(persist.record_job_state(queued(1)), heal);
    assert_eq!(outcome.unwrap(), Outcome::Applied { created: true });
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_background_hangs_no_one() {
    let open = Opener {
        name: "panics".into(),
        failure: Failure::default(),
        held: Held::default(),
        panics: true,
    };
    let persist = connect(open, OnUnavailable::BestEffort).await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(
        persist.record_job_state(queued(1)).await.unwrap(),
        Outcome::Dropped
    );
    assert_eq!(
        persist.health().await.unwrap().last_error.as_deref(),
        Some("internal")
    );
    persist.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_ends_the_background_task() {
    let (persist, failure) = start("dropped", OnUnavailable::BestEffort, Some(ErrorKind::Unavailable)).await;
    drop(persist.unwrap());
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(
        Arc::strong_count(&failure),
        1,
        "no task holds the opener any more"
    );
}

#[test]
fn handles_go_anywhere() {
    fn anywhere<T: Send + Sync + Clone + 'static>() {}
    anywhere::<Persist>();
}

#[tokio::test(start_paused = true)]
async fn a_call_from_before_the_healing_says_nothing_of_the_present() {
    for (name, kind, outcome) in [
        // It may have happened: counted, and the healed driver stays.
        ("stale", ErrorKind::OutcomeUnknown, Outcome::Dropped),
        // Its driver was closed under it: made again with the present one.
        ("replaced", ErrorKind::Closed, Outcome::Applied { created: true }),
    ] {
        let (failure, held) = (Failure::default(), Held::default());
        let open = Opener {
            name: name.to_owned(),
            failure: Arc::clone(&failure),
            held: Arc::clone(&held),
            panics: false,
        };
        let persist = connect(open, OnUnavailable::BestEffort).await.unwrap();
        let (end, ended) = tokio::sync::oneshot::channel();
        held.lock().push(ended);
        let slow = tokio::spawn({
            let persist = persist.clone();
            async move { persist.record_job_state(queued(1)).await }
        });
        while !held.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        *failure.lock() = Some(ErrorKind::Unavailable);
        assert_eq!(
            persist.record_job_state(queued(2)).await.unwrap(),
            Outcome::Dropped
        );
        *failure.lock() = None;
        until_ready(&persist).await;
        end.send(kind).unwrap();
        assert_eq!(slow.await.unwrap().unwrap(), outcome, "{name}");
        assert_eq!(persist.health().await.unwrap().mode, Mode::Ready, "{name}");
    }
}

#[test]
fn what_is_not_stored_yet_shows_no_secret_either() {
    let url = "https://me:hunter2@example.org/a.git";
    let texts = [
        format!(
            "{:?}",
            Persist::builder(Some("postgres://me:hunter2@db/ci".to_owned()))
        ),
        format!("{:?}", queued(1).repo_url(url)),
        format!("{:?}", persist_core::JobQuery::default().repo_url(url)),
    ];
    for text in texts {
        assert!(!text.contains("hunter2"), "{text}");
    }
}
