//! Tables, and what the store says of itself, held against the catalogue of what the migrations make.

use std::collections::BTreeSet;
use std::sync::Arc;

use persist_core::inspect::code;
use persist_core::sql::Dialect;
use persist_core::{Finding, Result, Severity};
use persist_migration::drift::{Drift, compare};
use persist_migration::records::Records;
use persist_migration::shape::{Part, Shape};
use persist_migration::{expected, known, list};
use sqlx::postgres::PgArguments;

use super::mend::{MOST_COUNTED, Mender, Unfit, unfit_rows};
use super::shape::{self, get};
use crate::records;
use crate::session::Session;

/// What a look at the schema has found.
#[derive(Debug, Clone, Default)]
pub(super) struct Looked {
    /// About the records and what the store says of itself.
    pub(super) findings: Vec<Finding>,
    pub(super) expected: Shape,
    pub(super) drifts: Vec<Drift>,
    pub(super) small: BTreeSet<String>,
    records: Records,
}

impl Looked {
    /// All of it, with what is known of the rows that do not fit, by the place of the drift.
    pub(super) fn findings(&self, prefix: &str, unfit: &[Unfit]) -> Vec<Finding> {
        let mender = Mender::new(&self.expected, prefix, &self.drifts, &self.small);
        let drifts = self.drifts.iter().zip(unfit);
        let drifts = drifts.map(|(drift, unfit)| mender.finding(drift, *unfit));
        let mut drifts: Vec<_> = drifts.collect();
        known::leave_to_newer(&self.records, &list(Dialect::Postgres), &mut drifts);
        self.findings.iter().cloned().chain(drifts).collect()
    }

    /// Where it was not counted.
    pub(super) fn uncounted(&self) -> Vec<Unfit> {
        let unfit = |drift| match unfit_rows(drift) {
            Some(_) => Unfit::Unknown,
            None => Unfit::None,
        };
        self.drifts.iter().map(unfit).collect()
    }
}

/// Looks at the schema, without a look at rows.
pub(super) async fn look(session: &mut Session, schema: Option<&str>, prefix: &str) -> Result<Looked> {
    let found = shape::shape(session, schema).await?;
    let has = |table: &str, columns: &[&str]| {
        let mut columns = columns.iter();
        columns.all(|column| found.get(Part::Column, table, column).is_some())
    };
    let known = list(Dialect::Postgres);
    let has_meta = has("persist_meta", &["key", "value"]);
    let has_records = has("persist_migrations", &["name", "applied_at", "adopted"]);
    // Where a column of theirs is missing, which is told below, they say nothing: the schema is held against the newest.
    let are_there = |table: &str, has: bool| has || !found.has_table(table);
    let are_readable = are_there("persist_migrations", has_records) && are_there("persist_meta", has_meta);
    let records = if are_readable {
        records::read(session, prefix).await?
    } else {
        known::as_if_whole(&known)
    };
    let mut looked = Looked {
        findings: known::findings(&records, &known),
        ..Looked::default()
    };
    if known::lacks_needed(&records, &known) {
        // Whatever else differs is what the migrations would change.
        return Ok(looked);
    }
    looked.expected = expected::postgres(|name| records.has(name));
    looked.drifts = compare(&looked.expected, &found);
    if has_meta {
        looked.findings.extend(facts(session, prefix, &records).await?);
    }
    if found.get(Part::Index, "events", "events_xid").is_some() {
        looked.findings.extend(xid_ahead(session, prefix).await?);
    }
    looked.small = small(session, schema).await?;
    looked.records = records;
    Ok(looked)
}

async fn facts(session: &mut Session, prefix: &str, records: &Records) -> Result<Vec<Finding>> {
    let sql = format!("SELECT value FROM {prefix}persist_meta WHERE key = 'instance_id'");
    let rows = session.rows(sql, PgArguments::default()).await?;
    let identity: Option<String> = rows.first().map(|row| get(row, 0)).transpose()?;
    let mut findings = known::facts(identity.as_deref(), records);
    for finding in &mut findings {
        if finding.place.ends_with("instance_id") {
            finding.mend = vec![
                "INSERT INTO persist_meta (key, value) VALUES ('instance_id', gen_random_uuid()::text) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value"
                    .to_owned(),
            ];
        }
        for statement in &mut finding.mend {
            *statement = statement.replacen("persist_meta", &format!("{prefix}persist_meta"), 1);
        }
    }
    Ok(findings)
}

/// Slots that no watcher sees: they wait for transactions of other numbers than this server gives. One look into an index.
async fn xid_ahead(session: &mut Session, prefix: &str) -> Result<Option<Finding>> {
    // What is visible was committed, and of this server has a number below.
    let ahead = "xid >= pg_snapshot_xmax(pg_current_snapshot())";
    let sql = format!("SELECT 1 FROM {prefix}events WHERE {ahead} LIMIT 1");
    if session.rows(sql, PgArguments::default()).await?.is_empty() {
        return Ok(None);
    }
    let what = "slots are of transactions that the server has yet to begin";
    let why = "whoever watches is not told of them until it has: a dump was restored into a younger server";
    let finding = Finding::new(code::XID_AHEAD, "events.xid", Severity::Warning, what, why);
    let update = format!("UPDATE {prefix}events SET xid = pg_current_xact_id() WHERE {ahead}");
    Ok(Some(finding.mended_by([update])))
}

/// The tables that are rewritten in no time: 64 MiB.
async fn small(session: &mut Session, schema: Option<&str>) -> Result<BTreeSet<String>> {
    let sql = format!(
        "SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = {} AND c.relkind = 'r' \
         AND pg_relation_size(c.oid) < 67108864",
        shape::NAMESPACE
    );
    let rows = shape::rows(session, sql, schema).await?;
    rows.iter().map(|row| get(row, 0)).collect()
}

/// Counts the rows that would be refused, for each drift.
pub(super) async fn count(session: &mut Session, prefix: &str, drifts: Arc<[Drift]>) -> Result<Vec<Unfit>> {
    let mut counted = Vec::with_capacity(drifts.len());
    for drift in drifts.iter() {
        let Some(rows) = unfit_rows(drift) else {
            counted.push(Unfit::None);
            continue;
        };
        let table = &drift.place.table;
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM {prefix}{table} WHERE {rows} LIMIT {MOST_COUNTED}) unfit"
        );
        let answer = session.rows(sql, PgArguments::default()).await?;
        counted.push(match answer.first() {
            Some(row) => Unfit::Rows(get(row, 0)?),
            None => Unfit::Unknown,
        });
    }
    Ok(counted)
}
