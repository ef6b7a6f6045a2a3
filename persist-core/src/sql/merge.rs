//! The clause that makes the history a join: statements built on it commute.

use super::Dialect;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_filled_only_by_its_own_state_and_only_where_it_is_blank() {
        let sqlite = slot_conflict(Dialect::Sqlite);
        for column in ["actor", "reason", "repo_url", "seed_path"] {
            let fill = format!("{column} = coalesce(e.{column}, excluded.{column})");
            let blank = format!("(e.{column} IS NULL AND excluded.{column} IS NOT NULL)");
            assert!(sqlite.contains(&fill) && sqlite.contains(&blank), "{sqlite}");
        }
        assert!(
            sqlite.contains(" WHERE e.state = excluded.state AND ("),
            "{sqlite}"
        );
        assert!(!sqlite.contains("xid"), "{sqlite}");
        let postgres = slot_conflict(Dialect::Postgres);
        assert_eq!(postgres.replace("xid = pg_current_xact_id(), ", ""), sqlite);
        assert_ne!(postgres, sqlite);
    }
}
