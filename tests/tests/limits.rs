//! What a process or a machine has no more of: descriptors, memory, disk. Numbers are those of the table of failures.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use persist::{ErrorKind, JobState, OnUnavailable, Outcome, Persist, Spool};
use persist_core::Update;
use persist_tests::cluster::{Cluster, Options, Stop};
use persist_tests::place::{self, Database, Place};
use persist_tests::process::{self, Running};
use persist_tests::{lines, sample, soak};

/// The `persist` program after these words of a shell.
fn after(words: &str, parameter: &str, arguments: &[&str]) -> Command {
    let persist = process::persist(arguments);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("parameter=$0; {words}"), parameter]);
    command.arg(persist.get_program()).args(persist.get_args());
    process::without_settings(&mut command);
    command
}

fn line(n: u64) -> String {
    lines::of(vec![Update::from(sample::job(n, JobState::Queued))]).remove(0)
}

/// With fewer descriptors than it takes, down to those without which there is no runtime: an error that says which limit,
/// or all is well.
#[tokio::test(flavor = "multi_thread")]
async fn r3_without_descriptors_it_says_so_and_stores_nothing() {
    let mut told = 0;
    for database in Database::BOTH {
        let mut worked = false;
        for files in 8..20 {
            let place = Place::empty(database);
            let arguments = ["--database-url", place.url(), "migrate", "up"];
            let mut command = after(
                "ulimit -n $parameter; exec \"$@\"",
                &files.to_string(),
                &arguments,
            );
            let ran = Running::start(command.stdin(Stdio::null())).end();
            let said = ran.stderr.to_lowercase();
            assert!(!said.contains("panicked"), "{database:?}, {files}: {said}");
            if ran.code() == 0 {
                worked = true;
            } else {
                assert!(said.contains("open files"), "{database:?}, {files}: {ran:?}");
                told += 1;
            }
            let tables = match database {
                Database::Postgres => "FROM pg_tables WHERE schemaname = current_schema()",
                Database::Sqlite => "FROM sqlite_schema",
            };
            // All or nothing: an error does not come after the work.
            let made = place.count(tables).await;
            assert_eq!(made > 0, ran.code() == 0, "{database:?}, {files}: {made} of them");
        }
        assert!(worked, "{database:?}: enough for one command");
    }
    println!("{told} limits were told");
    assert!(told >= 4, "{told}");
}

/// Connections that are lost while no descriptor is to be had come back when one is.
#[tokio::test(flavor = "multi_thread")]
async fn r3_a_limit_that_is_raised_again_is_recovered_from() {
    if Command::new("prlimit").arg("--version").output().is_err() {
        eprintln!("not asked: there is no prlimit here");
        return;
    }
    let cluster = Cluster::start(&Options::default());
    let place = Place::at(cluster.fresh_schema_url());
    place.migrated().await.unwrap().close().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stderr = folder.path().join("stderr");
    let arguments = ["-v", "--database-url", place.url(), "import", "--outcomes"];
    let words = "exec \"$@\" 2>\"$parameter\"";
    let mut command = after(words, stderr.to_str().unwrap(), &arguments);
    // Repetitions are told at this level.
    command.env("RUST_LOG", "persist_core=debug");
    let mut child = Running::start(command.stdin(Stdio::piped()));
    let mut stdin = child.stdin().unwrap();
    writeln!(stdin, "{}", line(1)).unwrap();
    assert!(child.line().unwrap().contains("applied"));
    let limit = |files: u32| {
        let pid = child.id().to_string();
        let set = Command::new("prlimit")
            .args(["--pid", &pid, &format!("--nofile={files}:")])
            .status();
        assert!(set.unwrap().success());
    };
    limit(3);
    cluster
        .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'persist%'")
        .await;
    writeln!(stdin, "{}", line(2)).unwrap();
    process::until("it calls again", async || {
        fs::read_to_string(&stderr).unwrap().contains("calling again")
    })
    .await;
    limit(256);
    assert!(child.line().unwrap().contains("applied"));
    drop(stdin);
    let ran = child.end();
    let said = fs::read_to_string(&stderr).unwrap();
    assert_eq!(ran.code(), 0, "{said}");
    assert!(said.contains("unavailable"), "{said}");
}

/// What a process has held of memory at most, in KiB.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// KiB that an export of so many jobs has held when nearly all of it is read. It waits for its reader by then.
async fn exported(place: &Place, jobs: u64) -> u64 {
    let backend = place.migrated().await.unwrap();
    for from in (0..jobs).step_by(5_000) {
        let updates = (from..jobs.min(from + 5_000)).map(|n| sample::job(n + 1, JobState::Queued));
        backend.apply(&sample::claims(updates).unwrap()).await.unwrap();
    }
    backend.close().await.unwrap();
    let child = Running::start(&mut process::persist(["--database-url", place.url(), "export"]));
    // More than a pipe holds is left.
    for _ in 0..jobs - 1_000 {
        child.line().unwrap();
    }
    let held = peak(child.id());
    let rest = child.end().ok();
    assert_eq!(rest.stdout.lines().count(), 1_000);
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn r4_an_export_holds_as_much_memory_for_many_jobs_as_for_few() {
    if !Path::new("/proc/self/status").exists() {
        eprintln!("not asked: there is no /proc here");
        return;
    }
    for database in Database::BOTH {
        let few = exported(&Place::empty(database), 5_000).await;
        let jobs = soak::or(60_000, 1_000_000);
        let many = exported(&Place::empty(database), jobs).await;
        println!("{database:?}: {few} KiB for 5,000 jobs, {many} KiB for {jobs}");
        // All lines of the larger one are 10 MiB and more.
        assert!(many < few + 6 * 1_024, "{database:?}: {few} KiB, {many} KiB");
    }
}

/// Takes the file system away once the pipe on its input closes, however the tests end.
const WATCH: &str = r#"trap '' HUP INT TERM
mount -t tmpfs -o "$2" tmpfs "$1" 2>/dev/null || { echo no; exit; }
echo yes
read -r end
umount -l "$1""#;

/// A file system of its own, taken away when dropped.
struct SmallDisk(tempfile::TempDir, Child);

impl SmallDisk {
    /// `None` where it may not be made; says so.
    fn new(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size},mode=1777");
        let mut watcher = Command::new("sh")
            .args(["-c", WATCH, "watch"])
            .arg(folder.path())
            .arg(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut told = String::new();
        let stdout = watcher.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut told).unwrap();
        if told == "yes\n" {
            return Some(Self(folder, watcher));
        }
        let _ = watcher.wait();
        eprintln!("not asked: no file system can be mounted here");
        None
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.filler()).unwrap();
        let block = vec![0; 8_192];
        while file.write_all(&block).is_ok() {}
    }

    fn filler(&self) -> std::path::PathBuf {
        self.0.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.1.stdin.take());
        let _ = self.1.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d9_a_server_whose_disk_is_full_loses_nothing_that_was_told_and_recovers() {
    let Some(disk) = SmallDisk::new("160m") else {
        return;
    };
    {
        let cluster = Cluster::start(&Options::default().within(disk.0.path()));
        let place = Place::at(cluster.fresh_schema_url());
        let backend = place.migrated().await.unwrap();
        let of_jobs = |from: u64| {
            let updates = (from..from + 500).map(|n| sample::job(n, JobState::Queued));
            sample::claims(updates).unwrap()
        };
        backend.apply(&of_jobs(1)).await.unwrap();
        disk.fill();
        let mut stored = 501;
        let error = loop {
            match backend.apply(&of_jobs(stored)).await {
                Ok(_) => stored += 500,
                Err(error) => break error,
            }
            assert!(stored < 200_000, "the disk is full");
        };
        println!("{stored} jobs, then {error:?}");
        let kinds = [
            ErrorKind::Full,
            ErrorKind::Unavailable,
            ErrorKind::OutcomeUnknown,
            ErrorKind::Timeout,
        ];
        assert!(kinds.contains(&error.kind()), "{error:?}");
        fs::remove_file(disk.filler()).unwrap();
        process::until("it takes updates again", async || {
            // A server that could not write its log has stopped.
            if !cluster.is_running() {
                cluster.resume();
            }
            backend.apply(&of_jobs(stored)).await.is_ok()
        })
        .await;
        assert_eq!(place.count("FROM jobs").await, stored + 499);
        place::fold_holds(&backend).await;
        backend.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d11_a_spool_on_a_full_disk_says_so_and_gives_back_all_that_it_told() {
    let Some(disk) = SmallDisk::new("4m") else {
        return;
    };
    {
        let cluster = Cluster::start(&Options::default());
        let place = Place::at(cluster.fresh_schema_url());
        let spool = Spool::new(disk.0.path().join("spool.db"));
        let builder = Persist::builder(Some(place.url().into())).deadlines(sample::deadlines(process::BOUND));
        let builder = builder.on_unavailable(OnUnavailable::Spool(spool));
        let persist = builder.connect().await.unwrap();
        cluster.stop(Stop::Immediate);
        let queued = |n| persist.record_job_state(sample::job(n, JobState::Queued));
        let mut told = 0;
        let mut spool_until_it_is_full = async || loop {
            match queued(told + 1).await {
                Ok(Outcome::Spooled) => told += 1,
                Ok(other) => panic!("the server is stopped, and the answer is {other}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
                    break told;
                }
            }
        };
        disk.fill();
        let at_first = spool_until_it_is_full().await;
        fs::remove_file(disk.filler()).unwrap();
        // It needs no hand: the next update that finds room is taken.
        let mut more = 0;
        process::until("it takes updates again", async || {
            more += u64::from(queued(100_000 + more).await.is_ok());
            more >= 20
        })
        .await;
        disk.fill();
        // What the database has makes room, as far as that can be noted.
        cluster.resume();
        let held = async || persist.health().await.ok().and_then(|health| health.spool);
        process::until("the spool has tried", async || {
            held().await.is_some_and(|spool| spool.replayed > 0) || place.count("FROM events").await > 0
        })
        .await;
        fs::remove_file(disk.filler()).unwrap();
        process::until("the spool is empty", async || {
            held().await.is_some_and(|spool| spool.held.waiting == 0)
        })
        .await;
        println!("{at_first} updates, then {more}");
        let events = place.count("FROM events").await;
        assert_eq!(
            events,
            at_first + more,
            "all that it told, and nothing that it refused"
        );
        place::fold_holds(&persist.backend()).await;
        persist.close().await.unwrap();
    }
}
