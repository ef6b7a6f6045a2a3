//! What a database says of its own schema: `persist_migrations` and `persist_meta`.

use persist_core::{Error, ErrorKind, Result};
use persist_migration::records::{Record, Records};
use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, Row as _};

use crate::error::{Phase, classify};
use crate::session::Session;

/// Reads the records, of which there may be none.
pub(crate) async fn read(session: &mut Session, prefix: &str) -> Result<Records> {
    let there = format!(
        "SELECT to_regclass('{prefix}persist_migrations') IS NOT NULL, to_regclass('{prefix}persist_meta') IS NOT NULL"
    );
    let rows = session.rows(there, PgArguments::default()).await?;
    let is = |column: usize| {
        rows.first()
            .is_some_and(|row| row.try_get::<bool, _>(column).unwrap_or_default())
    };
    let (has_records, has_meta) = (is(0), is(1));
    let mut records = Records::default();
    if has_records {
        let sql = format!("SELECT name, applied_at, adopted FROM {prefix}persist_migrations ORDER BY name");
        for row in session.rows(sql, PgArguments::default()).await? {
            let wrong = |error: sqlx::Error| classify(&error, Phase::Statement);
            records.applied.push(Record {
                name: row.try_get(0).map_err(wrong)?,
                applied_at: row.try_get(1).map_err(wrong)?,
            });
            records.adopted |= row.try_get::<bool, _>(2).map_err(wrong)?;
        }
    }
    if has_meta {
        let sql =
            format!("SELECT key, value FROM {prefix}persist_meta WHERE key IN ('min_reader', 'min_writer')");
        for row in session.rows(sql, PgArguments::default()).await? {
            let number = row
                .try_get::<String, _>(1)
                .ok()
                .and_then(|value| value.parse().ok());
            match row.try_get::<&str, _>(0) {
                Ok("min_reader") => records.min_reader = number,
                Ok("min_writer") => records.min_writer = number,
                _ => {}
            }
        }
    }
    Ok(records)
}

/// Records a migration, at the time of its transaction. The first one makes the table of records.
pub(crate) async fn note(session: &mut Session, name: &str, first: bool, adopted: bool) -> Result<()> {
    if first {
        session
            .script(
                "CREATE TABLE IF NOT EXISTS persist_migrations (name text COLLATE \"C\" PRIMARY KEY, \
                 applied_at timestamptz NOT NULL DEFAULT now(), adopted boolean NOT NULL DEFAULT false)",
            )
            .await?;
    }
    let mut arguments = PgArguments::default();
    let encoded = arguments.add(name).and_then(|()| arguments.add(adopted));
    encoded.map_err(|_| Error::new(ErrorKind::Internal, "a name could not be encoded"))?;
    let sql = "INSERT INTO persist_migrations (name, adopted) VALUES ($1, $2)";
    session.rows(sql, arguments).await.map(drop)
}

/// Takes a record out; with the last one the table goes.
pub(crate) async fn erase(session: &mut Session, name: &str, last: bool) -> Result<()> {
    if last {
        return session.script("DROP TABLE persist_migrations").await;
    }
    let mut arguments = PgArguments::default();
    arguments
        .add(name)
        .map_err(|_| Error::new(ErrorKind::Internal, "a name could not be encoded"))?;
    session
        .rows("DELETE FROM persist_migrations WHERE name = $1", arguments)
        .await
        .map(drop)
}

/// Whether there is any history to lose.
pub(crate) async fn has_history(session: &mut Session) -> Result<bool> {
    let rows = session
        .rows("SELECT to_regclass('events') IS NOT NULL", PgArguments::default())
        .await?;
    let there = rows
        .first()
        .is_some_and(|row| row.try_get::<bool, _>(0).unwrap_or_default());
    if !there {
        return Ok(false);
    }
    let rows = session
        .rows("SELECT EXISTS (SELECT FROM events)", PgArguments::default())
        .await?;
    Ok(rows
        .first()
        .is_some_and(|row| row.try_get::<bool, _>(0).unwrap_or(true)))
}
