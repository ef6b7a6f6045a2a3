//! The server of an own cluster: its programs, its folder, and who watches over it.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;

use crate::cluster::{Options, SUPERUSER, Stop, URL_VARIABLE, free_port};

/// Stops the server and removes the folder once the pipe on its input closes.
const WATCH: &str = r#"trap '' HUP INT TERM
read -r end
pid=$(head -n 1 "$2/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
    kill -CONT "$pid" 2>/dev/null
    "$1/pg_ctl" stop -s -D "$2/data" -m immediate -t 20 >/dev/null 2>&1 || kill -KILL "$pid" 2>/dev/null
fi
rm -rf "$2""#;

/// Dropping it stops the server and removes its folder.
#[derive(Debug)]
pub(crate) struct Own {
    bin: PathBuf,
    pub(crate) dir: PathBuf,
    user: Option<String>,
    watcher: Mutex<Child>,
}

impl Own {
    /// Makes a cluster, and starts its server on a free port.
    pub(crate) fn start(options: &Options) -> (Self, u16) {
        let own = Self::found(options);
        own.initialise(options);
        let port = own.first_start();
        (own, port)
    }

    /// A standby of the server at this port, which applies what that commits so much later.
    pub(crate) fn standby(primary: u16, behind: Duration) -> (Self, u16) {
        let own = Self::found(&Options::default());
        let mut copy = own.command("pg_basebackup");
        copy.args([
            "-h",
            "127.0.0.1",
            "-U",
            SUPERUSER,
            "-R",
            "--checkpoint=fast",
            "-p",
        ]);
        copy.arg(primary.to_string());
        ok("pg_basebackup", copy.arg("-D").arg(own.dir.join("data")));
        own.configure(&[
            ("unix_socket_directories", own.dir.display().to_string()),
            ("recovery_min_apply_delay", format!("{}ms", behind.as_millis())),
        ]);
        let port = own.first_start();
        (own, port)
    }

    /// Its folder, and who watches over it.
    fn found(options: &Options) -> Self {
        let bin = programs();
        let user = unprivileged();
        let within = options.within.clone().unwrap_or_else(std::env::temp_dir);
        let dir = tempfile::Builder::new()
            .prefix("persist-pg-")
            .tempdir_in(within)
            .expect("a temporary folder")
            .keep();
        let watcher = Command::new("sh")
            .args(["-c", WATCH, "watch"])
            .args([bin, dir.as_path()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // Of its own group, so that what ends the tests does not end it.
            .process_group(0)
            .as_user(user)
            .spawn()
            .expect("the watcher starts");
        let own = Own {
            bin: bin.to_owned(),
            dir,
            user: user.map(str::to_owned),
            watcher: Mutex::new(watcher),
        };
        if let Some(user) = user {
            ok("chown", Command::new("chown").arg(user).arg(&own.dir));
        }
        own
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.as_user(self.user.as_deref()).current_dir(&self.dir);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn initialise(&self, options: &Options) {
        let data = self.dir.join("data");
        let mut initdb = self.command("initdb");
        initdb
            .arg("-D")
            .arg(&data)
            .args(["-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--no-sync"]);
        if let Some(password) = &options.password {
            let file = self.dir.join("password");
            fs::write(&file, password).expect("the password file is written");
            give(&file);
            initdb.args(["-A", "scram-sha-256", "--pwfile"]).arg(file);
        } else {
            initdb.args(["-A", "trust"]);
        }
        ok("initdb", &mut initdb);
        let mut settings = vec![
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("unix_socket_directories", self.dir.display().to_string()),
            ("max_connections", "300".to_owned()),
            ("shared_buffers", "64MB".to_owned()),
            ("fsync", "on".to_owned()),
            ("logging_collector", "off".to_owned()),
        ];
        settings.extend(options.settings.iter().cloned());
        self.configure(&settings);
    }

    /// Later settings win over earlier ones.
    fn configure(&self, settings: &[(&str, String)]) {
        let file = self.dir.join("data/postgresql.conf");
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(file)
            .expect("initdb made it");
        for (name, value) in settings {
            writeln!(file, "{name} = '{}'", value.replace('\'', "''")).expect("the setting is written");
        }
    }

    /// Starts on a free port. Another process may take it in between: then on another one.
    fn first_start(&self) -> u16 {
        for _ in 0..5 {
            let port = free_port();
            self.configure(&[("port", port.to_string())]);
            if self.run_server().success() {
                return port;
            }
        }
        panic!("the server does not start:\n{}", self.log());
    }

    pub(crate) fn run_server(&self) -> ExitStatus {
        let mut start = self.command("pg_ctl");
        start
            .args(["start", "-w", "-s", "-t", "60", "-D"])
            .arg(self.dir.join("data"));
        start.arg("-l").arg(self.dir.join("log"));
        start.status().expect("pg_ctl runs")
    }

    pub(crate) fn stop(&self, how: Stop) {
        let mode = if how == Stop::Fast { "fast" } else { "immediate" };
        let mut stop = self.command("pg_ctl");
        ok(
            "pg_ctl stop",
            stop.args(["stop", "-w", "-s", "-t", "60", "-m", mode, "-D"])
                .arg(self.dir.join("data")),
        );
    }

    pub(crate) fn promote(&self) {
        let mut promote = self.command("pg_ctl");
        let data = self.dir.join("data");
        ok(
            "pg_ctl promote",
            promote.args(["promote", "-w", "-s", "-D"]).arg(data),
        );
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let watcher = self.watcher.get_mut();
        drop(watcher.stdin.take());
        let _ = watcher.wait();
        // The unprivileged user may empty its folder, but not take it out of a folder that isn't its own.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The folder of the server's programs, with `pgbench`.
///
/// # Panics
/// If there is none.
pub fn programs() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let config = Command::new("pg_config")
            .arg("--bindir")
            .stderr(Stdio::null())
            .output();
        let config = config
            .map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
            .ok();
        let mut versions: Vec<_> = fs::read_dir("/usr/lib/postgresql")
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        // The newest first, by number: 9.6 is older than 15.
        versions.sort_by_key(|path| {
            let number = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.parse::<f32>().ok());
            std::cmp::Reverse((number.unwrap_or_default() * 10.0) as u32)
        });
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = config
            .into_iter()
            .chain(versions.into_iter().map(|version| version.join("bin")));
        places
            .chain(std::env::split_paths(&path))
            .find(|bin| {
                ["initdb", "pg_ctl", "postgres"]
                    .iter()
                    .all(|program| bin.join(program).is_file())
            })
            .unwrap_or_else(|| {
                panic!("PostgreSQL's server is not installed: run make test, or set {URL_VARIABLE}")
            })
    })
}

/// Whom servers run as, where the tests run as root: Postgres refuses to.
pub(crate) fn unprivileged() -> Option<&'static str> {
    static USER: OnceLock<Option<&'static str>> = OnceLock::new();
    let exists = |user: &&&str| {
        Command::new("id")
            .arg(**user)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|id| id.success())
    };
    *USER.get_or_init(|| {
        let id = Command::new("id").arg("-u").output().expect("id runs");
        if String::from_utf8_lossy(&id.stdout).trim() != "0" {
            return None;
        }
        Some(
            ["postgres", "nobody"]
                .iter()
                .find(exists)
                .copied()
                .expect("there is an unprivileged user"),
        )
    })
}

/// Makes a file one that servers, and nobody else, may read.
pub(crate) fn give(path: &Path) {
    ok("chmod", Command::new("chmod").arg("600").arg(path));
    if let Some(user) = unprivileged() {
        ok("chown", Command::new("chown").arg(user).arg(path));
    }
}

/// Gives a command to another user.
pub(crate) trait AsUser {
    fn as_user(&mut self, user: Option<&str>) -> &mut Self;
}

impl AsUser for Command {
    fn as_user(&mut self, user: Option<&str>) -> &mut Self {
        if let Some(user) = user {
            let id = |flag| -> u32 {
                let id = Command::new("id").args([flag, user]).output().expect("id runs");
                String::from_utf8_lossy(&id.stdout)
                    .trim()
                    .parse()
                    .expect("id prints a number")
            };
            self.gid(id("-g")).uid(id("-u"));
        }
        self
    }
}

pub(crate) fn ok(what: &str, command: &mut Command) {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let output = output.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(
        output.status.success(),
        "{what} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
