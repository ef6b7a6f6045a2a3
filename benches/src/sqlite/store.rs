//! A file of its own for each slice, with our schema, and what is checked of it after.

use std::path::{Path, PathBuf};

use persist::{OnUnavailable, Persist};
use rusqlite::Connection;
use tempfile::TempDir;

use super::step::set_up;
use crate::workload;

pub(crate) struct Store {
    // Removed with the store.
    _folder: TempDir,
    file: PathBuf,
}

/// Slots; rows; subjects of slots; rows that stand at the highest slot of their subject.
const WHOLE: &str = "WITH top AS (SELECT request_id, max(rank) AS rank FROM events GROUP BY request_id) \
    SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM jobs), (SELECT count(*) FROM top), \
    (SELECT count(*) FROM top JOIN jobs USING (request_id, rank))";

impl Store {
    /// Empty tables.
    pub(crate) async fn new() -> Self {
        let store = Self::without_tables();
        store.open().await.close().await.expect("it closes");
        store
    }

    /// The same in a file that keeps its free pages, as SQLite makes one unless it is told otherwise.
    pub(crate) async fn plain() -> Self {
        let store = Self::without_tables();
        let connection = Connection::open(&store.file).expect("it opens");
        let made = connection.execute_batch("PRAGMA auto_vacuum = NONE; PRAGMA journal_mode = WAL");
        made.expect("it is made");
        drop(connection);
        store.open().await.close().await.expect("it closes");
        let connection = store.connection();
        let mode = connection.pragma_query_value(None, "auto_vacuum", |row| row.get::<_, i64>(0));
        assert_eq!(mode.expect("it is told"), 0);
        store
    }

    /// With so many queued jobs.
    pub(crate) async fn filled(jobs: u64) -> Self {
        let store = Self::without_tables();
        let persist = store.open().await;
        let updates = (0..jobs).map(|number| workload::queued(workload::job(number), 1).into());
        persist.record(updates.collect()).await.expect("it is recorded");
        persist.close().await.expect("it closes");
        store.check(jobs);
        store
    }

    /// A copy of this one, which nobody has open.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::without_tables();
        let wal = self.file.with_extension("db-wal");
        assert!(!wal.exists(), "all of it is in the file");
        std::fs::copy(&self.file, &copy.file).expect("it is copied");
        copy
    }

    fn without_tables() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the file");
        let file = folder.path().join("bench.db");
        Self {
            _folder: folder,
            file,
        }
    }

    /// A handle of ours, which makes the file where it is not there.
    pub(crate) async fn open(&self) -> Persist {
        let persist = Persist::builder(Some(self.url())).on_unavailable(OnUnavailable::Fail);
        persist.connect().await.expect("it opens")
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite://{}?mode=rwc", Path::display(&self.file))
    }

    /// The file, for another program.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// A connection of another's.
    pub(crate) fn connection(&self) -> Connection {
        let connection = Connection::open(&self.file).expect("it opens");
        set_up(&connection).expect("it is set");
        connection
    }

    /// There are so many slots, each subject of one has its row, and each row stands at its highest slot.
    pub(crate) fn check(&self, slots: u64) {
        let row = self.connection().query_row(WHOLE, [], |row| {
            Ok([0, 1, 2, 3].map(|at| row.get::<_, i64>(at).map(i64::unsigned_abs)))
        });
        let [stored, rows, subjects, right] =
            row.expect("it is counted").map(|count| count.expect("a number"));
        assert_eq!(stored, slots, "what was acknowledged is stored");
        assert_eq!(
            (rows, right),
            (subjects, subjects),
            "rows are the fold of their slots"
        );
    }
}
