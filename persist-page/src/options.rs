//! What an embedder chooses.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use persist::{Clock, SystemClock};
use tokio::sync::watch;

/// Text of the metrics, in the format of Prometheus.
pub(crate) type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// How the pages behave. The defaults suit one store and some dozens of people.
///
/// ```
/// use persist_page::Options;
/// let options = Options::default().hosts(["ci.example.org"]).subscribers(16);
/// # let _ = options;
/// ```
#[derive(Clone)]
pub struct Options {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) hosts: Option<Vec<String>>,
    pub(crate) metrics: Option<Render>,
    pub(crate) subscribers: usize,
    pub(crate) requests: usize,
    pub(crate) within: Duration,
    pub(crate) ready_within: Duration,
    pub(crate) longest_stream: Duration,
    pub(crate) look_every: Duration,
    pub(crate) stats_jobs: u32,
    pub(crate) ending: Option<watch::Receiver<bool>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            hosts: None,
            metrics: None,
            subscribers: 64,
            requests: 32,
            within: Duration::from_secs(10),
            ready_within: Duration::from_secs(2),
            longest_stream: Duration::from_secs(3_600),
            look_every: Duration::from_secs(20),
            stats_jobs: 600,
            ending: None,
        }
    }
}

impl Options {
    /// By which "a minute ago" is told; the system's clock unless set.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Answers only requests whose `Host` is one of these names or addresses, with whatever port; any unless set. On a
    /// loopback address this is what keeps a page of elsewhere from reading the store by a name that leads here: see
    /// [`LOOPBACK`](crate::LOOPBACK).
    #[must_use]
    pub fn hosts(mut self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.hosts = Some(
            hosts
                .into_iter()
                .map(|host| host.into().to_ascii_lowercase())
                .collect(),
        );
        self
    }

    /// What `/metrics` answers; without it there is no such path.
    #[must_use]
    pub fn metrics(mut self, render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.metrics = Some(Arc::new(render));
        self
    }

    /// Most live streams at a time, 64 unless set; who comes beyond is told to come again.
    #[must_use]
    pub fn subscribers(mut self, subscribers: usize) -> Self {
        self.subscribers = subscribers;
        self
    }

    /// Most other requests at a time, 32 unless set; who comes beyond waits, half as long as a request may take.
    #[must_use]
    pub fn requests(mut self, requests: usize) -> Self {
        self.requests = requests.max(1);
        self
    }

    /// How long a request may take, with its waiting: 10 s unless set. The store's own deadlines are shorter.
    #[must_use]
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// How long `/readyz` waits for the store: 2 s unless set.
    #[must_use]
    pub fn ready_within(mut self, time: Duration) -> Self {
        self.ready_within = time;
        self
    }

    /// After this time a live stream ends and its browser takes it up anew where it was: an hour unless set. What is held for
    /// those who went without a word is freed by it.
    #[must_use]
    pub fn longest_stream(mut self, time: Duration) -> Self {
        self.longest_stream = time;
        self
    }

    /// How often an open page is read anew though no change was told: 20 s unless set. A store that goes away, ages and what
    /// becomes an orphan are seen by it.
    #[must_use]
    pub fn look_every(mut self, time: Duration) -> Self {
        self.look_every = time;
        self
    }

    /// Most jobs that the statistics look at, the newest: 600 unless set. The history of each is read.
    #[must_use]
    pub fn stats_jobs(mut self, jobs: u32) -> Self {
        self.stats_jobs = jobs;
        self
    }

    /// Live streams end when this becomes true: a server that stops waits for its requests, and these have no end of their own.
    #[must_use]
    pub fn ending(mut self, ending: watch::Receiver<bool>) -> Self {
        self.ending = Some(ending);
        self
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("hosts", &self.hosts)
            .field("subscribers", &self.subscribers)
            .field("requests", &self.requests)
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}
