//! A throw-away PgBouncer in transaction mode between the tests and a cluster.
//!
//! Its servers take turns (`server_round_robin`), so that what a client leaves behind in one transaction is not there
//! in the next, as on a busy pooler.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, OnceLock};

use parking_lot::Mutex;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use crate::cluster::{Cluster, free_port, shared};
use crate::process;
use crate::server::{AsUser as _, ok, unprivileged};

/// Most connections to the server for each database.
pub const SERVERS: u32 = 6;

/// Ends the pooler and removes the folder once the pipe on its input closes.
const WATCH: &str = r#"trap '' HUP INT TERM
"$1" "$2/pgbouncer.ini" </dev/null >>"$2/log" 2>&1 &
read -r end
kill -KILL "$!" 2>/dev/null
wait
rm -rf "$2""#;

/// A running pooler. Dropping it ends it and removes its folder.
#[derive(Debug)]
pub struct Pooler {
    port: u16,
    dir: PathBuf,
    watcher: Mutex<Child>,
}

/// The pooler of this test process, before the shared cluster; `None` where PgBouncer is not installed.
pub fn before_shared() -> Option<&'static Pooler> {
    static SHARED: LazyLock<Option<Pooler>> =
        LazyLock::new(|| is_here().then(|| Pooler::start(shared(), &[])));
    SHARED.as_ref()
}

/// Whether PgBouncer is installed; says so if not.
pub fn is_here() -> bool {
    let is_here = program().is_some();
    if !is_here {
        eprintln!("not asked: there is no pgbouncer here; run make test, or install it");
    }
    is_here
}

impl Pooler {
    /// Starts one before this cluster, with these settings beside its own. Whoever connects is the cluster's superuser.
    ///
    /// # Panics
    /// If PgBouncer is not installed, or does not start; with what its log says.
    pub fn start(cluster: &Cluster, settings: &[(&str, &str)]) -> Self {
        let mut log = String::new();
        for _ in 0..5 {
            let pooler = Self::launch(cluster, free_port(), settings);
            let mut has_failed = false;
            process::until_blocking("the pooler takes connections, or ends", || {
                has_failed = pooler.log().contains("FATAL");
                has_failed || TcpStream::connect(("127.0.0.1", pooler.port)).is_ok()
            });
            // Another process may have taken the port in between: then on another one.
            if !has_failed {
                return pooler;
            }
            log = pooler.log();
        }
        panic!("the pooler does not start:\n{log}");
    }

    fn launch(cluster: &Cluster, port: u16, settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("persist-pooler-")
            .tempdir()
            .expect("a temporary folder")
            .keep();
        let server = url::Url::parse(&cluster.url("postgres")).expect("the tests make well-formed URLs");
        let mut target = format!(
            "* = host={} port={} user={}",
            server.host_str().expect("has a host"),
            cluster.port(),
            server.username()
        );
        if let Some(password) = server.password() {
            target.push_str(&format!(" password='{}'", password.replace('\'', "''")));
        }
        let servers = SERVERS.to_string();
        let own = [
            ("listen_addr", "127.0.0.1"),
            ("listen_port", &port.to_string()),
            ("unix_socket_dir", ""),
            // Everybody may come in, as the role that the database's line names.
            ("auth_type", "any"),
            ("pool_mode", "transaction"),
            ("default_pool_size", &servers),
            ("server_round_robin", "1"),
            ("max_client_conn", "400"),
        ];
        let mut text = format!("[databases]\n{target}\n[pgbouncer]\n");
        for (name, value) in own.iter().chain(settings) {
            text.push_str(&format!("{name} = {value}\n"));
        }
        let file = dir.join("pgbouncer.ini");
        let written = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file);
        let written = written.and_then(|mut file| file.write_all(text.as_bytes()));
        written.expect("the settings are written");
        let user = unprivileged();
        if let Some(user) = user {
            ok("chown", Command::new("chown").arg("-R").arg(user).arg(&dir));
        }
        let watcher = Command::new("sh")
            .args(["-c", WATCH, "watch"])
            .args([program().expect("PgBouncer is installed"), &dir])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // Of its own group, so that what ends the tests does not end it.
            .process_group(0)
            .as_user(user)
            .spawn()
            .expect("the watcher starts");
        Self {
            port,
            dir,
            watcher: Mutex::new(watcher),
        }
    }

    /// The same URL through the pooler; nothing in it says so to persist.
    ///
    /// # Panics
    /// If it is no URL.
    pub fn bare_url(&self, url: &str) -> String {
        let mut url = url::Url::parse(url).expect("the tests make well-formed URLs");
        url.set_host(Some("127.0.0.1")).expect("has a host");
        url.set_port(Some(self.port)).expect("has a host");
        url.into()
    }

    /// The same URL through the pooler, with `persist_pooler=transaction`.
    ///
    /// # Panics
    /// If it is no URL.
    pub fn url(&self, url: &str) -> String {
        let mut url = url::Url::parse(&self.bare_url(url)).expect("is a URL");
        url.query_pairs_mut().append_pair("persist_pooler", "transaction");
        url.into()
    }

    /// A bare connection through the pooler, to look at what it does.
    ///
    /// # Panics
    /// If it can't be reached.
    pub async fn connect(&self, url: &str) -> PgConnection {
        let mut url = url::Url::parse(&self.bare_url(url)).expect("is a URL");
        url.set_query(None);
        let options: PgConnectOptions = url.as_str().parse().expect("is a URL");
        options
            .extra_float_digits(None)
            .connect()
            .await
            .unwrap_or_else(|error| panic!("no connection for the test: {error}\n{}", self.log()))
    }

    /// Has all its connections to the server of this database opened: they take turns from then on.
    ///
    /// # Panics
    /// If it can't be reached.
    pub async fn open_all(&self, url: &str) {
        let mut clients = Vec::new();
        for _ in 0..SERVERS {
            let mut client = self.connect(url).await;
            // As long as a transaction lasts, its server is nobody else's.
            client.execute("BEGIN").await.expect("a transaction begins");
            clients.push(client);
        }
        for mut client in clients {
            client.execute("COMMIT").await.expect("it ends");
            let _ = client.close().await;
        }
    }

    /// What the pooler said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let watcher = self.watcher.get_mut();
        drop(watcher.stdin.take());
        let _ = watcher.wait();
        // The unprivileged user may empty its folder, but not take it out of a folder that isn't its own.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// PgBouncer's program: packages put it where only administrators look.
fn program() -> Option<&'static PathBuf> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
        places
            .map(|place| place.join("pgbouncer"))
            .find(|program| program.is_file())
    });
    found.as_ref()
}
