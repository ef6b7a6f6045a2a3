//! Tables, and what the store says of itself, held against what the migrations make.

use persist_core::inspect::code;
use persist_core::sql::Dialect;
use persist_core::{Finding, Horizon, Severity};
use persist_migration::drift::compare;
use persist_migration::records::Records;
use persist_migration::shape::Shape;
use persist_migration::{known, list};
use rusqlite::Connection;

use super::mend;
use super::shape::{self, Expected};
use crate::error::{self, Failed};
use crate::records;

/// Whether rows are counted where that tells if a table can be made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// They are, which takes its time.
    Counted,
    /// They are not, and nothing that depends on it is safe.
    Unknown,
}

/// What was found, and whether counting rows would tell more.
pub(super) struct Looked {
    pub(super) findings: Vec<Finding>,
    pub(super) depends_on_rows: bool,
}

/// Looks at the schema.
pub(super) fn look(connection: &Connection, rows: Rows) -> Result<Looked, Failed> {
    let records = match records::read(connection) {
        // A column of theirs is missing, which is told below: they say nothing, and the schema is held against the newest.
        Err(Failed::Driver(error)) if error::may_be_schema(&error) => {
            known::as_if_whole(&list(Dialect::Sqlite))
        }
        read => read?,
    };
    let known = list(Dialect::Sqlite);
    let mut findings = known::findings(&records, &known);
    if known::lacks_needed(&records, &known) {
        // Whatever else differs is what the migrations would change.
        return Ok(Looked {
            findings,
            depends_on_rows: false,
        });
    }
    let (expected, found) = (Expected::of(&records)?, shape::shape(connection)?);
    let drifts = compare(&expected.shape, &found);
    let mender = mend::Mender::new(connection, &expected, &found, &drifts, rows)?;
    let mut differences: Vec<_> = drifts.iter().map(|drift| mender.finding(drift)).collect();
    if has_events_and_meta(&found, &mender) {
        differences.extend(next_seq(connection)?);
    }
    known::leave_to_newer(&records, &known, &mut differences);
    findings.extend(differences);
    findings.extend(triggers(connection, &expected)?);
    if found.has_table("persist_meta") && !mender.lacks_columns("persist_meta") {
        findings.extend(facts(connection, &records)?);
    }
    Ok(Looked {
        findings,
        depends_on_rows: mender.depends_on_rows(),
    })
}

fn has_events_and_meta(found: &Shape, mender: &mend::Mender<'_>) -> bool {
    let is_whole = |table| found.has_table(table) && !mender.lacks_columns(table);
    is_whole("persist_meta") && is_whole("events")
}

fn triggers(connection: &Connection, expected: &Expected) -> Result<Vec<Finding>, Failed> {
    let all = shape::statements(connection, "trigger")?;
    let ours = all.filter(|(_, (table, _))| expected.tables.contains_key(table));
    let finding = |(name, (table, _)): (String, (String, String))| {
        let what = format!("a trigger of {table} that is not ours");
        let why = "it runs with every write, and may refuse it";
        Finding::new(code::EXTRA_TRIGGER, name, Severity::Info, what, why)
    };
    Ok(ours.map(finding).collect())
}

/// What `persist_meta` says, which no migration brings back.
fn facts(connection: &Connection, records: &Records) -> Result<Vec<Finding>, Failed> {
    let identity = records::meta(connection, "instance_id")?;
    let mut findings = known::facts(identity.as_deref(), records);
    if let Some(finding) = findings
        .iter_mut()
        .find(|finding| finding.place.ends_with("instance_id"))
    {
        finding.mend = vec![format!(
            "INSERT INTO persist_meta (key, value) VALUES ('instance_id', {}) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            persist_migration::SQLITE_UUID
        )];
    }
    Ok(findings)
}

/// Above what is there, and above what prunes have taken: the last number of `pruned_to`, see [`persist_core::Horizon`].
const NEXT_SEQ: &str = "INSERT INTO persist_meta (key, value) \
SELECT 'next_seq', CAST(max(coalesce((SELECT max(seq) FROM events), 0), coalesce((SELECT \
CAST(substr(value, length(rtrim(value, '0123456789')) + 1) AS INTEGER) \
FROM persist_meta WHERE key = 'pruned_to'), 0)) + 1 AS TEXT) WHERE true \
ON CONFLICT (key) DO UPDATE SET value = excluded.value";

fn next_seq(connection: &Connection) -> Result<Option<Finding>, Failed> {
    let next: Option<i64> = records::meta(connection, "next_seq")?.and_then(|value| value.parse().ok());
    let last: Option<i64> = connection.query_row("SELECT max(seq) FROM events", [], |row| row.get(0))?;
    let pruned = records::meta(connection, "pruned_to")?.map(|text| text.parse::<Horizon>());
    let is_past_known = !matches!(pruned, Some(Err(_)));
    // What went with a prune was given as well, and those who read along have seen it.
    let last = last.into_iter().chain(
        pruned
            .and_then(Result::ok)
            .and_then(|horizon| horizon.last_after(0))
            .map(|(_, seq)| seq),
    );
    let last = last.max().unwrap_or(0);
    let (what, why) = match next {
        Some(next) if next > last => return Ok(None),
        Some(next) => (
            format!("the next sequence number is {next}, and {last} was given already"),
            "numbers would be given a second time, and whoever reads along would miss changes",
        ),
        None => (
            "the next sequence number is missing, or no number".to_owned(),
            "no update can be stored",
        ),
    };
    let finding = Finding::new(
        code::NEXT_SEQ,
        "persist_meta.next_seq",
        Severity::Error,
        what,
        why,
    );
    if !is_past_known {
        // Nobody knows which numbers went with prunes.
        return Ok(Some(finding));
    }
    Ok(Some(finding.mended_by([NEXT_SEQ]).safe()))
}
