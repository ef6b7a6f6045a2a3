//! What others have attached to the two row tables: it would go or run with rows that are replaced, or stand in
//! the way of columns that change.

use persist_core::Result;
use sqlx::Row as _;
use sqlx::postgres::PgArguments;

use crate::error::{Phase, classify};
use crate::seed::shown;
use crate::session::Session;

/// Foreign keys, triggers, rules and heirs of the current schema's tables, in words. A foreign key that cascades
/// takes its own rows along; rows of an heir are read with those of its table and are in none of its indexes.
pub(crate) async fn to_rows(session: &mut Session) -> Result<Vec<String>> {
    listed(session, &rows_sql("current_schema()")).await
}

/// All of these, and the views that read the tables. `schema` is an SQL expression.
pub(crate) async fn to_tables(session: &mut Session, schema: &str) -> Result<Vec<String>> {
    let sql = format!("{} UNION {}", rows_sql(schema), views_sql(schema));
    listed(session, &sql).await
}

/// One line each: what it is, its name, whose it is, and the table that it is about.
fn rows_sql(schema: &str) -> String {
    let ours = ours(schema);
    format!(
        "SELECT 'foreign key', c.conname::text, o.relname::text, t.relname::text FROM pg_constraint c \
         JOIN pg_class t ON t.oid = c.confrelid JOIN pg_class o ON o.oid = c.conrelid \
         WHERE c.contype = 'f' AND {ours} \
         UNION SELECT 'trigger', g.tgname::text, NULL, t.relname::text FROM pg_trigger g \
         JOIN pg_class t ON t.oid = g.tgrelid WHERE NOT g.tgisinternal AND {ours} \
         UNION SELECT 'rule', r.rulename::text, NULL, t.relname::text FROM pg_rewrite r \
         JOIN pg_class t ON t.oid = r.ev_class WHERE {ours} \
         UNION SELECT 'heir', o.relname::text, NULL, t.relname::text FROM pg_inherits i \
         JOIN pg_class t ON t.oid = i.inhparent JOIN pg_class o ON o.oid = i.inhrelid WHERE {ours} \
         UNION SELECT 'parent', p.relname::text, NULL, t.relname::text FROM pg_inherits i \
         JOIN pg_class t ON t.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent WHERE {ours}"
    )
}

/// A view is a rule of its own, which depends on what it reads; so do rules of other tables.
fn views_sql(schema: &str) -> String {
    format!(
        "SELECT 'view', o.relname::text, NULL, t.relname::text FROM pg_depend d \
         JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid \
         JOIN pg_class o ON o.oid = r.ev_class \
         JOIN pg_class t ON d.refclassid = 'pg_class'::regclass AND t.oid = d.refobjid \
         WHERE o.oid <> t.oid AND {}",
        ours(schema)
    )
}

fn ours(schema: &str) -> String {
    format!("t.relnamespace = to_regnamespace({schema}) AND t.relname IN ('jobs', 'vms')")
}

async fn listed(session: &mut Session, sql: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let sql = format!("{sql} ORDER BY 4, 1, 2, 3");
    for row in session.rows(sql, PgArguments::default()).await? {
        let text = |column: usize| row.try_get::<Option<String>, _>(column);
        let wrong = |error: sqlx::Error| classify(&error, Phase::Statement);
        let [kind, name, owner, table] = [
            text(0).map_err(wrong)?,
            text(1).map_err(wrong)?,
            text(2).map_err(wrong)?,
            text(3).map_err(wrong)?,
        ]
        .map(Option::unwrap_or_default);
        found.push(match (kind.as_str(), owner.as_str()) {
            ("heir", _) => format!("table {} inherits from {table}", shown(&name)),
            ("parent", _) => format!("{table} inherits from table {}", shown(&name)),
            ("view", _) => format!("view {} reads {table}", shown(&name)),
            (kind, "") => format!("{kind} {} is on {table}", shown(&name)),
            (kind, owner) => format!("{kind} {} of {} points at {table}", shown(&name), shown(owner)),
        });
    }
    Ok(found)
}
