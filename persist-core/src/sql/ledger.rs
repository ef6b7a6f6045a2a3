//! Statements about refusals. Each has one text, and the prefix is its only part that is not ours: a schema whose name was
//! checked, with its dot, or nothing.

use super::owners::{SQLITE_NOW, parameter};
use super::{Dialect, EVENTS};

/// What was tried in vain.
pub const REFUSALS: &str = "refusals";

/// The columns of that table, in the order in which the list gives them back. `line` is the update in the exchange format.
pub const REFUSAL_COLUMNS: [&str; 9] = [
    "request_id",
    "domain_name",
    "rank",
    "tried",
    "standing",
    "line",
    "tries",
    "first_at",
    "last_at",
];

/// Keeps refusals of different keys, in the order in which they are given, of slots that are there: one that was pruned
/// refuses nothing. Parameters: the first seven columns; on Postgres as arrays of many.
pub fn keep(dialect: Dialect, prefix: &str) -> String {
    let (source, now, latest) = match dialect {
        Dialect::Postgres => (
            "unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[]) \
             AS u(request_id, domain_name, rank, tried, standing, line, tries)",
            "clock_timestamp()",
            "greatest",
        ),
        // differs: SQLite has no arrays.
        Dialect::Sqlite => (
            "(SELECT ?1 AS request_id, ?2 AS domain_name, ?3 AS rank, ?4 AS tried, ?5 AS standing, ?6 AS line, ?7 AS tries) \
             AS u",
            SQLITE_NOW,
            "max",
        ),
    };
    let columns = REFUSAL_COLUMNS.join(", ");
    let mut slot = slot_of(prefix, "u");
    if dialect == Dialect::Postgres {
        // differs: a prune that has removed the slot and not committed is waited for, and one that comes later sees what is kept
        // here; or else that would stay for ever.
        slot.push_str(" FOR KEY SHARE");
    }
    // The time is taken before a row that another one writes is waited for: it must not go back.
    format!(
        "INSERT INTO {prefix}{REFUSALS} AS r ({columns}) SELECT u.*, c.now, c.now FROM {source}, \
         (SELECT {now} AS now) AS c WHERE EXISTS ({slot}) ORDER BY 1, 2, 3, 4 \
         ON CONFLICT (request_id, domain_name, rank, tried) DO UPDATE SET standing = excluded.standing, \
         tries = r.tries + excluded.tries, last_at = {latest}(r.last_at, excluded.last_at)"
    )
}

/// A page, the latest first, of slots that are there: what a prune overtook is none. Parameters: the key of the index that it
/// begins behind (`last_at`, `request_id`, `domain_name`, `rank`, `tried`), the most rows, and with `of_one` a request id.
pub fn refusals(dialect: Dialect, prefix: &str, of_one: bool) -> String {
    let p = |number| parameter(dialect, number);
    let columns = REFUSAL_COLUMNS.join(", ");
    let filter = if of_one {
        format!("request_id = {} AND ", p(7))
    } else {
        String::new()
    };
    let begin: Vec<_> = (1..=5).map(p).collect();
    let slot = slot_of(prefix, "r");
    format!(
        "SELECT {columns} FROM {prefix}{REFUSALS} AS r WHERE {filter}\
         (last_at, request_id, domain_name, rank, tried) < ({}) AND ({slot}) = 1 \
         ORDER BY last_at DESC, request_id DESC, domain_name DESC, rank DESC, tried DESC LIMIT {}",
        begin.join(", "),
        p(6)
    )
}

/// A row where the slot is there. As EXISTS it becomes a join where that seems cheaper, which reads and sorts all refusals for a
/// page; as a value it is asked for each.
fn slot_of(prefix: &str, of: &str) -> String {
    format!(
        "SELECT 1 FROM {prefix}{EVENTS} e WHERE e.request_id = {of}.request_id \
         AND e.domain_name = {of}.domain_name AND e.rank = {of}.rank"
    )
}

/// Forgets the refusals of request ids. Parameters: the id; on Postgres an array of them.
pub fn forget_refusals(dialect: Dialect, prefix: &str) -> String {
    let of_ids = match dialect {
        Dialect::Postgres => "= ANY($1)",
        Dialect::Sqlite => "= ?1",
    };
    format!("DELETE FROM {prefix}{REFUSALS} WHERE request_id {of_ids}")
}
