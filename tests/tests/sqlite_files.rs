//! SQLite files that are damaged, foreign, copied or looked at. Numbers are those of the table of failures.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its own functions"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use persist::{
    DbUrl, Down, Error, ErrorKind, JobQuery, JobState, OnUnavailable, OpenOptions, Persist, PersistBackend,
    Result, UpdateOutcome, VmQuery,
};
use persist_tests::place::{self, Database, Place};
use persist_tests::sample;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// A file in a folder that goes with it.
struct File {
    folder: tempfile::TempDir,
}

impl File {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    async fn open(&self, mode: &str) -> Result<Arc<dyn PersistBackend>> {
        let url: DbUrl = format!("sqlite://{}?mode={mode}", self.path().display()).parse()?;
        persist::open(&url, &OpenOptions::default()).await
    }

    async fn migrated(&self) -> Result<Arc<dyn PersistBackend>> {
        let backend = self.open("rwc").await?;
        backend.schema().expect("has a schema").up().await?;
        Ok(backend)
    }

    /// Opens, migrates, reads all and writes: the first error of it.
    async fn use_it(&self) -> Result<()> {
        let backend = self.migrated().await?;
        let used = async {
            backend.jobs(&JobQuery::default().limit(1_000)).await?;
            backend.vms(&VmQuery::default().limit(1_000)).await?;
            backend
                .events(&persist::EventQuery::default().limit(1_000))
                .await?;
            backend
                .apply(&sample::claims([sample::job(9_999, JobState::Queued)])?)
                .await
                .map(drop)
        };
        let used = used.await;
        let _ = backend.close().await;
        used
    }
}

/// The bytes of a store with rows.
async fn bytes_of_a_store() -> Vec<u8> {
    let file = File::new();
    let backend = file.migrated().await.unwrap();
    backend
        .apply(&sample::claims(sample::day(1, 100)).unwrap())
        .await
        .unwrap();
    backend.close().await.unwrap();
    let left: Vec<_> = fs::read_dir(file.folder.path())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(left, ["store.db"], "a closed store is one file");
    fs::read(file.path()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_damaged_files_are_told_and_kept() {
    let whole = bytes_of_a_store().await;
    let mut random = StdRng::seed_from_u64(5);
    let mut told = 0;
    let half = whole.len() / 2;
    let mut damaged = vec![
        b"this is a text, and no database at all".repeat(50),
        whole[..half].to_vec(),
    ];
    for _ in 0..30 {
        let mut flipped = whole.clone();
        for _ in 0..20 {
            let place = random.random_range(0..flipped.len());
            flipped[place] ^= 1 << random.random_range(0..8);
        }
        damaged.push(flipped);
    }
    for (n, bytes) in damaged.iter().enumerate() {
        let file = File::new();
        fs::write(file.path(), bytes).unwrap();
        if let Err(error) = file.use_it().await {
            told += 1;
            let kinds = [ErrorKind::Corrupt, ErrorKind::SchemaMismatch, ErrorKind::Internal];
            assert!(kinds.contains(&error.kind()), "damage {n}: {error:?}");
            assert!(
                n > 1 || error.kind() == ErrorKind::Corrupt,
                "damage {n}: {error:?}"
            );
        }
        let kept = fs::metadata(file.path()).unwrap().len();
        assert!(kept as usize >= bytes.len(), "damage {n}: the file is kept");
    }
    assert!(told > 5, "much of it is noticed: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_another_programs_file_is_refused_and_an_empty_one_is_new() {
    for statements in [
        "PRAGMA application_id = 4711; CREATE TABLE jobs (id INTEGER PRIMARY KEY, title TEXT)",
        "CREATE TABLE cats (name TEXT); INSERT INTO cats VALUES ('Minka')",
    ] {
        let file = File::new();
        rusqlite::Connection::open(file.path())
            .unwrap()
            .execute_batch(statements)
            .unwrap();
        let before = fs::read(file.path()).unwrap();
        let error: Error = file.use_it().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{error:?}");
        assert!(fs::read(file.path()).unwrap() == before, "nothing was changed");
    }
    let file = File::new();
    fs::write(file.path(), b"").unwrap();
    file.use_it().await.unwrap();
}

/// What is recorded while the file is not where it was is refused, and never written beside another file's log.
#[tokio::test(flavor = "multi_thread")]
async fn d6_a_file_that_went_takes_no_update_until_it_is_back() {
    let (file, other) = (File::new(), File::new());
    other.use_it().await.unwrap();
    let stranger = fs::read(other.path()).unwrap();
    let backend = file.migrated().await.unwrap();
    let claims = |n| sample::claims([sample::job(n, JobState::Queued)]).unwrap();
    backend.apply(&claims(1)).await.unwrap();
    backend.job(sample::id(1)).await.unwrap();
    let path = file.path();
    let elsewhere = path.with_extension("moved");
    for is_replaced in [false, true] {
        fs::rename(&path, &elsewhere).unwrap();
        if is_replaced {
            fs::write(&path, &stranger).unwrap();
        }
        let error = backend.apply(&claims(2)).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome()),
            (ErrorKind::Unavailable, UpdateOutcome::NotApplied),
            "{error:?}"
        );
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
        for _ in 0..3 {
            let error = backend.job(sample::id(1)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        }
        if is_replaced {
            assert_eq!(fs::read(&path).unwrap(), stranger, "it is left as it is");
            fs::remove_file(&path).unwrap();
        } else {
            let error = file.open("rwc").await.unwrap_err();
            assert!(error.to_string().contains("without its file"), "{error}");
            assert!(!path.exists(), "no empty store takes its place");
        }
        fs::rename(&elsewhere, &path).unwrap();
        assert!(backend.job(sample::id(1)).await.unwrap().is_some());
        backend.apply(&claims(2)).await.unwrap();
    }
    backend.close().await.unwrap();
    let backend = file.migrated().await.unwrap();
    for n in [1, 2] {
        assert!(backend.job(sample::id(n)).await.unwrap().is_some(), "{n}");
    }
    place::fold_holds(&backend).await;
}

/// What was acknowledged is rescued into the file, and nothing more is until the programs start again.
#[tokio::test(flavor = "multi_thread")]
async fn d6_a_log_that_was_removed_loses_nothing_that_was_told() {
    let file = File::new();
    let backend = file.migrated().await.unwrap();
    let claims = |n| sample::claims([sample::job(n, JobState::Queued)]).unwrap();
    backend.apply(&claims(1)).await.unwrap();
    backend.job(sample::id(1)).await.unwrap();
    let log = file.path().with_extension("db-wal");
    assert!(fs::metadata(&log).unwrap().len() > 0);
    fs::remove_file(&log).unwrap();
    assert_eq!(
        backend.job(sample::id(1)).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    for n in [2, 3] {
        let error = backend.apply(&claims(n)).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome()),
            (ErrorKind::Unavailable, UpdateOutcome::NotApplied),
            "{error:?}"
        );
        assert!(error.to_string().contains("start them again"), "{error}");
    }
    // As after a kill: nothing but the file is left.
    let alone = File::new();
    fs::copy(file.path(), alone.path()).unwrap();
    let rescued = alone.migrated().await.unwrap();
    assert!(rescued.job(sample::id(1)).await.unwrap().is_some());
    assert!(rescued.job(sample::id(2)).await.unwrap().is_none());
    backend.close().await.unwrap();
    file.use_it().await.unwrap();

    // Before anything was written through this handle, too.
    let backend = file.open("rw").await.unwrap();
    fs::remove_file(&log).unwrap();
    let error = backend.apply(&claims(4)).await.unwrap_err();
    assert_eq!(error.outcome(), UpdateOutcome::NotApplied, "{error:?}");
    backend.close().await.unwrap();
}

#[test]
fn d10_the_bundled_sqlite_has_no_wal_reset_bug() {
    assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
}

/// By the flags of `.cargo/config.toml`, unless the environment has others.
#[test]
fn the_bundled_sqlite_has_no_locks_that_nobody_needs() {
    let connection = rusqlite::Connection::open_in_memory().unwrap();
    let mut options = connection.prepare("PRAGMA compile_options").unwrap();
    let options = options.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let options: Vec<_> = options.map(Result::unwrap).collect();
    assert!(options.contains(&"DEFAULT_MEMSTATUS=0".into()), "{options:?}");
    assert!(
        !options.contains(&"ENABLE_MEMORY_MANAGEMENT".into()),
        "{options:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn d12_a_backup_of_a_store_in_use_is_consistent() {
    let place = Place::empty(Database::Sqlite);
    let backend = place.migrated().await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (backend, stop) = (Arc::clone(&backend), Arc::clone(&stop));
        async move {
            for seed in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                for claims in sample::claims(sample::day(seed, 10)).unwrap().chunks(7) {
                    backend.apply(claims).await.unwrap();
                }
            }
        }
    });
    for _ in 0..5 {
        let copy = File::new();
        place
            .file()
            .execute("VACUUM INTO ?1", [copy.path().to_str().unwrap()])
            .unwrap();
        let restored = copy.migrated().await.unwrap();
        place::fold_holds(&restored).await;
        restored.close().await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    backend.close().await.unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn p5_children_do_not_inherit_the_file() {
    let file = File::new();
    let backend = file.migrated().await.unwrap();
    backend
        .apply(&sample::claims([sample::job(1, JobState::Queued)]).unwrap())
        .await
        .unwrap();
    let mut handles = 0;
    for entry in fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        if target.starts_with(file.folder.path()) {
            let number = entry.file_name();
            let info = fs::read_to_string(PathBuf::from("/proc/self/fdinfo").join(number)).unwrap();
            let flags = info
                .lines()
                .find_map(|line| line.strip_prefix("flags:"))
                .unwrap()
                .trim();
            assert!(
                u32::from_str_radix(flags, 8).unwrap() & 0o2_000_000 != 0,
                "{}: {flags}",
                target.display()
            );
            handles += 1;
        }
    }
    assert!(handles >= 2, "the file and its log are open");
    backend.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_may_read_the_files() {
    let file = File::new();
    let backend = file.migrated().await.unwrap();
    backend
        .apply(&sample::claims([sample::job(1, JobState::Queued)]).unwrap())
        .await
        .unwrap();
    for entry in fs::read_dir(file.folder.path()).unwrap().flatten() {
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", entry.path().display());
    }
    backend.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn d7_a_store_that_is_opened_to_read_takes_no_write() {
    let file = File::new();
    let error = file.open("ro").await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "a missing file: {error:?}");
    let backend = file.migrated().await.unwrap();
    backend
        .apply(&sample::claims([sample::job(1, JobState::Queued)]).unwrap())
        .await
        .unwrap();
    // As an older program has left it: what it lacks is nothing that reading needs.
    backend
        .schema()
        .unwrap()
        .down(Down::steps(1).confirmed(true))
        .await
        .unwrap();
    backend.close().await.unwrap();
    let url = format!("sqlite://{}?mode=ro", file.path().display());
    let older = Persist::builder(Some(url)).on_unavailable(OnUnavailable::Fail);
    let older = older.connect().await.unwrap();
    assert_eq!(older.jobs(&JobQuery::default()).await.unwrap().items.len(), 1);
    older.close().await.unwrap();
    let reader = file.open("ro").await.unwrap();
    assert_eq!(reader.jobs(&JobQuery::default()).await.unwrap().items.len(), 1);
    let error = reader
        .apply(&sample::claims([sample::job(2, JobState::Queued)]).unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error:?}");
    assert_eq!(reader.jobs(&JobQuery::default()).await.unwrap().items.len(), 1);
    reader.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_there_is_told_at_once_also_where_calls_are_retried() {
    let file = File::new();
    let url = format!("sqlite://{}", file.path().display());
    let within = std::time::Duration::from_secs(3_600);
    let connecting = persist::Persist::builder(Some(url))
        .on_unavailable(persist::OnUnavailable::Retry { within })
        .connect();
    let connected = tokio::time::timeout(persist_tests::process::BOUND, connecting).await;
    let error = connected
        .expect("it does not wait for an hour")
        .map(drop)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("mode=rwc"), "{error}");
    assert_eq!(
        fs::read_dir(file.folder.path()).unwrap().count(),
        0,
        "nothing was made"
    );
}
