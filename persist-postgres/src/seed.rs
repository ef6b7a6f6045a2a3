//! Adoption: taking over the two tables that an orchestrator of before already has.

use std::collections::BTreeMap;

use persist_core::{Error, ErrorKind, Result};
use sqlx::Row as _;
use sqlx::postgres::PgArguments;

use crate::attached;
use crate::error::{Phase, classify};
use crate::session::Session;

/// The seed's tables: columns and types, as `format_type` spells them.
const SEED: [(&str, &[(&str, &str)]); 2] = [
    (
        "jobs",
        &[
            ("request_id", "uuid"),
            ("repo_url", "text"),
            ("commit_sha", "text"),
            ("runs_on", "text"),
            ("state", "text"),
            ("created_at", "timestamp with time zone"),
            ("updated_at", "timestamp with time zone"),
        ],
    ),
    (
        "vms",
        &[
            ("request_id", "uuid"),
            ("domain_name", "text"),
            ("overlay_path", "text"),
            ("seed_path", "text"),
            ("backend", "text"),
            ("state", "text"),
            ("created_at", "timestamp with time zone"),
            ("updated_at", "timestamp with time zone"),
        ],
    ),
];

/// Whether the seed's tables are there. Looks at the schema that unqualified names mean now.
///
/// # Errors
/// `SchemaMismatch` that lists every difference: a stranger's table is never touched.
pub(crate) async fn seed_tables(session: &mut Session) -> Result<bool> {
    seed_tables_in(session, None).await
}

/// The same for a named schema.
pub(crate) async fn seed_tables_in(session: &mut Session, schema: Option<&str>) -> Result<bool> {
    // The name is of a-z, 0-9 and _.
    let schema = schema.map_or_else(|| "current_schema()".to_owned(), |schema| format!("'{schema}'"));
    let sql = format!(
        "SELECT c.relname::text, c.relkind::text, a.attname::text, format_type(a.atttypid, a.atttypmod) \
         FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         WHERE c.relnamespace = to_regnamespace({schema}) AND c.relname IN ('jobs', 'vms', 'events') \
         AND c.relkind <> 'i'"
    );
    let mut tables: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut differences = Vec::new();
    for row in session.rows(sql, PgArguments::default()).await? {
        let wrong = |error: sqlx::Error| classify(&error, Phase::Statement);
        let (table, kind): (String, String) =
            (row.try_get(0).map_err(wrong)?, row.try_get(1).map_err(wrong)?);
        let column: (Option<String>, Option<String>) =
            (row.try_get(2).map_err(wrong)?, row.try_get(3).map_err(wrong)?);
        if kind != "r" && !tables.contains_key(&table) {
            differences.push(format!("{} is not a plain table", shown(&table)));
        }
        let columns = tables.entry(table).or_default();
        if let (Some(name), Some(of)) = column {
            columns.insert(name, of);
        }
    }
    if tables.is_empty() {
        return Ok(false);
    }
    differences.extend(compare(&tables));
    if differences.is_empty() {
        differences.extend(keys(session, &schema).await?);
        differences.extend(attached::to_tables(session, &schema).await?);
    }
    if differences.is_empty() {
        return Ok(true);
    }
    let what = format!(
        "tables of our names are there, but not those that can be adopted: {}; nothing was changed; \
         choose another schema with persist_schema",
        differences.join("; ")
    );
    Err(Error::new(ErrorKind::SchemaMismatch, what))
}

/// Looks whether the role owns the seed's tables: without that the first migration passes and the second fails,
/// and what the first left belongs to the wrong role.
///
/// # Errors
/// `Auth` that names the tables.
pub(crate) async fn refuse_strangers(session: &mut Session) -> Result<()> {
    let sql = "SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = to_regnamespace(current_schema()) \
               AND c.relname IN ('jobs', 'vms') AND NOT pg_has_role(c.relowner, 'USAGE') ORDER BY c.relname";
    let mut tables: Vec<String> = Vec::new();
    for row in session.rows(sql, PgArguments::default()).await? {
        tables.push(
            row.try_get(0)
                .map_err(|error| classify(&error, Phase::Statement))?,
        );
    }
    if tables.is_empty() {
        return Ok(());
    }
    let what = format!(
        "only their owner can have tables adopted, and the role is not the owner of {}; that role must run \
         persist migrate up; nothing was changed",
        tables.join(" and ")
    );
    Err(Error::new(ErrorKind::Auth, what))
}

/// What the seed's tables would have to have for our statements, and what they must not.
async fn keys(session: &mut Session, schema: &str) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT c.relname::text, string_agg(a.attname::text, ', ' ORDER BY a.attnum) FROM pg_index x \
         JOIN pg_class c ON c.oid = x.indrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (x.indkey) \
         WHERE x.indisprimary AND c.relnamespace = to_regnamespace({schema}) AND c.relname IN ('jobs', 'vms') \
         GROUP BY c.relname"
    );
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for row in session.rows(sql, PgArguments::default()).await? {
        let wrong = |error: sqlx::Error| classify(&error, Phase::Statement);
        found.insert(row.try_get(0).map_err(wrong)?, row.try_get(1).map_err(wrong)?);
    }
    let mut differences = Vec::new();
    if found.get("jobs").map(String::as_str) != Some("request_id") {
        differences.push("the primary key of jobs is not request_id".to_owned());
    }
    if found.contains_key("vms") {
        differences.push("vms has a primary key".to_owned());
    }
    Ok(differences)
}

fn compare(tables: &BTreeMap<String, BTreeMap<String, String>>) -> Vec<String> {
    let mut differences = Vec::new();
    if tables.contains_key("events") {
        differences.push("events is there already".to_owned());
    }
    for (table, wanted) in SEED {
        let Some(columns) = tables.get(table) else {
            differences.push(format!("{table} is missing"));
            continue;
        };
        for (column, of) in wanted {
            match columns.get(*column) {
                None => differences.push(format!("{table}.{column} is missing")),
                Some(other) if other != of => {
                    differences.push(format!("{table}.{column} is {}, not {of}", shown(other)));
                }
                Some(_) => {}
            }
        }
        let stranger = |name: &&String| !wanted.iter().any(|(column, _)| column == name);
        let strangers = columns.keys().filter(stranger);
        differences.extend(strangers.map(|name| format!("{table}.{} is not ours", shown(name))));
    }
    differences
}

/// A name that somebody else chose, fit for a message.
pub(crate) fn shown(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed() -> BTreeMap<String, BTreeMap<String, String>> {
        let columns = |columns: &[(&str, &str)]| {
            columns
                .iter()
                .map(|(name, of)| ((*name).to_owned(), (*of).to_owned()))
                .collect()
        };
        SEED.iter()
            .map(|(table, wanted)| ((*table).to_owned(), columns(wanted)))
            .collect()
    }

    #[test]
    fn m14_every_difference_is_listed() {
        assert_eq!(compare(&seed()), [""; 0]);
        let mut tables = seed();
        tables.remove("vms");
        let jobs = tables.get_mut("jobs").unwrap();
        jobs.remove("state");
        jobs.insert("created_at".into(), "date".into());
        jobs.insert("salary\u{1b}".into(), "integer".into());
        assert_eq!(
            compare(&tables),
            [
                "jobs.state is missing",
                "jobs.created_at is date, not timestamp with time zone",
                "jobs.salary\\u{1b} is not ours",
                "vms is missing",
            ]
        );
    }
}
