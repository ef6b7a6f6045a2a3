use super::*;
use persist_core::Retry;

#[test]
fn every_row_of_the_code_table() {
    use ErrorKind as K;
    use Phase::{Commit, Open, Statement};
    use Retry::{Later, Never};
    use UpdateOutcome::{NotApplied, Unknown};
    let rows: &[(&[i32], Phase, ErrorKind, Retry, UpdateOutcome)] = &[
        (
            &[5, 261, 517, 773, 6, 262, 518, 15],
            Statement,
            K::Busy,
            Later,
            NotApplied,
        ),
        (&[5, 261, 517], Commit, K::Busy, Later, NotApplied),
        (&[7, 3082], Statement, K::Busy, Later, NotApplied),
        (&[13], Statement, K::Full, Never, NotApplied),
        (&[13], Commit, K::Full, Never, NotApplied),
        (
            &[10, 266, 522, 778, 1034, 1290, 4618],
            Statement,
            K::Unavailable,
            Later,
            NotApplied,
        ),
        (
            &[10, 266, 778, 1034, 1290, 4106],
            Commit,
            K::OutcomeUnknown,
            Later,
            Unknown,
        ),
        (
            &[11, 267, 523, 779, 26, 8458, 8202],
            Statement,
            K::Corrupt,
            Never,
            NotApplied,
        ),
        (&[26], Open, K::Corrupt, Never, NotApplied),
        (&[14, 270, 526, 782, 1550], Open, K::InvalidUrl, Never, NotApplied),
        (&[14, 526], Statement, K::Unavailable, Later, NotApplied),
        (
            &[8, 264, 520, 776, 1032, 1288, 1544],
            Statement,
            K::ReadOnly,
            Never,
            NotApplied,
        ),
        (&[3, 23], Open, K::Auth, Never, NotApplied),
        (&[9], Statement, K::Timeout, Later, NotApplied),
        (&[17], Statement, K::SchemaMismatch, Never, NotApplied),
        (
            &[275, 1299, 3091, 1811, 18, 20],
            Statement,
            K::InvalidInput,
            Never,
            NotApplied,
        ),
        (
            &[19, 1555, 2067, 1, 2, 4, 12, 21, 25, 99],
            Statement,
            K::Internal,
            Never,
            NotApplied,
        ),
        (&[19, 787], Commit, K::Internal, Never, NotApplied),
        (&[1, 2, 21], Commit, K::Internal, Never, Unknown),
    ];
    for (codes, phase, kind, retry, outcome) in rows {
        for code in *codes {
            let failure = rusqlite::Error::SqliteFailure(ffi::Error::new(*code), Some("hunter2".into()));
            let error = classify(&failure, *phase);
            assert_eq!(
                (error.kind(), error.retry(), error.outcome()),
                (*kind, *retry, *outcome),
                "{code}"
            );
            assert!(
                !format!("{error:?}").contains("hunter2"),
                "no text of SQLite's is shown"
            );
        }
    }
}
fn failure(code: i32) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
}

#[test]
fn what_a_code_asks_for_is_read_off_its_first_byte() {
    // The code, and whether it is a lock, perhaps the schema, the connection's end, no shared memory.
    let table = [
        (5, [true, false, false, false]),
        (261, [true, false, false, false]),
        (262, [true, false, false, false]),
        (1, [false, true, false, false]),
        (257, [false, false, false, false]),
        (10, [false, false, true, false]),
        (266, [false, false, true, false]),
        (14, [false, false, true, false]),
        (4618, [false, false, true, true]),
        (5386, [false, false, true, true]),
        (19, [false, false, false, false]),
    ];
    for (code, expected) in table {
        let error = failure(code);
        let found = [
            is_busy(&error),
            may_be_schema(&error),
            spoils_connection(&error),
            lacks_shared_memory(&error),
        ];
        assert_eq!(found, expected, "{code}");
        assert_eq!(super::code(&error), Some(code));
        let told = classify(&error, Phase::Statement);
        assert_eq!(told.context("sqlite_code"), Some(code.to_string().as_str()));
        let source = std::error::Error::source(&told).map(ToString::to_string);
        assert!(source.is_some_and(|text| text.starts_with(&format!("SQLite code {code}: "))));
    }
    let none = rusqlite::Error::QueryReturnedNoRows;
    assert!(!is_busy(&none) && !may_be_schema(&none) && super::code(&none).is_none());
}

#[test]
fn a_file_that_moved_is_told_apart_from_one_that_may_not_be_written() {
    let moved = classify(&failure(ffi::SQLITE_READONLY_DBMOVED), Phase::Statement);
    assert!(moved.message().contains("moved or replaced"), "{moved}");
    assert!(
        !classify(&failure(8), Phase::Statement)
            .message()
            .contains("moved")
    );
}

#[test]
fn errors_without_a_code_are_damage_or_a_bug() {
    use ErrorKind as K;
    use rusqlite::Error as E;
    let of_type = || E::InvalidColumnType(0, "state".into(), rusqlite::types::Type::Blob);
    let table = [
        (of_type(), K::Corrupt, UpdateOutcome::NotApplied),
        (
            E::IntegralValueOutOfRange(0, 1),
            K::Corrupt,
            UpdateOutcome::NotApplied,
        ),
        (
            E::InvalidPath("/x".into()),
            K::InvalidUrl,
            UpdateOutcome::NotApplied,
        ),
        (E::QueryReturnedNoRows, K::Internal, UpdateOutcome::NotApplied),
    ];
    for (error, kind, outcome) in table {
        let told = Failed::from(error).classified(Phase::Statement);
        assert_eq!((told.kind(), told.outcome()), (kind, outcome), "{told}");
    }
    let told = classify(&E::QueryReturnedNoRows, Phase::Commit);
    assert_eq!(told.outcome(), UpdateOutcome::Unknown);
    let ours = Failed::from(Error::new(K::Full, "ours")).classified(Phase::Open);
    assert_eq!((ours.kind(), ours.message()), (K::Full, "ours"));
}

#[test]
fn a_file_that_can_not_be_made_is_told_by_its_cause() {
    let kinds = [
        (io::ErrorKind::StorageFull, ErrorKind::Full),
        (io::ErrorKind::QuotaExceeded, ErrorKind::Full),
        (io::ErrorKind::ReadOnlyFilesystem, ErrorKind::ReadOnly),
        (io::ErrorKind::NotFound, ErrorKind::InvalidUrl),
    ];
    for (cause, kind) in kinds {
        let error = of_io(&io::Error::new(cause, "hunter2"));
        assert_eq!(error.kind(), kind);
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    assert_eq!(
        of_io(&io::Error::from_raw_os_error(24)).kind(),
        ErrorKind::Unavailable
    );
}
