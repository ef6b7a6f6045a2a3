//! What is wrong with a SQLite file that is no table.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use persist_core::inspect::code;
use persist_tests::place::{Database, Place};

use super::{doctor, rewritten, store};

fn file(place: &Place) -> PathBuf {
    PathBuf::from(place.file().path().unwrap())
}

fn mode(path: &PathBuf) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn chmod(path: &PathBuf, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_others_may_read_becomes_its_owners_alone() {
    let place = store(Database::Sqlite).await;
    let path = file(&place);
    for (given, word) in [(0o640, "read"), (0o604, "read"), (0o602, "write")] {
        chmod(&path, given);
        let told = doctor(&place, &[]);
        let finding = told.of(code::FILE_MODE, path.to_str().unwrap());
        assert!(
            finding.what.contains(&format!("others may {word}")),
            "{finding:#?}"
        );
        assert_eq!(finding.mend, [format!("chmod 600 '{}'", path.display())]);
        let told = doctor(&place, &["--fix"]);
        assert_eq!((told.bad(), told.ran.code()), (vec![], 0), "{told:#?}");
        assert_eq!(mode(&path), 0o600);
    }
}

/// A group that may write shares the file on purpose; all others do not.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_a_group_shares_is_warned_of_and_left_to_it() {
    let place = store(Database::Sqlite).await;
    let path = file(&place);
    for (given, left) in [(0o660, 0o660), (0o670, 0o670), (0o666, 0o660)] {
        chmod(&path, given);
        let told = doctor(&place, &["--fix"]);
        let at = path.to_str().unwrap();
        let finding = told.of(code::FILE_MODE, at);
        assert!(!finding.is_safe, "{finding:#?}");
        assert_eq!(finding.mend, [format!("chmod 600 '{at}'")]);
        assert_eq!((told.ran.code(), mode(&path)), (1, left), "{given:o}");
        let is_mended = told.mended.iter().any(|finding| finding.place == at);
        assert_eq!(is_mended, given != left, "{told:#?}");
    }
    // The log beside it is the group's too, whatever its own mode is.
    let log = PathBuf::from(format!("{}-wal", path.display()));
    fs::write(&log, "").unwrap();
    chmod(&log, 0o640);
    let told = doctor(&place, &[]);
    let at = log.to_str().unwrap();
    let of_log = told.now.iter().find(|finding| finding.place == at);
    assert!(of_log.is_none_or(|finding| !finding.is_safe), "{told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_others_may_write_to_is_warned_of_and_left() {
    let place = store(Database::Sqlite).await;
    let folder = file(&place).parent().unwrap().to_owned();
    chmod(&folder, 0o770);
    let told = doctor(&place, &["--fix"]);
    assert_eq!(told.bad(), [(code::FOLDER_MODE, folder.to_str().unwrap())]);
    assert_eq!((told.ran.code(), mode(&folder)), (1, 0o770));
    // As of /tmp: there nobody replaces what is another's.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777)).unwrap();
    assert_eq!(doctor(&place, &[]).bad(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_was_set_by_hand_is_a_log_again() {
    let place = store(Database::Sqlite).await;
    let journal = |place: &Place| -> String {
        let file = place.file();
        file.pragma_query_value(None, "journal_mode", |row| row.get(0))
            .unwrap()
    };
    place.execute("PRAGMA journal_mode = DELETE").await;
    let told = doctor(&place, &[]);
    assert_eq!(told.bad(), [(code::PRAGMA, "journal_mode")]);
    assert_eq!(journal(&place), "delete", "a look changes nothing");
    let told = doctor(&place, &["--fix"]);
    assert_eq!(
        (told.bad(), told.mended.len(), told.ran.code()),
        (vec![], 1, 0),
        "{told:#?}"
    );
    assert_eq!(journal(&place), "wal");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_table_refuses_are_told_of_and_nothing_of_what_is_in_them() {
    let place = store(Database::Sqlite).await;
    let without = "replace(sql, 'state TEXT NOT NULL', 'state TEXT')";
    place
        .execute(&format!(
            "CREATE TEMP TABLE kept AS SELECT sql FROM sqlite_schema WHERE name = 'jobs'; {}; \
             UPDATE jobs SET state = NULL; {}",
            rewritten("jobs", without),
            rewritten("jobs", "(SELECT sql FROM kept)")
        ))
        .await;
    let told = doctor(&place, &["--fix"]);
    assert_eq!(told.bad(), [(code::INTEGRITY, "quick_check")], "{told:#?}");
    assert_eq!(told.ran.code(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn free_pages_are_told_of_from_some_size_on() {
    let place = store(Database::Sqlite).await;
    place
        .execute(
            "CREATE TABLE filler (x BLOB); INSERT INTO filler VALUES (zeroblob(20000000)); DROP TABLE filler",
        )
        .await;
    let told = doctor(&place, &["--fix"]);
    let finding = told.of(code::FREE_PAGES, "freelist_count");
    let mend = ["PRAGMA incremental_vacuum"];
    assert!(finding.mend == mend && !finding.is_safe, "{finding:#?}");
}

/// A file of before, which a prune can't make shorter.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_keeps_its_free_pages_is_told_of_with_what_changes_that() {
    let place = store(Database::Sqlite).await;
    place.execute("PRAGMA auto_vacuum = NONE; VACUUM").await;
    let told = doctor(&place, &["--fix"]);
    let finding = told.of(code::PRAGMA, "auto_vacuum");
    assert!(
        !finding.is_safe && finding.severity == persist::Severity::Info,
        "{finding:#?}"
    );
    place.execute(&finding.mend.join("; ")).await;
    let told = doctor(&place, &[]);
    assert!(
        !told.now.iter().any(|finding| finding.place == "auto_vacuum"),
        "{told:#?}"
    );
}

/// A view of somebody's own reads as before.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_made_in_the_file_stays() {
    let place = store(Database::Sqlite).await;
    place
        .execute(
            "CREATE TABLE mine (x); INSERT INTO mine VALUES (1); CREATE INDEX of_mine ON jobs (runs_on); \
             DROP INDEX jobs_live; PRAGMA writable_schema = ON; UPDATE sqlite_schema SET \
             sql = replace(sql, 'state TEXT NOT NULL', 'state TEXT') WHERE name = 'jobs'",
        )
        .await;
    let told = doctor(&place, &["--fix"]);
    assert_eq!((told.bad(), told.ran.code()), (vec![], 0), "{told:#?}");
    assert_eq!(place.count("FROM mine").await, 1);
    assert_eq!(place.count("FROM sqlite_schema WHERE name = 'of_mine'").await, 1);
    assert_eq!(
        told.of(code::EXTRA_INDEX, "of_mine").severity,
        persist::Severity::Info
    );
}
