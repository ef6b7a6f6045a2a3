//! Adoption of rows: each becomes history, and is then what its history says. Here it is for rows that went the
//! way down and come up again.
//!
//! Runs inside the migration's transaction, when `events` is there and the row tables have their new columns.

use persist_core::sql::{EVENTS, JOBS, RowTable, VMS};
use persist_core::{Attribute, Error, ErrorKind, Timestamp, time};
use persist_migration::adopt::{Attempts, SeedRow, Unfit, history};
use rusqlite::{Connection, Row};
use uuid::Uuid;

use crate::error::Failed;
use crate::slots::Slots;

/// Turns the rows of both tables into history. Says how many rows.
///
/// # Errors
/// `SchemaMismatch` with a list of values that can't be kept, and how many rows have them.
pub(crate) fn rows(connection: &Connection) -> Result<u64, Failed> {
    let mut slots = Slots::begin(connection)?;
    let (mut unfit, mut count) = (Unfit::default(), 0);
    for (table, name) in [(&JOBS, "NULL"), (&VMS, "domain_name")] {
        count += table_rows(connection, table, name, &mut slots, &mut unfit)?;
    }
    unfit.finish()?;
    slots.finish()?;
    for table in [&JOBS, &VMS] {
        connection.execute_batch(&format!("DELETE FROM {0}; {1}", table.name, fold_sql(table)))?;
    }
    Ok(count)
}

fn table_rows(
    connection: &Connection,
    table: &RowTable,
    name: &str,
    slots: &mut Slots<'_>,
    unfit: &mut Unfit,
) -> Result<u64, Failed> {
    let mut select = connection.prepare(&format!(
        "SELECT request_id, {name}, {}, state, created_at, updated_at FROM {} \
         ORDER BY {}, created_at, updated_at",
        table.attributes.map(Attribute::name).join(", "),
        table.name,
        table.key.join(", "),
    ))?;
    let mut rows = select.query([])?;
    let (mut attempts, mut count) = (Attempts::default(), 0);
    while let Some(row) = rows.next()? {
        let row = decode(table, row)?;
        match history(&row, attempts.of(&row)) {
            Ok(claims) => {
                for claim in &claims {
                    slots.claim(claim)?;
                }
            }
            Err(what) => unfit.add(table.name, &what),
        }
        count += 1;
    }
    Ok(count)
}

fn decode(table: &RowTable, row: &Row<'_>) -> Result<SeedRow, Failed> {
    let id = row.get_ref(0)?.as_blob().ok();
    let id = id.and_then(|bytes| Uuid::from_slice(bytes).ok()).ok_or_else(|| {
        let what = format!("{}.request_id of a row is not 16 bytes", table.name);
        Error::new(ErrorKind::SchemaMismatch, what)
    })?;
    // Out of range is what the seed's infinite time would be.
    let time = |column: usize| -> Result<Option<Timestamp>, Failed> {
        Ok(row.get::<_, Option<i64>>(column)?.and_then(time::from_micros))
    };
    Ok(SeedRow {
        id,
        name: row.get(1)?,
        attributes: [row.get(2)?, row.get(3)?, row.get(4)?],
        state: row.get(5)?,
        created_at: time(6)?,
        updated_at: time(7)?,
    })
}

/// Fills an empty table of rows from the whole history.
fn fold_sql(table: &RowTable) -> String {
    let of = if table.key.contains(&"domain_name") {
        "<>"
    } else {
        "="
    };
    let keys = table.key.join(", ");
    let mut columns = vec![
        "rank".to_owned(),
        "state".into(),
        "created_at".into(),
        "updated_at".into(),
    ];
    let slot = format!("FROM {EVENTS} s WHERE s.request_id = e.request_id AND s.domain_name = e.domain_name");
    let mut values = vec![
        "max(rank)".to_owned(),
        format!("(SELECT s.state {slot} ORDER BY s.rank DESC LIMIT 1)"),
        "min(at)".into(),
        "max(at)".into(),
    ];
    for attribute in table.attributes.map(Attribute::name) {
        columns.extend([attribute.to_owned(), format!("{attribute}_rank")]);
        let highest = format!("{slot} AND s.{attribute} IS NOT NULL ORDER BY s.rank DESC LIMIT 1");
        values.extend([
            format!("(SELECT s.{attribute} {highest})"),
            format!("(SELECT s.rank {highest})"),
        ]);
    }
    format!(
        "INSERT INTO {} ({keys}, {}) SELECT {keys}, {} FROM {EVENTS} e WHERE domain_name {of} '' \
         GROUP BY request_id, domain_name",
        table.name,
        columns.join(", "),
        values.join(", "),
    )
}
