//! The two clauses that make the store a join. They commute: any order of any statements built on them
//! gives the same rows.

use super::Dialect;
use super::table::RowTable;
use crate::attributes::Attribute;

/// Follows `INSERT INTO events AS e (…) …`: fills the blanks of a held slot, only where it is of the same
/// state and there is something to fill, so that `RETURNING` after it is silent for unchanged and refused.
///
/// A filled slot gets the sequence number of the row that was proposed.
pub fn slot_conflict(dialect: Dialect) -> String {
    let columns: Vec<_> = ["actor", "reason"]
        .into_iter()
        .chain(Attribute::ALL.map(Attribute::name))
        .collect();
    let fill: Vec<_> = columns
        .iter()
        .map(|c| format!("{c} = coalesce(e.{c}, excluded.{c})"))
        .collect();
    let blank: Vec<_> = columns
        .iter()
        .map(|c| format!("(e.{c} IS NULL AND excluded.{c} IS NOT NULL)"))
        .collect();
    // differs: only Postgres commits out of order, so only there a change carries its transaction.
    let xid = match dialect {
        Dialect::Postgres => "xid = pg_current_xact_id(), ",
        Dialect::Sqlite => "",
    };
    format!(
        "ON CONFLICT (request_id, domain_name, rank) DO UPDATE SET seq = excluded.seq, {xid}{} \
         WHERE e.state = excluded.state AND ({})",
        fill.join(", "),
        blank.join(" OR ")
    )
}

/// Follows `INSERT INTO <table> AS r (…) …`: joins what came into the row. State by the higher rank, each
/// attribute by the higher `<attribute>_rank`, the earliest and the latest time; `prev_rank` is where the row
/// stood, for `RETURNING`.
pub fn row_conflict(table: &RowTable) -> String {
    conflict(table, true, &table.attributes)
}

/// The same for what can't move `created_at` and brings no value for the first attribute: it leaves out the
/// columns of the indexes that all rows are in, which SQLite rewrites when they are only named.
pub fn row_conflict_off_indexes(table: &RowTable) -> String {
    conflict(table, false, &table.attributes[1..])
}

fn conflict(table: &RowTable, created: bool, attributes: &[Attribute]) -> String {
    let forward = |column: &str| {
        format!("{column} = CASE WHEN excluded.rank > r.rank THEN excluded.{column} ELSE r.{column} END")
    };
    // CASE rather than LEAST and GREATEST, which SQLite spells differently.
    let further = |column: &str, further: char| {
        format!(
            "{column} = CASE WHEN excluded.{column} {further} r.{column} THEN excluded.{column} ELSE r.{column} END"
        )
    };
    let mut set = vec!["prev_rank = r.rank".to_owned(), forward("rank"), forward("state")];
    if created {
        set.push(further("created_at", '<'));
    }
    set.push(further("updated_at", '>'));
    for attribute in attributes.iter().map(|attribute| attribute.name()) {
        // Equal ranks are the same slot, filled: its value is set once, so taking it again changes nothing.
        for column in [attribute.to_owned(), format!("{attribute}_rank")] {
            set.push(format!(
                "{column} = CASE WHEN excluded.{attribute}_rank >= coalesce(r.{attribute}_rank, 0) \
                 THEN excluded.{column} ELSE r.{column} END"
            ));
        }
    }
    format!(
        "ON CONFLICT ({}) DO UPDATE SET {}",
        table.key.join(", "),
        set.join(", ")
    )
}
