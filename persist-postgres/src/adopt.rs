//! Adoption of rows: each becomes history, and is then what its history says.
//!
//! Runs inside the migration's transaction, when `events` is there, the row tables have their new columns and
//! nothing is required of them yet. Memory stays flat: the seed's rows come through a cursor.

use std::collections::BTreeMap;

use persist_core::sql::{EVENTS, JOBS, RowTable, VMS};
use persist_core::{
    Claim, Error, ErrorKind, JobState, JobUpdate, Result, StateTable, SystemClock, Timestamp, VmState,
    VmUpdate,
};
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, PgRow};
use uuid::Uuid;

use crate::error::{Phase, classify};
use crate::merge;
use crate::session::Session;

/// Who reports an adopted slot.
const ACTOR: &str = "persist:adopted";
const ROWS: usize = 512;
/// Most kinds of unfit values that an error lists.
const LISTED: usize = 20;

/// A row of one of the seed's tables. `name` is the VM's domain, or `None` for a job.
#[derive(Debug, Clone, PartialEq)]
struct SeedRow {
    id: Uuid,
    name: Option<String>,
    attributes: [Option<String>; 3],
    state: Option<String>,
    /// `None` where it is null or infinite.
    created_at: Option<Timestamp>,
    updated_at: Option<Timestamp>,
}

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
/// As [`check`].
pub(crate) async fn rows(session: &mut Session) -> Result<u64> {
    // Nobody may write between the reading of the rows and their replacement.
    session
        .script("LOCK TABLE jobs, vms IN ACCESS EXCLUSIVE MODE")
        .await?;
    let rows = read(session, true).await?;
    for table in [&JOBS, &VMS] {
        session.script(&format!("DELETE FROM {}", table.name)).await?;
        session
            .rows(merge::fold_sql(table), PgArguments::default())
            .await?;
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
        (&VMS, "domain_name, backend, overlay_path, seed_path"),
    ] {
        table_rows(session, table, columns, &mut found).await?;
    }
    if found.unfit.is_empty() {
        Ok(found.rows)
    } else {
        Err(unfit_values(&found.unfit))
    }
}

/// What the rows are like so far.
#[derive(Default)]
struct Found {
    write: bool,
    rows: u64,
    unfit: BTreeMap<String, u64>,
}

async fn table_rows(session: &mut Session, table: &RowTable, columns: &str, found: &mut Found) -> Result<()> {
    let (name, key) = (table.name, table.key.join(", "));
    let finite = |column: &str| format!("CASE WHEN isfinite({column}) THEN {column} END");
    session
        .script(&format!(
            "DECLARE seed_{name} NO SCROLL CURSOR FOR SELECT request_id, {columns}, state, {}, {} FROM {name} \
             ORDER BY {key}, created_at, updated_at",
            finite("created_at"),
            finite("updated_at"),
        ))
        .await?;
    let (mut before, mut attempt) = (None, 0);
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
            let key = (row.id, row.name.clone());
            attempt = if before.as_ref() == Some(&key) {
                attempt + 1
            } else {
                1
            };
            before = Some(key);
            match history(&row, attempt) {
                Ok(slots) => claims.extend(slots),
                Err(what) => *found.unfit.entry(format!("{name}.{what}")).or_default() += 1,
            }
            found.rows += 1;
        }
        // Once something is unfit, the rest is only counted.
        if found.write && found.unfit.is_empty() {
            let claims: Vec<&Claim> = claims.iter().collect();
            session
                .rows(merge::slots_sql(EVENTS), merge::slot_arguments(&claims)?)
                .await?;
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

/// The slots of a seed row: where it began, and where it got to if that is further. Values pass the usual
/// normalisation.
fn history(row: &SeedRow, attempt: u32) -> Result<Vec<Claim>, String> {
    let word = row.state.as_deref().unwrap_or_default();
    let created_at = row.created_at.ok_or("created_at is null or infinite")?;
    let updated_at = row.updated_at.ok_or("updated_at is null or infinite")?;
    let [first, second, third] = row.attributes.clone().map(Option::unwrap_or_default);
    let said = |error: Error| error.message().to_owned();
    let mut slots = Vec::with_capacity(2);
    match &row.name {
        None => {
            let state = JobState::from_name(word).ok_or_else(|| unknown(word))?;
            let at = |state, at| JobUpdate::new(row.id, state).attempt(attempt).at(at).actor(ACTOR);
            let begin = at(JobState::Queued, created_at)
                .repo_url(first)
                .commit_sha(second)
                .runs_on(third);
            slots.push(begin.check(&SystemClock).map_err(said)?);
            if state.phase() > 0 {
                slots.push(at(state, updated_at).check(&SystemClock).map_err(said)?);
            }
        }
        Some(name) => {
            let state = VmState::from_name(word).ok_or_else(|| unknown(word))?;
            let at = |state, at| {
                VmUpdate::new(row.id, name.clone(), state)
                    .attempt(attempt)
                    .at(at)
                    .actor(ACTOR)
            };
            let begin = at(VmState::Prepared, created_at)
                .backend(first)
                .overlay_path(second)
                .seed_path(third);
            slots.push(begin.check(&SystemClock).map_err(said)?);
            if state.phase() > 0 {
                slots.push(at(state, updated_at).check(&SystemClock).map_err(said)?);
            }
        }
    }
    Ok(slots)
}

fn unknown(word: &str) -> String {
    let shown: String = word.chars().take(32).flat_map(char::escape_debug).collect();
    format!("state \"{shown}\" is unknown")
}

fn unfit_values(unfit: &BTreeMap<String, u64>) -> Error {
    let mut lines: Vec<_> = unfit
        .iter()
        .take(LISTED)
        .map(|(what, rows)| format!("{what} ({rows} rows)"))
        .collect();
    if unfit.len() > LISTED {
        lines.push(format!("and {} more kinds", unfit.len() - LISTED));
    }
    let what = format!(
        "values can't be adopted: {}; correct them first; nothing was changed",
        lines.join("; ")
    );
    Error::new(ErrorKind::SchemaMismatch, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use persist_core::{Attribute, merge::Slot};

    fn row(state: &str) -> SeedRow {
        let at = |second| chrono::DateTime::from_timestamp(second, 0);
        SeedRow {
            id: Uuid::from_u128(1),
            name: None,
            attributes: [
                Some("https://u:p@h/r".into()),
                Some("ABCD".into()),
                Some(String::new()),
            ],
            state: Some(state.into()),
            created_at: at(1),
            updated_at: at(2),
        }
    }

    #[test]
    fn m13_a_row_becomes_its_history() {
        let slots = history(&row("failed"), 2).unwrap();
        let folded =
            persist_core::merge::fold(&slots.iter().map(Slot::claimed_by).collect::<Vec<_>>()).unwrap();
        assert_eq!(
            (slots.len(), folded.state.name(), folded.rank.attempt().get()),
            (2, "failed", 2)
        );
        assert_eq!(folded.attributes.get(Attribute::RepoUrl), Some("https://h/r"));
        assert_eq!(folded.attributes.get(Attribute::CommitSha), Some("abcd"));
        assert_eq!(folded.attributes.get(Attribute::RunsOn), None);
        assert_eq!(
            (folded.created_at.timestamp(), folded.updated_at.timestamp()),
            (1, 2)
        );
        assert_eq!(history(&row("queued"), 1).unwrap().len(), 1);
    }

    #[test]
    fn unfit_values_are_named() {
        assert_eq!(
            history(&row("dreaming\n"), 1),
            Err("state \"dreaming\\n\" is unknown".into())
        );
        assert!(
            history(
                &SeedRow {
                    created_at: None,
                    ..row("failed")
                },
                1
            )
            .unwrap_err()
            .contains("created_at")
        );
        let vm = SeedRow {
            name: Some(String::new()),
            ..row("running")
        };
        assert_eq!(history(&vm, 1), Err("domain_name: must not be empty".into()));
        let unfit = BTreeMap::from([("jobs.state \"x\" is unknown".to_owned(), 3)]);
        assert!(unfit_values(&unfit).message().contains("(3 rows)"));
    }
}
