//! Free pages, given back to the file system by steps that keep nobody waiting for long.

use std::time::{Duration, Instant};

use persist_core::Result as CoreResult;
use rusqlite::Connection;

use crate::error::Failed;
use crate::store::Store;
use crate::worker::Times;

/// Pages of one step, which is a transaction of its own: half a mebibyte.
const STEP: u32 = 128;
/// Pages that are worth a checkpoint: a mebibyte.
const MUCH: u32 = 256;
/// No step begins with less time than this.
const LEAST: Duration = Duration::from_millis(50);
/// How long a prune of one call gives back what others left; the next one goes on.
const LONGEST: Duration = Duration::from_secs(1);
/// How long who moves the log into the file waits for those who read.
const READERS: Duration = Duration::from_millis(100);
/// `PRAGMA auto_vacuum`, where pages may be given back when that is asked for.
const INCREMENTAL: i64 = 2;

/// The pages of the file that hold nothing.
pub(crate) fn free_pages(connection: &Connection) -> Result<u32, Failed> {
    Ok(connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?)
}

/// What is to be given back.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Given {
    /// As much as a part of a prune has freed.
    Pages(u32),
    /// At the end of a prune, of several parts or not: also what others left.
    All { is_part: bool },
}

/// Gives back free pages, each step between the flushes of others; then, at the end of what freed much, moves the log into the
/// file, beside them as far as it can, which is when that gets shorter. A file that was made without the possibility stays as long as it is.
///
/// What it did not come to by the end of its time the next one does.
///
/// # Errors
/// Those of writing. What was removed is removed.
pub(crate) async fn give_back(store: &Store, given: Given, end: Instant) -> CoreResult<()> {
    let end = end.min(Instant::now() + LONGEST);
    let left = || end.saturating_duration_since(Instant::now());
    let most = match given {
        Given::Pages(pages) => pages,
        Given::All { .. } => u32::MAX,
    };
    // Who finds nothing to give back waits for no lock.
    let free = store.read("prune", left(), free_to_give).await?;
    let most = most.min(free);
    let mut done = 0;
    while done < most && left() > LEAST {
        let pages = STEP.min(most - done);
        let step = move |connection: &Connection| one_step(connection, pages);
        if !store.write("prune", Times::within(left()), step).await? {
            break;
        }
        done += pages;
    }
    let ends_much = matches!(given, Given::All { is_part } if is_part || done >= MUCH);
    // A rollback journal leaves nothing to be moved.
    if !ends_much || free == 0 || left() <= LEAST || !store.read("prune", left(), has_log).await? {
        return Ok(());
    }
    // Most of it beside the updates of others; what they wait for is the rest of it.
    store.beside("prune", left(), move_what_can_be).await?;
    if left() > LEAST {
        store.alone("prune", left(), move_log).await?;
    }
    Ok(())
}

/// The free pages of a file that may get shorter.
fn free_to_give(connection: &Connection) -> Result<u32, Failed> {
    let mode: i64 = connection.pragma_query_value(None, "auto_vacuum", |row| row.get(0))?;
    if mode == INCREMENTAL {
        free_pages(connection)
    } else {
        Ok(0)
    }
}

/// Whether there may be more to give back: others take free pages meanwhile.
fn one_step(connection: &Connection, most: u32) -> Result<bool, Failed> {
    if free_pages(connection)? == 0 {
        return Ok(false);
    }
    // A page a row.
    let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum({most})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    Ok(true)
}

fn has_log(connection: &Connection) -> Result<bool, Failed> {
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    Ok(mode == "wal")
}

/// What nobody reads in the file, and as long as nobody else moves it.
pub(crate) fn move_what_can_be(connection: &Connection) -> Result<(), Failed> {
    Ok(connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
}

/// All of the log, where nobody reads what is older; else as much as can be.
fn move_log(connection: &Connection) -> Result<(), Failed> {
    connection.busy_timeout(READERS)?;
    Ok(connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
}
