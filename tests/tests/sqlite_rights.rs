//! Files and folders that this user may not write. Root may write all: there the program runs as another user.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use persist_tests::process::{self, Ran};
use persist_tests::{lines, sample};

/// Of "nobody" on most systems; whoever has it, it is not root.
const UNPRIVILEGED: u32 = 65_534;

/// Held by one test at a time: a program that another thread's child still has open for writing can't be run.
static TURN: Mutex<()> = Mutex::new(());

/// A folder of whoever runs the program, and the program where that user can reach it.
struct Place {
    outside: tempfile::TempDir,
    user: Option<u32>,
}

impl Place {
    fn new() -> Self {
        let outside = tempfile::tempdir().unwrap();
        let user = (fs::metadata(outside.path()).unwrap().uid() == 0).then_some(UNPRIVILEGED);
        set_mode(outside.path(), 0o755);
        let program = outside.path().join("persist");
        fs::copy(process::cli(), &program).unwrap();
        set_mode(&program, 0o755);
        let place = Self { outside, user };
        fs::create_dir(place.folder()).unwrap();
        chown(place.folder(), user, user).unwrap();
        set_mode(&place.folder(), 0o700);
        place
    }

    fn folder(&self) -> PathBuf {
        self.outside.path().join("store")
    }

    fn file(&self) -> PathBuf {
        self.folder().join("store.db")
    }

    fn persist(&self, mode: &str, arguments: &[&str]) -> Ran {
        let url = format!("sqlite://{}?mode={mode}", self.file().display());
        let mut command = std::process::Command::new(self.outside.path().join("persist"));
        command.args(["--database-url", &url]).args(arguments);
        command.current_dir("/");
        if let Some(user) = self.user {
            command.gid(user).uid(user);
        }
        process::without_settings(&mut command);
        process::run(&mut command)
    }

    fn import(&self, mode: &str) -> Ran {
        let lines = self.outside.path().join("day.jsonl");
        lines::write(&lines, &lines::day(5, 3));
        set_mode(&lines, 0o644);
        self.persist(mode, &["import", lines.to_str().unwrap()])
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// What was told: a clear text, and nothing of it on stdout.
fn told(ran: Ran, code: i32, text: &str) {
    let ran = ran.exits(code);
    assert!(ran.stderr.contains(text), "{}", ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}

#[test]
fn d7_a_file_or_a_folder_that_may_not_be_written_is_told_and_can_be_read() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Place::new();
    place.import("rwc").ok();
    let stored = place.persist("ro", &["export"]).ok().stdout;
    assert!(stored.lines().count() >= 3);

    set_mode(&place.file(), 0o400);
    told(
        place.import("rw"),
        5,
        "the file can't be written; check its rights, or open it with mode=ro",
    );
    assert_eq!(place.persist("ro", &["export"]).ok().stdout, stored);

    set_mode(&place.file(), 0o600);
    set_mode(&place.folder(), 0o500);
    told(
        place.import("rw"),
        5,
        "the file or its folder can't be written; check the rights",
    );
    assert_eq!(place.persist("ro", &["export"]).ok().stdout, stored);

    set_mode(&place.file(), 0);
    told(
        place.persist("ro", &["jobs"]),
        2,
        "can't be opened; check the path, and the rights",
    );
    set_mode(&place.file(), 0o600);
    set_mode(&place.folder(), 0o700);
    place.import("rw").ok();
    assert_eq!(place.persist("ro", &["export"]).ok().stdout, stored, "as it was");
}

#[test]
fn d7_a_folder_where_no_file_can_be_made_is_told() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Place::new();
    set_mode(&place.folder(), 0o500);
    told(
        place.import("rwc"),
        2,
        "can't be opened or made; check the path, and the rights on its folder",
    );
    assert!(!place.file().exists());
    let id = sample::id(1).to_string();
    told(
        place.persist("rwc", &["record", "job", &id, "queued"]),
        2,
        "rights on its folder",
    );
}
