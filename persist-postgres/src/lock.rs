//! The lock under which a migration runs: advisory, of its transaction, and polled. A blocking wait would hold
//! a snapshot and could not say for whom it waits.

use persist_core::{Error, ErrorKind, Result};
use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, Row as _};

use crate::error::{Phase, classify};
use crate::session::Session;

/// Sets our locks apart from those of other programs: "prst".
const CLASS: i32 = 0x7072_7374;

/// Takes the lock of the schema until the transaction ends, or says who holds it.
pub(crate) async fn take(session: &mut Session, schema: Option<&str>) -> Result<Option<String>> {
    let key = "hashtext(coalesce($2::text, current_schema(), ''))";
    let sql = format!("SELECT pg_try_advisory_xact_lock($1::int, {key})");
    let rows = session.rows(sql, arguments(schema)?).await?;
    let taken = rows.first().map(|row| row.try_get::<bool, _>(0));
    if taken
        .transpose()
        .map_err(|error| classify(&error, Phase::Migrate))?
        == Some(true)
    {
        return Ok(None);
    }
    let sql = format!(
        "SELECT 'since ' || coalesce(to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), '?') \
         || ' by process ' || l.pid || coalesce(' (' || nullif(a.application_name, '') || ')', '') \
         FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
         WHERE l.locktype = 'advisory' AND l.granted AND l.classid = $1::int::oid \
         AND l.objid = ({key}::bigint & 4294967295)::oid AND l.objsubid = 2 \
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    );
    let rows = session.rows(sql, arguments(schema)?).await?;
    let holder = rows.first().and_then(|row| row.try_get::<String, _>(0).ok());
    Ok(Some(
        holder.unwrap_or_else(|| "by a process that just ended".to_owned()),
    ))
}

/// Makes the schema where it is missing, and lets unqualified names mean it until the transaction ends.
pub(crate) async fn enter_schema(session: &mut Session, schema: &str) -> Result<()> {
    // Asked first, because IF NOT EXISTS wants the right to create even where there is nothing to do.
    let rows = session
        .rows(
            "SELECT to_regnamespace($2) IS NULL AND $1 <> 0",
            arguments(Some(schema))?,
        )
        .await?;
    let missing = rows
        .first()
        .and_then(|row| row.try_get::<bool, _>(0).ok())
        .unwrap_or_default();
    if missing {
        session
            .script(&format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\""))
            .await?;
    }
    session
        .script(&format!("SET LOCAL search_path TO \"{schema}\""))
        .await
}

fn arguments(schema: Option<&str>) -> Result<PgArguments> {
    let mut arguments = PgArguments::default();
    let encoded = arguments.add(CLASS).and_then(|()| arguments.add(schema));
    encoded
        .map(|()| arguments)
        .map_err(|_| Error::new(ErrorKind::Internal, "a name could not be encoded"))
}
