//! What a file keeps of its settings, and how much of it is in use.

use persist_core::inspect::code;
use persist_core::{Finding, Severity};
use rusqlite::Connection;

use super::mend::bytes;
use crate::error::Failed;

/// Free pages from which on it is worth to tell of them.
const WORTH_TELLING: i64 = 16 << 20;
/// The file that is looked through whole in the time of a read.
const LOOKED_THROUGH: i64 = 256 << 20;
/// `PRAGMA auto_vacuum`: pages are given back when a prune asks for it.
const INCREMENTAL: i64 = 2;
const AUTO_VACUUM: &str = "PRAGMA auto_vacuum = INCREMENTAL";
/// As SQLite makes them since 2016.
const USUAL_PAGE: i64 = 4_096;

/// Looks at the settings; `can_write` says whether this program's own connection has tried to set them.
pub(super) fn look(connection: &Connection, can_write: bool) -> Result<Vec<Finding>, Failed> {
    let mut findings = Vec::new();
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if mode != "wal" {
        let what = format!("journal_mode is {mode}, and should be wal");
        let finding = |why| Finding::new(code::PRAGMA, "journal_mode", Severity::Warning, what, why);
        findings.push(if can_write {
            finding("no write-ahead log is possible here, as on a file system of a network: readers and writers wait for each other")
        } else {
            finding("readers and writers wait for each other, and writes are slower")
                .mended_by([JOURNAL_MODE])
                .safe()
        });
    }
    let vacuum = number("auto_vacuum")?;
    if vacuum != INCREMENTAL {
        let what = format!("auto_vacuum is {vacuum}; a fresh store has {INCREMENTAL}");
        let finding = |why| Finding::new(code::PRAGMA, "auto_vacuum", Severity::Info, what, why);
        findings.push(if vacuum == 0 {
            finding("what a prune frees stays in the file; the change needs as much room again, and lets nobody write meanwhile")
                .mended_by([AUTO_VACUUM, "VACUUM"])
        } else {
            finding("pages are moved at commits, which costs updates their time").mended_by([AUTO_VACUUM])
        });
    }
    let page = number("page_size")?;
    if page < USUAL_PAGE {
        let what = format!("page_size is {page}; a fresh store has {USUAL_PAGE}");
        let why = "updates write more pages";
        findings.push(Finding::new(code::PRAGMA, "page_size", Severity::Info, what, why));
    }
    let (free, pages) = (number("freelist_count")?, number("page_count")?);
    if free * page > WORTH_TELLING && free * 4 > pages {
        let severity = if free * 2 > pages {
            Severity::Warning
        } else {
            Severity::Info
        };
        let what = format!(
            "{} of {} MiB are free pages",
            (free * page) >> 20,
            (pages * page) >> 20
        );
        let finding = |why| Finding::new(code::FREE_PAGES, "freelist_count", severity, what, why);
        findings.push(if vacuum == INCREMENTAL {
            finding("new rows use them, and the next prune gives them back; by hand, all at once, updates wait for it")
                .mended_by(["PRAGMA incremental_vacuum"])
        } else {
            finding("new rows use them; VACUUM gives them back, needs as much room again, and lets nobody write meanwhile")
                .mended_by(["VACUUM"])
        });
    }
    Ok(findings)
}

/// What sets the journal's mode; outside of a transaction.
pub(super) const JOURNAL_MODE: &str = "PRAGMA journal_mode = WAL";

/// Looks whether the file is sound, where that takes little time. Tells how much is wrong, never what: that can hold values.
/// Pages, types and nulls are looked at; SQLite reads no checks on a connection that can't write.
pub(super) fn integrity(connection: &Connection) -> Result<Option<Finding>, Failed> {
    if bytes(connection)? > LOOKED_THROUGH {
        return Ok(Some(not_looked_through()));
    }
    let mut select = connection.prepare("PRAGMA quick_check(100)")?;
    let told: Vec<String> = select
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    if told == ["ok"] {
        return Ok(None);
    }
    let more = if told.len() < 100 { "" } else { " or more" };
    let faults = if told.len() == 1 { "fault" } else { "faults" };
    let what = format!("quick_check tells of {}{more} {faults}", told.len());
    let why =
        "the file is damaged, or rows are in it that a table refuses: keep a copy, and restore a backup";
    let finding = Finding::new(code::INTEGRITY, "quick_check", Severity::Error, what, why);
    Ok(Some(finding.mended_by([QUICK_CHECK])))
}

/// That the file is too large to be looked through by the way.
pub(super) fn not_looked_through() -> Finding {
    let what = "the file was not looked through: that takes more time than a read has";
    let why = "whether pages are damaged shows only to who reads them all";
    let finding = Finding::new(code::INTEGRITY, "quick_check", Severity::Info, what, why);
    finding.mended_by([QUICK_CHECK])
}

const QUICK_CHECK: &str = "PRAGMA quick_check";
