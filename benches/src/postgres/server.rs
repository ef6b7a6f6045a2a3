//! The server of the contests, its tables, and what is checked of them after each slice.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use persist::{OnUnavailable, Persist};
use persist_tests::cluster::{Cluster, Options};
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};

use crate::slice::Slice;
use crate::writer::cpu_time;

/// A database with our schema, on a server of its own.
pub(crate) struct Server {
    // Stopped when the last contender is gone.
    cluster: Arc<Cluster>,
    url: String,
}

/// Slots; rows; subjects of slots; rows that stand at the highest slot of their subject.
const WHOLE: &str = "WITH top AS (SELECT request_id, max(rank) AS rank FROM events GROUP BY request_id) \
    SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM jobs), (SELECT count(*) FROM top), \
    (SELECT count(*) FROM top JOIN jobs USING (request_id, rank))";

/// Fields of `/proc/PID/stat` behind the program's name, which may hold anything.
const PARENT: usize = 0;
const USER: usize = 10;
const SYSTEM: usize = 11;

/// Those fields, from the parent on; one that is no number above 0 is 0.
fn stat(pid: u32) -> Option<Vec<u64>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind) = stat.rsplit_once(')')?;
    let fields = behind.split_whitespace().skip(1);
    let fields: Vec<_> = fields.map(|field| field.parse().unwrap_or(0)).collect();
    (fields.len() > SYSTEM + 2).then_some(fields)
}

/// Of the processes of the server that have ended.
fn ended_ticks(postmaster: u32) -> Option<u64> {
    let fields = stat(postmaster)?;
    Some(fields[USER..=SYSTEM + 2].iter().sum())
}

/// Tells what a slice's updates took of the processors since `before`.
pub(crate) fn cpu_of(server: &Server, before: Option<[Duration; 2]>, slice: &mut Slice) {
    let Some((before, after)) = before.zip(server.cpu()) else {
        return;
    };
    let updates = slice.done.max(1) as f64;
    for (at, name) in ["µs of our CPU an update", "µs of the server's CPU an update"]
        .into_iter()
        .enumerate()
    {
        let used = after[at].saturating_sub(before[at]);
        slice.extras.insert(name, used.as_secs_f64() * 1e6 / updates);
    }
}

impl Server {
    pub(crate) async fn start(durable: bool) -> Arc<Self> {
        let settings = [
            ("shared_buffers", "512MB"),
            ("max_wal_size", "4GB"),
            ("max_connections", "200"),
            ("fsync", if durable { "on" } else { "off" }),
        ];
        let options = settings
            .iter()
            .fold(Options::default(), |options, (name, value)| {
                options.setting(name, value)
            });
        Self::database(Arc::new(Cluster::start(&options))).await
    }

    /// Another database of the same server.
    pub(crate) async fn another(&self) -> Arc<Self> {
        Self::database(Arc::clone(&self.cluster)).await
    }

    async fn database(cluster: Arc<Cluster>) -> Arc<Self> {
        let url = cluster.fresh_database_url().await;
        let server = Arc::new(Self { cluster, url });
        // Makes the tables.
        let persist = server.persist().await;
        persist.close().await.expect("it closes");
        server
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// The time that this program and the server's processes have had of the processors; `None` where the kernel does not tell.
    pub(crate) fn cpu(&self) -> Option<[Duration; 2]> {
        let postmaster = self.cluster.postmaster();
        let mut ticks = ended_ticks(postmaster)?;
        for process in fs::read_dir("/proc").ok()?.flatten() {
            let name = process.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if let Some(fields) = stat(pid)
                && fields[PARENT] == u64::from(postmaster)
            {
                ticks += fields[USER] + fields[SYSTEM];
            }
        }
        // A tick is 10 ms on every Linux.
        Some([cpu_time()?, Duration::from_millis(ticks * 10)])
    }

    pub(crate) async fn persist(&self) -> Persist {
        let persist = Persist::builder(Some(self.url())).on_unavailable(OnUnavailable::Fail);
        persist.connect().await.expect("it connects")
    }

    pub(crate) async fn connection(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.expect("it connects")
    }

    /// Empty tables, and nothing left of the contender before in the way.
    pub(crate) async fn fresh(&self) {
        let mut connection = self.connection().await;
        for sql in ["TRUNCATE jobs, vms, events", "CHECKPOINT"] {
            connection.execute(sql).await.expect("it runs");
        }
    }

    /// Slots of the history.
    pub(crate) async fn slots(&self) -> u64 {
        let mut connection = self.connection().await;
        let row = connection.fetch_one("SELECT count(*) FROM events").await;
        row.expect("it is counted").get::<i64, _>(0).unsigned_abs()
    }

    /// There are so many slots, each subject of one has its row, and each row stands at its highest slot.
    pub(crate) async fn check(&self, slots: u64) {
        let mut connection = self.connection().await;
        let row = connection.fetch_one(WHOLE).await.expect("it is counted");
        let [stored, rows, subjects, right] = [0, 1, 2, 3].map(|at| row.get::<i64, _>(at).unsigned_abs());
        assert_eq!(stored, slots, "what was acknowledged is stored");
        assert_eq!(
            (rows, right),
            (subjects, subjects),
            "rows are the fold of their slots"
        );
    }
}
