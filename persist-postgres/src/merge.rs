//! How a batch is merged: wave after wave, each by one statement, and what that was silent about is looked up.

use std::sync::Arc;
use std::time::Duration;

use persist_core::sql::{JOBS, VMS};
use persist_core::{Claim, Error, ErrorKind, Outcome, Rank, Result, Retry, State, Subject, UpdateOutcome};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::error::{Phase, classify};
use crate::row;
use crate::session::Session;
use crate::statements::{Statements, keys_of, slot_arguments};
use crate::tries::MOST_AT_ONCE;
use crate::waves::{self, Found, Looked, Moved, Returned, Settled, Wave};

/// How often a slot may be seen without its row. One look is one snapshot, in which both are or neither is, but
/// where shards answer each has its own.
const MOST_WITHOUT_ROW: u64 = 5;

/// Merges a chunk and tells the outcomes by position.
pub(crate) async fn chunk(session: &mut Session, sql: &Statements, batch: &[Claim]) -> Result<Vec<Outcome>> {
    let mut stored = false;
    let merged = all_waves(session, sql, batch, &mut stored).await;
    // Each wave commits by itself: after one, no failure says that nothing was applied.
    merged.map_err(|error| {
        if stored {
            error.outcome_as(UpdateOutcome::Unknown)
        } else {
            error
        }
    })
}

async fn all_waves(
    session: &mut Session,
    sql: &Statements,
    batch: &[Claim],
    stored: &mut bool,
) -> Result<Vec<Outcome>> {
    let mut outcomes: Vec<Option<Outcome>> = vec![None; batch.len()];
    let mut waves = std::collections::VecDeque::from(waves::plan(batch, 0..batch.len()));
    let mut without_row = 0;
    while let Some(wave) = waves.pop_front() {
        let settled = one_wave(session, sql, batch, &wave, stored).await?;
        for (index, outcome) in settled.outcomes {
            outcomes[index] = Some(outcome);
        }
        without_row = settled.without_row.map_or(0, |_| without_row + 1);
        match settled.without_row {
            Some(subject) if without_row == MOST_WITHOUT_ROW => return Err(damaged(subject)),
            Some(_) => pause(without_row).await,
            None => {}
        }
        for again in waves::plan(batch, settled.vanished.into_iter()).into_iter().rev() {
            waves.push_front(again);
        }
    }
    Ok(outcomes
        .into_iter()
        .map(|outcome| outcome.expect("every claim is a step of a wave"))
        .collect())
}

async fn one_wave<'b>(
    session: &mut Session,
    sql: &Statements,
    batch: &'b [Claim],
    wave: &Wave,
    stored: &mut bool,
) -> Result<Settled<'b>> {
    let returned = merge(session, sql, batch, wave, stored).await?;
    let mut looked = Looked::new();
    loop {
        let settled = waves::settle(batch, wave, &returned, &looked);
        if settled.missing.is_empty() {
            return Ok(settled);
        }
        look(session, sql, &settled.missing, &mut looked).await?;
    }
}

async fn merge<'b>(
    session: &mut Session,
    sql: &Statements,
    batch: &'b [Claim],
    wave: &Wave,
    stored: &mut bool,
) -> Result<Returned<'b>> {
    let sent: Vec<&Claim> = wave.sent.iter().map(|index| &batch[*index]).collect();
    let arguments = slot_arguments(&sent)?;
    let is_apart = sent
        .array_windows()
        .all(|[one, next]| one.subject() != next.subject());
    let text = if is_apart { &sql.merge_apart } else { &sql.merge };
    let mut at_once = 0;
    let rows = loop {
        match session.rows(Arc::clone(text), arguments.clone()).await {
            // Again here and not by starting the chunk anew, so that waves before keep their outcomes.
            Err(error)
                if error.retry() == Retry::Now && error.kind() == ErrorKind::Busy && !session.is_broken =>
            {
                at_once += 1;
                if at_once > MOST_AT_ONCE {
                    return Err(error.retry_as(Retry::Later));
                }
                pause(at_once).await;
            }
            answer => break answer?,
        }
    };
    // Committed, also when what came back can't be read. Without any slot, nothing changed.
    let read = returned(&sent, &rows);
    *stored |= read.as_ref().map_or(true, Returned::is_any);
    read
}

/// Reads the answer of the statement that has merged these, which are in the order of keys.
fn returned<'b>(sent: &[&'b Claim], rows: &[PgRow]) -> Result<Returned<'b>> {
    let row = rows.first().ok_or_else(stranger)?;
    let mut returned = Returned::default();
    let changed: i64 = get(row, 0)?;
    let named: Option<Vec<Uuid>> = get(row, 1)?;
    match named {
        None => returned.are_all_claimed = changed != 0,
        Some(ids) => {
            let names: Vec<String> = get(row, 2)?;
            let (ranks, claimed): (Vec<i64>, Vec<bool>) = (get(row, 3)?, get(row, 4)?);
            for (((id, name), rank), claimed) in ids.into_iter().zip(names).zip(ranks).zip(claimed) {
                let claim = claim_of(sent, (id, &name), rank).map_err(|_| stranger())?;
                returned.slots.insert((claim.subject(), claim.rank()), claimed);
            }
        }
    }
    let jobs: Option<Vec<Uuid>> = get(row, 5)?;
    let jobs = jobs.map(|ids| ids.into_iter().map(|id| (id, String::new())).collect());
    rows_of(sent, row, 6, jobs, &mut returned)?;
    let vms: Option<Vec<Uuid>> = get(row, 9)?;
    let vms = match vms {
        Some(ids) => Some(ids.into_iter().zip(get::<Vec<String>>(row, 10)?).collect()),
        None => None,
    };
    rows_of(sent, row, 11, vms, &mut returned)?;
    Ok(returned)
}

/// The rows of jobs or of VMs: their keys, and from a column on where they stand, where they stood, and the state of those that
/// did not go forward.
fn rows_of<'b>(
    sent: &[&'b Claim],
    row: &PgRow,
    first: usize,
    keys: Option<Vec<(Uuid, String)>>,
    returned: &mut Returned<'b>,
) -> Result<()> {
    let Some(keys) = keys else { return Ok(()) };
    let (ranks, before): (Vec<i64>, Vec<Option<i64>>) = (get(row, first)?, get(row, first + 1)?);
    let states: Vec<Option<String>> = get(row, first + 2)?;
    for ((((id, name), rank), before), word) in keys.into_iter().zip(ranks).zip(before).zip(states) {
        // A row stands for its subject: any slot of that will do, the first that is not below.
        let found = claim_of(sent, (id, &name), rank);
        let near = |at: usize| {
            sent.get(at)
                .filter(|claim| claim.subject().key() == (id, name.as_str()))
        };
        let claim = match found {
            Ok(claim) => Some(claim),
            Err(at) => near(at).or_else(|| near(at.checked_sub(1)?)).copied(),
        };
        let subject = claim.ok_or_else(stranger)?.subject();
        let at = |rank| row::rank(table(subject), id, rank);
        let state = match (&word, found) {
            (Some(word), _) => state(subject, word)?,
            // It went forward, to what was sent.
            (None, Ok(claim)) => claim.state(),
            (None, Err(_)) => return Err(stranger()),
        };
        let moved = Moved {
            before: before.map(at).transpose()?,
            rank: at(rank)?,
            state,
        };
        returned.rows.insert(subject, moved);
    }
    Ok(())
}

/// The claim of a slot, or where it would be.
fn claim_of<'b>(sent: &[&'b Claim], key: (Uuid, &str), rank: i64) -> std::result::Result<&'b Claim, usize> {
    let place = sent.binary_search_by(|claim| {
        let own = claim.subject().key();
        own.cmp(&key).then(claim.rank().get().cmp(&rank))
    });
    place.map(|at| sent[at])
}

async fn look<'b>(
    session: &mut Session,
    sql: &Statements,
    slots: &[(&'b Subject, Rank)],
    looked: &mut Looked<'b>,
) -> Result<()> {
    for row in session.rows(Arc::clone(&sql.look), keys_of(slots)?).await? {
        let place = usize::try_from(get::<i64>(&row, 0)? - 1).map_err(|_| stranger())?;
        let &(subject, rank) = slots.get(place).ok_or_else(stranger)?;
        let standing = get::<Option<&str>>(&row, 1)?
            .map(|word| state(subject, word))
            .transpose()?;
        let at = get::<Option<i64>>(&row, 2)?;
        let now = match (at, get::<Option<&str>>(&row, 3)?) {
            (Some(at), Some(word)) => Some((
                row::rank(table(subject), subject.request_id(), at)?,
                state(subject, word)?,
            )),
            _ => None,
        };
        looked.insert((subject, rank), Found { standing, row: now });
    }
    Ok(())
}

/// A short one, longer each time, so that those who met do not meet again.
async fn pause(times: u64) {
    let pause = rand::random_range(0..=1_000 * times);
    tokio::time::sleep(Duration::from_micros(pause)).await;
}

fn damaged(subject: &Subject) -> Error {
    let what = format!("{subject} has history and no row; the database is damaged or was edited");
    Error::new(ErrorKind::Corrupt, what)
        .with("table", table(subject))
        .with("request_id", subject.request_id())
}

fn table(subject: &Subject) -> &'static str {
    if subject.is_vm() { VMS.name } else { JOBS.name }
}

fn state(subject: &Subject, word: &str) -> Result<State> {
    State::from_name(subject.is_vm(), word)
        .ok_or_else(|| row::unknown(table(subject), "state", subject.request_id(), word))
}

fn get<'r, T>(row: &'r PgRow, column: usize) -> Result<T>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(column)
        .map_err(|error| classify(&error, Phase::Statement))
}

fn stranger() -> Error {
    Error::new(
        ErrorKind::Internal,
        "the server answered for a slot that was not asked",
    )
}
