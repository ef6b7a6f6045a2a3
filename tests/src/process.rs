//! Processes that the tests start, stop, freeze and kill; and waiting for a condition, with a bound.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// The bound of everything that is waited for: far above what it takes, on a busy machine too.
pub const BOUND: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(10);

/// Waits until the condition holds.
///
/// # Panics
/// If it does not within [`BOUND`].
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + BOUND;
    while !holds().await {
        assert!(Instant::now() < end, "not within {BOUND:?}: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// The same outside of a runtime.
///
/// # Panics
/// If the condition does not hold within [`BOUND`].
pub fn until_blocking(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + BOUND;
    // Nobody sends: a timer that blocks only this thread.
    let (_sender, timer) = channel::<()>();
    while !holds() {
        assert!(Instant::now() < end, "not within {BOUND:?}: {what}");
        let _ = timer.recv_timeout(PAUSE);
    }
}

/// Sends a signal (`STOP`, `CONT`, `TERM`, `KILL`) to a process.
///
/// # Panics
/// If it can't be sent.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("sh")
        .args(["-c", "kill -s \"$1\" \"$2\"", "kill", name, &pid.to_string()])
        .status();
    assert!(
        sent.is_ok_and(|status| status.success()),
        "SIG{name} could not be sent"
    );
}

/// Whether a process runs; one that ended and that nobody has collected does not.
pub fn is_alive(pid: u32) -> bool {
    if !Path::new("/proc/self/stat").exists() {
        let asked = Command::new("sh")
            .args(["-c", "kill -0 \"$1\" 2>/dev/null", "kill", &pid.to_string()])
            .status();
        return asked.is_ok_and(|status| status.success());
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field, in brackets, may hold anything.
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The `persist` program, built beside the tests.
///
/// # Panics
/// If it has not been built.
pub fn cli() -> PathBuf {
    let mut path = std::env::current_exe().expect("a test knows its own program");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path.push(format!("persist{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.is_file(),
        "{} is missing: run cargo build -p persist-cli, or make test",
        path.display()
    );
    path
}

/// Runs the `persist` program without any setting of the tester's own.
pub fn persist<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(cli());
    command.args(arguments).stdin(Stdio::null());
    without_settings(&mut command);
    command
}

/// An example of the facade, built beside the tests, without any setting of the tester's own.
///
/// # Panics
/// If it has not been built.
pub fn example(name: &str) -> Command {
    let path = cli().with_file_name("examples").join(name);
    assert!(
        path.is_file(),
        "{} is missing: run cargo build --examples, or make test",
        path.display()
    );
    let mut command = Command::new(path);
    without_settings(&mut command);
    command
}

/// Takes out of a command's environment what would change what it connects to or prints.
pub fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        if name.starts_with("PG")
            || name.starts_with("PERSIST_")
            || name == "DATABASE_URL"
            || name == "RUST_LOG"
        {
            command.env_remove(name);
        }
    }
}

/// Runs a command to its end.
///
/// # Panics
/// If it can't be started.
pub fn run(command: &mut Command) -> Ran {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
    Ran::from(output)
}

/// What a process printed, and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl Ran {
    /// The exit code; −1 after a signal.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Itself, after exit code 0.
    ///
    /// # Panics
    /// After any other.
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Itself, after this exit code.
    ///
    /// # Panics
    /// After any other.
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code(),
            code,
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A process at work whose lines are read as they come. Killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    stderr: Option<std::thread::JoinHandle<String>>,
}

impl Running {
    /// Starts it.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the process starts");
        let stdout = BufReader::new(child.stdout.take().expect("is piped"));
        let mut stderr = child.stderr.take().expect("is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Self {
            child,
            lines,
            stderr: Some(stderr),
        }
    }

    /// The end of its stdin, where that was piped and nobody took it yet.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line, or `None` when it has closed its output.
    ///
    /// # Panics
    /// If none comes within [`BOUND`].
    pub fn line(&self) -> Option<String> {
        self.line_within(BOUND)
    }

    /// The next line, or `None` when it has closed its output.
    ///
    /// # Panics
    /// If none comes within the bound.
    pub fn line_within(&self, bound: Duration) -> Option<String> {
        match self.lines.recv_timeout(bound) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line within {bound:?}"),
        }
    }

    /// A line that is there already.
    pub fn line_if_any(&self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL, and all lines that it had printed and that were not read.
    pub fn kill(&mut self) -> Vec<String> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        std::iter::from_fn(|| self.line()).collect()
    }

    /// Waits for the end, with all lines that were not read.
    ///
    /// # Panics
    /// If it does not end within [`BOUND`].
    #[must_use]
    pub fn end(mut self) -> Ran {
        let mut stdout = String::new();
        while let Some(line) = self.line() {
            stdout.push_str(&line);
            stdout.push('\n');
        }
        let status = self.child.wait().expect("the process ends");
        let stderr = self
            .stderr
            .take()
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default();
        Ran {
            status,
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
