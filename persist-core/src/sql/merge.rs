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
    let forward = |column: &str| {
        format!("{column} = CASE WHEN excluded.rank > r.rank THEN excluded.{column} ELSE r.{column} END")
    };
    let mut set = vec![
        "prev_rank = r.rank".to_owned(),
        forward("rank"),
        forward("state"),
        "created_at = least(r.created_at, excluded.created_at)".to_owned(),
        "updated_at = greatest(r.updated_at, excluded.updated_at)".to_owned(),
    ];
    for attribute in table.attributes.map(Attribute::name) {
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
