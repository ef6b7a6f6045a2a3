//! A store with pages over it, for a browser.

use std::sync::Arc;

use persist::{FixedClock, JobState, JobUpdate, Persist, Timestamp, Tried, Update, VmState, VmUpdate, time};
use persist_page::{LOOPBACK, Options};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Serves until it is dropped.
pub(crate) struct Site {
    pub(crate) url: String,
    pub(crate) persist: Persist,
    stop: watch::Sender<bool>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Site {
    pub(crate) async fn over(persist: Persist) -> Self {
        Self::with(persist, Options::default()).await
    }

    pub(crate) async fn with(persist: Persist, options: Options) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let options = options.hosts(LOOPBACK).ending(stop.subscribe());
        let pages = persist_page::router(persist.clone(), options);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(persist_page::serve(listener, pages, async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
        Self {
            url,
            persist,
            stop,
            serving,
        }
    }

    /// Over an empty store in memory.
    pub(crate) async fn empty() -> Self {
        Self::over(memory().await).await
    }

    /// Over a store with something of everything, whose pages are of one moment.
    pub(crate) async fn filled() -> Self {
        let persist = memory().await;
        fill(&persist).await;
        Self::with(persist, Options::default().clock(Arc::new(FixedClock(now())))).await
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(crate) async fn record(&self, update: impl Into<Update>) {
        self.persist.record(vec![update.into()]).await.unwrap();
    }

    /// Ends, with all that is open.
    pub(crate) async fn end(self) {
        self.stop.send_replace(true);
        self.serving.await.unwrap().unwrap();
    }
}

pub(crate) async fn memory() -> Persist {
    Persist::builder(Some("memory:".to_owned()))
        .connect()
        .await
        .unwrap()
}

/// The moment of the pages of a filled store.
pub(crate) fn now() -> Timestamp {
    time::parse("now", "2026-11-01T12:00:00Z").unwrap()
}

pub(crate) fn id(n: u128) -> Uuid {
    Uuid::from_u128(0x0190_c2f4_0000_7000_8000_0000_0000_0000 + (n << 80) + n)
}

/// The job whose VM broke, and that ran again.
pub(crate) const BROKEN: u128 = 58;
/// The job of whose texts each is an attack.
pub(crate) const HOSTILE: u128 = 59;
pub(crate) const SCRIPT: &str = "<script>window.broken = true</script>\u{202e}\u{1b}[31m";

/// Sixty jobs, of which some wait, run, failed, broke or mean ill.
pub(crate) async fn fill(persist: &Persist) {
    let at = |minutes: i64, seconds: i64| {
        now() - chrono::TimeDelta::minutes(minutes) + chrono::TimeDelta::seconds(seconds)
    };
    let mut updates: Vec<Update> = Vec::new();
    for n in 0..60_u128 {
        let minutes = 180 - i64::try_from(n).unwrap() * 3;
        if n == HOSTILE {
            continue;
        }
        let repo = [
            "https://git.example.org/acme/web.git",
            "https://git.example.org/acme/firmware.git",
            "git@git.example.org:lab/engine.git",
        ];
        let job = |state, attempt, seconds| {
            JobUpdate::new(id(n), state)
                .attempt(attempt)
                .at(at(minutes, seconds))
                .actor("scheduler")
        };
        let queued = job(JobState::Queued, 1, 0)
            .repo_url(repo[usize::try_from(n % 3).unwrap()])
            .commit_sha(format!("{n:02x}f2a9c0d1e5b47{n:02x}"))
            .runs_on(["ubuntu-24.04", "debian-13"][usize::try_from(n % 2).unwrap()]);
        updates.push(queued.into());
        if n % 10 == 9 {
            continue;
        }
        let name = format!("hv-{}-{:04x}", n % 4, n);
        let vm = |state, seconds| {
            VmUpdate::new(id(n), &name, state)
                .at(at(minutes, seconds))
                .actor("hv-agent")
        };
        let prepared = vm(VmState::Prepared, 4).backend("libvirt");
        updates.push(
            prepared
                .overlay_path(format!("/var/lib/ci/overlays/{name}.qcow2"))
                .into(),
        );
        updates.push(vm(VmState::Running, 20).into());
        updates.push(job(JobState::Running, 1, 20).into());
        if n == BROKEN {
            updates.push(vm(VmState::Failed, 80).reason("host hv-2 lost power").into());
            updates.push(job(JobState::Lost, 1, 80).reason("host hv-2 lost power").into());
            updates.push(job(JobState::Queued, 2, 95).into());
            updates.push(job(JobState::Running, 2, 110).into());
            let second = VmUpdate::new(id(n), "hv-1-again", VmState::Running);
            updates.push(second.at(at(minutes, 108)).backend("libvirt").into());
            continue;
        }
        if n % 10 == 8 {
            continue;
        }
        let ended = [
            JobState::Succeeded,
            JobState::Succeeded,
            JobState::Failed,
            JobState::Succeeded,
            JobState::Cancelled,
        ];
        let ran = 60 + i64::try_from(n * n % 400).unwrap();
        updates.push(job(ended[usize::try_from(n % 5).unwrap()], 1, 20 + ran).into());
        updates.push(vm(VmState::Stopped, 22 + ran).into());
        updates.push(vm(VmState::Destroyed, 40 + ran).into());
    }
    updates.push(
        JobUpdate::new(id(HOSTILE), JobState::Failed)
            .at(at(1, 0))
            .repo_url(format!("javascript:{SCRIPT}"))
            .runs_on(format!("{SCRIPT}{}", "long".repeat(30)))
            .actor(SCRIPT)
            .reason(format!("\"'>{SCRIPT}{}", "x".repeat(900)))
            .into(),
    );
    let name = format!("{SCRIPT}{}", "vm".repeat(90));
    updates.push(
        VmUpdate::new(id(HOSTILE), name, VmState::Running)
            .at(at(1, 0))
            .backend(SCRIPT)
            .overlay_path(format!("/{SCRIPT}"))
            .into(),
    );
    persist.record(updates).await.unwrap();
    let backend = persist.backend();
    let second = |n, state, who: &str| {
        let second = JobUpdate::new(id(n), state).at(at(1, 30)).actor(who).reason(who);
        Tried::new(second.check(&FixedClock(now())).unwrap(), JobState::Failed.into())
    };
    let tried = [
        second(HOSTILE, JobState::Succeeded, SCRIPT),
        second(57, JobState::TimedOut, "watchdog").tries(3),
    ];
    backend.ledger().unwrap().keep(&tried).await.unwrap();
}
