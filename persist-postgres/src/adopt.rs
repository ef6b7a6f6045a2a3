//! Adoption of rows: each becomes history, and is then what its history says.
//!
//! Runs inside the migration's transaction, when `events` is there, the row tables have their new columns and
//! nothing is required of them yet. Memory stays flat: the seed's rows come through a cursor.

use persist_core::sql::{EVENTS, JOBS, RowTable, VMS};
use persist_core::{Claim, Error, ErrorKind, Result};
use persist_migration::adopt::{Attempts, SeedRow, Unfit, history};
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, PgRow};

use crate::attached;
use crate::error::{Phase, classify};
use crate::session::Session;
use crate::statements::{fold_sql, slot_arguments, slots_sql};

const ROWS: usize = 512;
/// Stands for an id that is null: told as unfit.
const NIL: uuid::Uuid = uuid::Uuid::nil();

/// Looks whether every row can become history. Changes nothing.
///
/// # Errors
/// `SchemaMismatch` with a list of values that can't be kept, and how many rows have them.
pub(crate) async fn check(session: &mut Session) -> Result<()> {
    read(session, false).await.map(drop)
}

/// Turns the rows of both tables into history. Says how many rows.
///
/// # Errors
/// As [`check`]; also for what would go, or run, with rows that are replaced.
pub(crate) async fn rows(session: &mut Session) -> Result<u64> {
    // Nobody may write between the reading of the rows and their replacement.
    session
        .script("LOCK TABLE jobs, vms IN ACCESS EXCLUSIVE MODE")
        .await?;
    // Looked for again: the tables may have been in use for long, and went down to where rows are all there is.
    let hangs_on = attached::to_rows(session).await?;
    if !hangs_on.is_empty() {
        let what = format!(
            "rows can't be replaced, others hang on them: {}; drop that first; no row was changed",
            hangs_on.join("; ")
        );
        return Err(Error::new(ErrorKind::SchemaMismatch, what));
    }
    let rows = read(session, true).await?;
    for table in [&JOBS, &VMS] {
        session.script(&format!("DELETE FROM {}", table.name)).await?;
        session.rows(fold_sql(table), PgArguments::default()).await?;
    }
    Ok(rows)
}

async fn read(session: &mut Session, write: bool) -> Result<u64> {
    let mut found = Found {
        write,
        ..Found::default()
    };
    for (table, columns) in [
        (&JOBS, "NULL::text, repo_url, commit_sha, runs_on"),
        // A VM without a name must not look like a job: an empty one is told as unfit.
        (
            &VMS,
            "coalesce(domain_name, ''), backend, overlay_path, seed_path",
        ),
    ] {
        table_rows(session, table, columns, &mut found).await?;
    }
    found.unfit.finish().map(|()| found.rows)
}

/// What the rows are like so far.
#[derive(Default)]
struct Found {
    write: bool,
    rows: u64,
    unfit: Unfit,
}

async fn table_rows(session: &mut Session, table: &RowTable, columns: &str, found: &mut Found) -> Result<()> {
    let (name, key) = (table.name, table.key.join(", "));
    // Beyond these years the driver's own type ends too.
    let finite = |column: &str| {
        format!(
            "CASE WHEN {column} >= '1970-01-01T00:00Z' AND {column} < '10000-01-01T00:00Z' THEN {column} END"
        )
    };
    session
        .script(&format!(
            "DECLARE seed_{name} NO SCROLL CURSOR FOR SELECT coalesce(request_id, '{NIL}'), {columns}, state, {}, {} FROM {name} \
             ORDER BY {key}, created_at, updated_at",
            finite("created_at"),
            finite("updated_at"),
        ))
        .await?;
    let mut attempts = Attempts::default();
    loop {
        let fetched = session
            .rows(format!("FETCH {ROWS} FROM seed_{name}"), PgArguments::default())
            .await?;
        if fetched.is_empty() {
            return session.script(&format!("CLOSE seed_{name}")).await;
        }
        let mut claims = Vec::with_capacity(2 * ROWS);
        for row in &fetched {
            let row = decode(row).map_err(|error| classify(&error, Phase::Migrate))?;
            match history(&row, attempts.of(&row)) {
                Ok(slots) => claims.extend(slots),
                Err(what) => found.unfit.add(name, &what),
            }
            found.rows += 1;
        }
        // Once something is unfit, the rest is only counted.
        if found.write && found.unfit.is_empty() {
            let claims: Vec<&Claim> = claims.iter().collect();
            session.rows(slots_sql(EVENTS), slot_arguments(&claims)?).await?;
        }
    }
}

fn decode(row: &PgRow) -> Result<SeedRow, sqlx::Error> {
    Ok(SeedRow {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        attributes: [row.try_get(2)?, row.try_get(3)?, row.try_get(4)?],
        state: row.try_get(5)?,
        created_at: row.try_get(6)?,
        updated_at: row.try_get(7)?,
    })
}
