//! A small orchestrator, to learn from how persist is embedded:
//!
//! ```text
//! cargo run --example orchestrator                              # no database: the hooks do nothing
//! DATABASE_URL=memory: cargo run --example orchestrator
//! DATABASE_URL='sqlite://ci.db?mode=rwc' cargo run --example orchestrator -- examples/requests.jsonl
//! ```
//!
//! It says that it is alive under a name (`ORCHESTRATOR`), and at its start ends what an earlier run of that name left open.
//! A consumer reads requests, a scheduler runs each in a VM of a bounded pool, and the hooks tell persist what
//! happened. The hypervisor is simulated from a seeded generator: the same requests end the same way every time.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use persist::{
    Alive, JobQuery, JobState, JobUpdate, OnUnavailable, OrphanKind, OrphanQuery, Persist, Recovery, Update,
    VmState, VmUpdate,
};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use uuid::Uuid;

/// VMs that this host can hold at once.
const POOL: usize = 4;
/// A job whose VM broke is run once more: a host's failure is not the commit's fault.
const ATTEMPTS: u32 = 2;

/// What a forge asks for; one JSON object a line.
#[derive(Debug, Clone, Deserialize)]
struct Request {
    request_id: Uuid,
    repo_url: String,
    commit_sha: String,
    runs_on: String,
    takes_ms: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let file = std::env::args().nth(1);
    let file = file.unwrap_or_else(|| "examples/requests.jsonl".into());
    // History is optional to this orchestrator, so a database that is away must not stop the builds. Only a URL
    // that can never work is an error here. Where history matters more, use `Persist::builder`.
    let name = std::env::var("ORCHESTRATOR").unwrap_or_else(|_| "orchestrator-1".into());
    let persist = Persist::builder(std::env::var("DATABASE_URL").ok())
        .on_unavailable(OnUnavailable::BestEffort)
        .actor(&name)
        .connect()
        .await?;
    // Before the first hook: what comes before the first beat looks as if an earlier run had left it.
    let alive = Arc::new(persist.keep_alive(heartbeat()?).await?);
    let recovering = {
        let (persist, alive) = (persist.clone(), Arc::clone(&alive));
        async move {
            // Without a database there is none; where it is away, builds don't wait for it.
            if alive.beaten().await.is_some() {
                recover(&persist, &name).await;
            }
        }
    };
    if alive.owner().is_some() {
        recovering.await;
    } else {
        tokio::spawn(recovering);
    }

    let orchestrator = Orchestrator::new(persist.clone(), Arc::clone(&alive));
    let endings = tokio::select! {
        endings = orchestrator.consume(&file) => endings?,
        // Two of one name would end each other's jobs.
        () = alive.taken_over() => return Err("another orchestrator was started under this name".into()),
    };
    print_summary(&persist, &endings).await;
    // After the last hook: lets accepted updates finish and refuses new ones.
    persist.close().await?;
    Ok(())
}

/// How long it counts as alive after its last beat.
fn heartbeat() -> Result<Duration, Box<dyn Error>> {
    let millis = std::env::var("HEARTBEAT_MS").map_or(Ok(15_000), |text| text.parse())?;
    Ok(Duration::from_millis(millis))
}

/// Nothing of an earlier run goes on: its VMs are gone with their host's memory, and so are its jobs. An orchestrator whose VMs
/// outlive it would look for them first, and destroy them.
async fn recover(persist: &Persist, name: &str) {
    let left = OrphanQuery::default().kinds([OrphanKind::OwnerGone]).actor(name);
    let recovery = Recovery::of(left).reason("the orchestrator was started anew");
    match persist.recover(&recovery).await {
        Ok(recovered) => tracing::info!(
            jobs = recovered.jobs,
            vms = recovered.vms,
            "ended what an earlier run left"
        ),
        // They stay listed by `persist orphans`; the builds go on.
        Err(error) => tracing::error!(%error, "not recovered"),
    }
}

/// Becomes true at the first Ctrl-C or SIGTERM.
fn shutdown_signal() -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        let mut terminate = signal(SignalKind::terminate()).expect("signals are there on Unix");
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("shutting down: running jobs finish, waiting ones are cancelled");
        sender.send_replace(true);
        // Keeps the sender: its end would look like one more change.
        std::future::pending::<()>().await;
    });
    receiver
}

#[derive(Clone)]
struct Orchestrator {
    persist: Persist,
    alive: Arc<Alive>,
    pool: Arc<Semaphore>,
    shutdown: watch::Receiver<bool>,
}

impl Orchestrator {
    fn new(persist: Persist, alive: Arc<Alive>) -> Self {
        let pool = Arc::new(Semaphore::new(POOL));
        Self {
            persist,
            alive,
            pool,
            shutdown: shutdown_signal(),
        }
    }

    /// The consumer: accepts requests until the file ends or a shutdown begins, then waits for what it accepted.
    async fn consume(mut self, file: &str) -> Result<BTreeMap<JobState, u32>, Box<dyn Error>> {
        let mut lines = BufReader::new(tokio::fs::File::open(file).await?).lines();
        let mut jobs = JoinSet::new();
        loop {
            let line = tokio::select! {
                line = lines.next_line() => line?,
                _ = self.shutdown.wait_for(|begun| *begun) => None,
            };
            let Some(line) = line else { break };
            match serde_json::from_str::<Request>(&line) {
                Ok(request) => {
                    self.record(job(&request, JobState::Queued, 1)).await;
                    jobs.spawn(self.clone().schedule(request));
                }
                // One bad request must not stop the others.
                Err(error) => tracing::warn!(%error, "request refused"),
            }
        }
        let mut endings = BTreeMap::new();
        while let Some(ending) = jobs.join_next().await {
            *endings.entry(ending?).or_default() += 1;
        }
        Ok(endings)
    }

    /// The scheduler: waits for a place in the pool and runs the job, again where its VM broke.
    async fn schedule(mut self, request: Request) -> JobState {
        for attempt in 1..=ATTEMPTS {
            if attempt > 1 {
                // A run again is the next attempt. The ending of the first one stays in the history.
                self.record(job(&request, JobState::Queued, attempt)).await;
            }
            let pool = Arc::clone(&self.pool);
            let place = tokio::select! {
                // First the shutdown: a place that becomes free then must not start anything.
                biased;
                _ = self.shutdown.wait_for(|begun| *begun) => None,
                place = pool.acquire_owned() => place.ok(),
            };
            let Some(_place) = place else {
                let cancelled = job(&request, JobState::Cancelled, attempt);
                self.record(cancelled.reason("the orchestrator shut down")).await;
                return JobState::Cancelled;
            };
            match self.run(&request, attempt).await {
                Ending::Job(state) => return state,
                Ending::VmBroke => tracing::warn!(request = %request.request_id, attempt, "the VM broke"),
            }
        }
        JobState::Failed
    }

    /// One attempt in one VM, with a hook at each step of its life.
    async fn run(&self, request: &Request, attempt: u32) -> Ending {
        // A new VM has a new name; had we started the same one again, that would be *its* next attempt.
        let name = format!("ci-{}-{attempt}", &request.request_id.simple().to_string()[24..]);
        let vm = |state| VmUpdate::new(request.request_id, &name, state);
        let mut host = Hypervisor::seeded(request.request_id, attempt);

        // Before the disk exists: whoever cleans up after a crash must find the paths of what may be there.
        let prepared = vm(VmState::Prepared).backend("simulated");
        let prepared = prepared.overlay_path(format!("/var/lib/ci/{name}.qcow2"));
        let prepared = prepared.seed_path(format!("/var/lib/ci/{name}-seed.iso"));
        self.record(prepared).await;
        host.delay(5..20).await;

        let ending = if host.boot().await {
            // Both in one call: one round trip.
            let running = job(request, JobState::Running, attempt).into();
            self.record_all(vec![vm(VmState::Running).into(), running]).await;
            host.run(request.takes_ms).await
        } else {
            Ending::VmBroke
        };

        let (vm_state, job_state) = match ending {
            Ending::Job(state) => (VmState::Stopped, state),
            Ending::VmBroke => (VmState::Failed, JobState::Failed),
        };
        let ended = job(request, job_state, attempt).into();
        self.record_all(vec![vm(vm_state).into(), ended]).await;
        host.delay(1..5).await;
        self.record(vm(VmState::Destroyed)).await;
        ending
    }

    async fn record(&self, update: impl Into<Update>) {
        self.record_all(vec![update.into()]).await;
    }

    /// Every hook ends here. A build never fails because its history could not be written: an error is logged,
    /// and a `Refused` (another ending stands already) or `Dropped` is a report that we may ignore.
    async fn record_all(&self, updates: Vec<Update>) {
        if self.alive.owner().is_none() {
            // Off or away. As the database comes back it would look as if an earlier run had left this, and be recovered.
            return tracing::debug!(?updates, "not recorded: there was no beat yet");
        }
        match self.persist.record(updates).await {
            Ok(outcomes) => tracing::debug!(?outcomes, "recorded"),
            Err(error) => tracing::error!(%error, "not recorded"),
        }
    }
}

/// What we know of a job by ourselves, in every update: attributes are set once and never lost, and an update
/// that overtakes the first one then tells the whole story. The time is stamped where the update enters.
fn job(request: &Request, state: JobState, attempt: u32) -> JobUpdate {
    JobUpdate::new(request.request_id, state)
        .attempt(attempt)
        .repo_url(&request.repo_url)
        .commit_sha(&request.commit_sha)
        .runs_on(&request.runs_on)
}

#[derive(Clone, Copy)]
enum Ending {
    Job(JobState),
    VmBroke,
}

/// Stands in for libvirt: delays and failures.
struct Hypervisor(StdRng);

impl Hypervisor {
    fn seeded(request: Uuid, attempt: u32) -> Self {
        let (_, low) = request.as_u64_pair();
        Self(StdRng::seed_from_u64(low.wrapping_add(u64::from(attempt))))
    }

    async fn delay(&mut self, millis: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.0.random_range(millis))).await;
    }

    async fn boot(&mut self) -> bool {
        self.delay(20..60).await;
        self.0.random_bool(0.85)
    }

    async fn run(&mut self, takes_ms: u64) -> Ending {
        self.delay(takes_ms / 2..takes_ms + 1).await;
        let red = self.0.random_bool(0.2);
        Ending::Job([JobState::Succeeded, JobState::Failed][usize::from(red)])
    }
}

async fn print_summary(persist: &Persist, endings: &BTreeMap<JobState, u32>) {
    for (state, jobs) in endings {
        println!("{jobs:>4} {state}");
    }
    println!("\nThe newest in the store:");
    match persist.jobs(&JobQuery::default().limit(5)).await {
        Ok(page) => page
            .items
            .iter()
            .for_each(|job| println!("  {}  {}", job.request_id, job.state)),
        // "Could not read" is an error and never an empty page: nothing is concluded from it.
        Err(error) => println!("  {error}"),
    }
}
