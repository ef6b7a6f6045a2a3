//! What the layers cost: a handle with all of them against the driver and its writer alone, by turns in one run.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use metrics_util::debugging::DebuggingRecorder;
use persist::{JobUpdate, OpenOptions, Outcome, Persist, PersistBackend, SystemClock};

use crate::Options;
use crate::contest::{Contender, contest};
use crate::postgres::server::Server;
use crate::slice::{Slice, closed_loop};
use crate::sqlite::store::Store;
use crate::verdict::Verdict;
use crate::workload;
use crate::writer::{CPU_US, cpu_time};

/// What is over the driver and its writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// What the facade puts there: the one that tells, the switch, the one that tries again.
    All,
    /// The same, and the layer of deadlines that a backend of one's own gets.
    AllAndDeadlines,
    /// As the first, with a recorder that keeps every value of every metric.
    AllRecorded,
    /// Nothing.
    Nothing,
}

enum Place {
    Postgres(Arc<Server>),
    Sqlite,
}

/// A place without rows.
enum Empty {
    Postgres(Arc<Server>),
    Sqlite(Store),
}

#[derive(Clone)]
enum Handle {
    Persist(Persist),
    Backend(Arc<dyn PersistBackend>),
}

impl Handle {
    async fn open(url: &str, over: Over) -> Self {
        let by_url = || Persist::builder(Some(url.to_owned()));
        let builder = match over {
            Over::All => by_url(),
            Over::AllRecorded => {
                let recorder = DebuggingRecorder::new();
                // Handles are taken where the store is opened: on this thread, until then.
                let connect = || tokio::runtime::Handle::current().block_on(by_url().connect());
                let connected =
                    tokio::task::block_in_place(|| metrics::with_local_recorder(&recorder, connect));
                return Self::Persist(connected.expect("it connects"));
            }
            Over::AllAndDeadlines => Persist::builder_over(driver(url).await),
            Over::Nothing => return Self::Backend(driver(url).await),
        };
        Self::Persist(builder.connect().await.expect("it connects"))
    }

    async fn record(&self, update: JobUpdate) -> Outcome {
        match self {
            Self::Persist(persist) => persist.record_job_state(update).await.expect("it is recorded"),
            Self::Backend(backend) => {
                let claim = update.check(&SystemClock).expect("it is valid");
                backend.apply(&[claim]).await.expect("it is recorded")[0]
            }
        }
    }

    async fn close(&self) {
        let closed = match self {
            Self::Persist(persist) => persist.close().await,
            Self::Backend(backend) => backend.close().await,
        };
        closed.expect("it closes");
    }
}

async fn driver(url: &str) -> Arc<dyn PersistBackend> {
    let url = url.parse().expect("a URL");
    let opened = persist::open(&url, &OpenOptions::default()).await;
    opened.expect("it opens")
}

struct Layered {
    place: Arc<Place>,
    over: Over,
    callers: u64,
    length: Duration,
}

impl Layered {
    async fn empty(&self) -> (Empty, String) {
        match &*self.place {
            Place::Postgres(server) => {
                server.fresh().await;
                (Empty::Postgres(Arc::clone(server)), server.url())
            }
            Place::Sqlite => {
                let store = Store::new().await;
                let url = store.url();
                (Empty::Sqlite(store), url)
            }
        }
    }
}

#[async_trait]
impl Contender for Layered {
    fn name(&self) -> String {
        let name = match self.over {
            Over::All => "persist, all layers",
            Over::AllAndDeadlines => "persist, all layers and deadlines",
            Over::AllRecorded => "persist, all layers and a recorder",
            Over::Nothing => "the driver and its writer alone",
        };
        name.into()
    }

    fn callers(&self) -> u64 {
        self.callers
    }

    async fn slice(&mut self) -> Slice {
        let (empty, url) = self.empty().await;
        let handle = Handle::open(&url, self.over).await;
        let shared = handle.clone();
        let before = cpu_time();
        let slice = closed_loop(self.callers, self.length, move |caller, nth| {
            let handle = shared.clone();
            async move {
                let told = handle.record(workload::life(caller, nth)).await;
                assert!(
                    matches!(told, Outcome::Applied { .. }),
                    "a new slot, and the answer is {told}"
                );
            }
        });
        let mut slice = slice.await;
        if let (Some(before), Some(after)) = (before, cpu_time()) {
            // Of this program: what the server needs is not in it, and on SQLite everything is.
            let used = (after - before).as_secs_f64() * 1e6;
            slice.extras.insert(CPU_US, used / slice.done as f64);
        }
        handle.close().await;
        match empty {
            Empty::Postgres(server) => server.check(slice.done).await,
            Empty::Sqlite(store) => store.check(slice.done),
        }
        slice
    }
}

/// Runs the contests of the layers.
pub(crate) async fn run(options: &Options) -> Vec<Verdict> {
    let server = Server::start(options.durable).await;
    let places = [
        ("pg", Arc::new(Place::Postgres(server))),
        ("lite", Arc::new(Place::Sqlite)),
    ];
    let mut verdicts = Vec::new();
    for (name, place) in places {
        let contests = [
            ("layers", Over::All, 64),
            ("layers", Over::All, options.crowd),
            ("layers (and deadlines)", Over::AllAndDeadlines, 64),
            ("recorded", Over::AllRecorded, 64),
        ];
        for (workload, over, callers) in contests {
            let pair = [over, Over::Nothing].map(|over| -> Box<dyn Contender> {
                Box::new(Layered {
                    place: Arc::clone(&place),
                    over,
                    callers,
                    length: options.slice(),
                })
            });
            verdicts.extend(contest(options, &format!("{name}-{workload}"), pair.into()).await);
        }
    }
    verdicts
}
