//! Throw-away Postgres clusters that the tests start themselves.
//!
//! [`shared`] is one cluster for the whole test process. [`Cluster::start`] makes one more, for tests that stop,
//! kill or freeze the server. Servers sync to disk as real ones do, listen on a free port of the loopback
//! interface and, where the tests run as root, belong to an unprivileged user.
//!
//! A small shell process watches over each cluster: it holds the reading end of a pipe, and when the test process
//! ends, however it ends, it stops the server and removes the folder.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::Rng as _;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::process;
use crate::server::Own;

/// Names a running server to use in place of an own cluster: a URL of a role that may create databases.
pub const URL_VARIABLE: &str = "PERSIST_TEST_POSTGRES_URL";

/// The superuser of an own cluster.
pub const SUPERUSER: &str = "postgres";

/// What an own cluster is made with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub(crate) password: Option<String>,
    pub(crate) settings: Vec<(&'static str, String)>,
    pub(crate) within: Option<PathBuf>,
}

impl Options {
    /// The superuser has this password and everybody must show theirs (SCRAM); otherwise everybody is trusted.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// The folder in which its own folder is made, where that is not the one for temporary files.
    #[must_use]
    pub fn within(mut self, folder: &Path) -> Self {
        self.within = Some(folder.to_owned());
        self
    }

    /// One setting of `postgresql.conf`.
    #[must_use]
    pub fn setting(mut self, name: &'static str, value: &str) -> Self {
        self.settings.push((name, value.to_owned()));
        self
    }
}

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Open connections are ended, everything is written out.
    Fast,
    /// As a crash: the next start recovers.
    Immediate,
}

/// A Postgres server. Dropping an own one stops it and removes its folder.
#[derive(Debug)]
pub struct Cluster {
    own: Option<Own>,
    /// Up to the host: what stands between it and the database name.
    url: url::Url,
    names: AtomicU64,
    run: String,
}

/// The cluster of this test process, started by the first who asks.
///
/// # Panics
/// If there is no server to be found or started.
pub fn shared() -> &'static Cluster {
    static SHARED: LazyLock<Cluster> = LazyLock::new(|| match std::env::var(URL_VARIABLE) {
        Ok(url) if !url.trim().is_empty() => Cluster::running(&url),
        _ => Cluster::start(&Options::default()),
    });
    &SHARED
}

impl Cluster {
    fn running(url: &str) -> Self {
        // The text is not shown: it may hold a password.
        let url = url::Url::parse(url).unwrap_or_else(|_| panic!("{URL_VARIABLE} is not a URL"));
        Self {
            own: None,
            url,
            names: AtomicU64::new(0),
            run: run_name(),
        }
    }

    /// Makes a cluster and starts its server.
    ///
    /// # Panics
    /// If the server's programs are not there, or it does not start; with what its log says.
    pub fn start(options: &Options) -> Self {
        let mut cluster = Self::over(Own::start(options));
        let password = options.password.as_deref();
        cluster.url.set_password(password).expect("has a host");
        cluster
    }

    /// A streaming standby of this cluster, which applies what is committed here so much later.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn standby(&self, behind: Duration) -> Self {
        Self::over(Own::standby(self.port(), behind))
    }

    fn over((own, port): (Own, u16)) -> Self {
        let mut url = url::Url::parse("postgres://postgres@127.0.0.1/postgres").expect("is a URL");
        url.set_port(Some(port)).expect("has a host");
        Self {
            own: Some(own),
            url,
            names: AtomicU64::new(0),
            run: run_name(),
        }
    }

    /// The superuser's URL of this database.
    pub fn url(&self, database: &str) -> String {
        let mut url = self.url.clone();
        url.set_path(database);
        url.into()
    }

    /// The URL of this role for this database.
    pub fn url_for(&self, user: &str, password: &str, database: &str) -> String {
        let mut url = self.url.clone();
        url.set_username(user).expect("has a host");
        url.set_password(Some(password).filter(|word| !word.is_empty()))
            .expect("has a host");
        url.set_path(database);
        url.into()
    }

    /// A name that no one else has: of a role, a schema or a database.
    pub fn fresh_name(&self, what: &str) -> String {
        format!(
            "{what}_{}_{}",
            self.run,
            self.names.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// A URL with a schema of its own, which the first `up` makes.
    pub fn fresh_schema_url(&self) -> String {
        let mut url = self.url.clone();
        url.query_pairs_mut()
            .append_pair("persist_schema", &self.fresh_name("s"));
        url.into()
    }

    /// The URL of a new, empty database.
    pub async fn fresh_database_url(&self) -> String {
        let name = self.fresh_name("d");
        self.sql(&format!("CREATE DATABASE {name}")).await;
        self.url(&name)
    }

    /// Runs statements as the superuser, in the database that the cluster's own URL names.
    pub async fn sql(&self, statements: &str) {
        sql(self.url.as_str(), statements).await;
    }

    /// The server's port.
    pub fn port(&self) -> u16 {
        self.url.port().unwrap_or(5432)
    }

    /// The folder of an own cluster.
    pub fn folder(&self) -> &Path {
        &self.own().dir
    }

    /// Writes a file into the folder that only the server may read, as it wants its key to be, and says where it is.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn private_file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder().join(name);
        fs::write(&path, text).expect("the file is written");
        crate::server::give(&path);
        path
    }

    /// The id of the server's first process.
    pub fn postmaster(&self) -> u32 {
        let file = self.folder().join("data/postmaster.pid");
        let text = fs::read_to_string(file).expect("the server runs");
        text.lines()
            .next()
            .and_then(|line| line.trim().parse().ok())
            .expect("begins with a process id")
    }

    /// Whether the tests started it, and may do with it what they like.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Whether the server's first process is there.
    pub fn is_running(&self) -> bool {
        self.folder().join("data/postmaster.pid").exists() && process::is_alive(self.postmaster())
    }

    /// Makes a standby a primary.
    pub fn promote(&self) {
        self.own().promote();
    }

    /// Stops the server.
    pub fn stop(&self, how: Stop) {
        self.own().stop(how);
    }

    /// Starts the server again after `stop` or `kill`.
    pub fn resume(&self) {
        // While old processes hold the shared memory of a killed server, a new one refuses to start.
        process::until_blocking("the server starts again", || self.own().run_server().success());
    }

    /// `stop` and `resume`.
    pub fn restart(&self, how: Stop) {
        self.stop(how);
        self.resume();
    }

    /// SIGKILL to the server's first process. The others notice and end by themselves.
    pub fn kill(&self) {
        let pid = self.postmaster();
        process::signal(pid, "KILL");
        process::until_blocking("the killed server is gone", || !process::is_alive(pid));
        // Where nobody collects the dead process, its id would look taken.
        let _ = fs::remove_file(self.folder().join("data/postmaster.pid"));
    }

    fn own(&self) -> &Own {
        self.own
            .as_ref()
            .expect("a cluster that the tests started themselves")
    }
}

/// Runs statements over a connection of their own.
///
/// # Panics
/// If the server can't be reached or refuses.
pub async fn sql(url: &str, statements: &str) {
    let mut connection = connect(url).await;
    let done = connection
        .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned())))
        .await;
    done.unwrap_or_else(|error| panic!("{statements}: {error}"));
    let _ = connection.close().await;
}

/// A bare connection, to look at the database from outside. Settings of persist in the URL are left out.
///
/// # Panics
/// If the server can't be reached.
pub async fn connect(url: &str) -> PgConnection {
    let mut url = url::Url::parse(url).expect("the tests make well-formed URLs");
    let kept: Vec<_> = url
        .query_pairs()
        .into_owned()
        .filter(|(name, _)| !name.starts_with("persist_"))
        .collect();
    url.query_pairs_mut().clear().extend_pairs(kept);
    PgConnection::connect(url.as_str())
        .await
        .unwrap_or_else(|error| panic!("no connection for the test: {error}"))
}

/// A port of the loopback interface that nobody listens on.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    listener.local_addr().expect("is bound").port()
}

/// Tells apart what several test processes make on one server.
fn run_name() -> String {
    format!("{:08x}", rand::rng().random::<u32>())
}
