//! The text and the parameters of the statement that merges a wave, and of those beside it.
//!
//! One statement for jobs and VMs together: slots in, what changed of them to rows, both back. Right under
//! any concurrency because each part commutes; nothing is read, folded and written back.

use std::fmt::Write as _;
use std::sync::Arc;

use persist_core::sql::{
    self, Dialect, EVENTS, JOB_COLUMNS, JOBS, RowTable, Statement, VM_COLUMNS, VMS, slot_conflict,
};
use persist_core::{Attribute, Claim, Error, ErrorKind, Rank, Result, Subject, VmKey};
use sea_query::PostgresQueryBuilder;
use sqlx::Arguments as _;
use sqlx::postgres::PgArguments;
use uuid::Uuid;

/// The statements whose text is always the same, with the tables of one schema.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) merge: Arc<str>,
    /// The same for slots of which each is another subject's.
    pub(crate) merge_apart: Arc<str>,
    pub(crate) look: Arc<str>,
    /// `$1` is the `request_id`.
    pub(crate) job: Arc<str>,
    /// `$1` is an array of them.
    pub(crate) jobs_by_key: Arc<str>,
    /// `$1` is the `request_id`, `$2` the `domain_name`.
    pub(crate) vm: Arc<str>,
    /// Arrays of them.
    pub(crate) vms_by_key: Arc<str>,
}

impl Statements {
    /// `prefix` is the schema with its dot, or nothing.
    pub(crate) fn new(schema: Option<&str>, prefix: &str) -> Self {
        let any = VmKey::new(Uuid::nil(), "");
        let text = |statement: Statement| Arc::from(statement.build(PostgresQueryBuilder).0);
        Self {
            merge: merge_sql(prefix, folded).into(),
            merge_apart: merge_sql(prefix, alone).into(),
            look: look_sql(prefix).into(),
            job: text(sql::job(Dialect::Postgres, schema, any.request_id)),
            jobs_by_key: by_key_sql(prefix, &JOBS, &JOB_COLUMNS).into(),
            vm: text(sql::vm(Dialect::Postgres, schema, &any)),
            vms_by_key: by_key_sql(prefix, &VMS, &VM_COLUMNS).into(),
        }
    }
}

/// The columns of a slot that a claim brings, with their types, in the order of the parameters.
fn slot_columns() -> Vec<(&'static str, &'static str)> {
    let key = [
        ("request_id", "uuid"),
        ("domain_name", "text"),
        ("rank", "bigint"),
    ];
    let said = [
        ("state", "text"),
        ("at", "timestamptz"),
        ("actor", "text"),
        ("reason", "text"),
    ];
    let attributes = Attribute::ALL.map(|attribute| (attribute.name(), "text"));
    key.into_iter().chain(said).chain(attributes).collect()
}

/// Those columns, and the arrays of the parameters as a table of them.
fn slot_source() -> (String, String) {
    let columns = slot_columns();
    let names = columns
        .iter()
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(", ");
    let parameters: Vec<_> = (1..)
        .zip(&columns)
        .map(|(at, (_, kind))| format!("${at}::{kind}[]"))
        .collect();
    let source = format!("unnest({}) AS t({names})", parameters.join(", "));
    (names, source)
}

/// The statements that merge updates, on the tables of the search path: for benchmarks and `EXPLAIN`. The first takes several
/// of one job or VM, the second one of each. Their parameters are arrays, `$1::uuid[]` and so on: `request_id`, `domain_name`, rank, state, `at`, actor, reason,
/// and the six attributes.
pub fn merging_statements() -> [String; 2] {
    [merge_sql("", folded), merge_sql("", alone)]
}

/// The statements that read jobs and VMs by several keys, on the tables of the search path: for `EXPLAIN`. Their parameters
/// are `$1::uuid[]`, and for VMs `$2::text[]`.
pub fn reading_statements() -> [String; 2] {
    [
        by_key_sql("", &JOBS, &JOB_COLUMNS),
        by_key_sql("", &VMS, &VM_COLUMNS),
    ]
}

/// What rows are made of from the slots in a source.
type Source = fn(table: &RowTable, source: &str, of: &str) -> String;

/// Slots, jobs, VMs: the planner joins three single rows in their order. Should it ever not, two flushes of a job and its VM may
/// meet in a deadlock, which ends by itself and is tried again.
///
/// The answer is one row, of arrays: a row for each update costs the server and us more than its columns do (what was
/// measured is in docs/BENCHMARKS.md). Where all slots were claimed, as nearly always, none is named.
fn merge_sql(prefix: &str, source_of: Source) -> String {
    let (names, source) = slot_source();
    let attributes = Attribute::ALL
        .map(|attribute| format!("e.{}", attribute.name()))
        .join(", ");
    let mut sql = format!(
        "WITH ev AS (\
         INSERT INTO {prefix}{EVENTS} AS e ({names}) \
         SELECT {names} FROM {source} ORDER BY request_id, domain_name COLLATE \"C\", rank {} \
         RETURNING e.request_id, e.domain_name, e.rank, e.state, e.at, {attributes}, (e.xmax = 0) AS claimed)",
        slot_conflict(Dialect::Postgres),
    );
    for (name, table, of) in [
        ("job", &JOBS, "domain_name = ''"),
        ("vm", &VMS, "domain_name <> ''"),
    ] {
        write!(
            sql,
            ", {name} AS ({})",
            row_sql(prefix, table, &source_of(table, "ev", of))
        )
        .expect("a string takes all");
    }
    let slots = ["request_id", "domain_name", "rank", "claimed"].map(|column| {
        format!("CASE WHEN bool_and(claimed) AND count(*) = cardinality($3::bigint[]) THEN NULL ELSE array_agg({column}) END")
    });
    let rows = "array_agg(rank), array_agg(prev_rank), array_agg(state)";
    write!(
        sql,
        " SELECT * FROM (SELECT count(*), {} FROM ev) AS s, (SELECT array_agg(request_id), {rows} FROM job) AS j, \
         (SELECT array_agg(request_id), array_agg(domain_name), {rows} FROM vm) AS v",
        slots.join(", ")
    )
    .expect("a string takes all");
    sql
}

/// Changed slots, one line for each subject, joined into their rows. The state is told of a row that did not go forward: of any
/// other it is that of the slot at its rank, which was sent.
fn row_sql(prefix: &str, table: &RowTable, source: &str) -> String {
    let returned = table
        .key
        .iter()
        .map(|column| format!("r.{column}"))
        .collect::<Vec<_>>()
        .join(", ");
    format!(
        "INSERT INTO {prefix}{} AS r {source} ORDER BY {} {} RETURNING {returned}, r.rank, r.prev_rank, \
         CASE WHEN r.prev_rank = r.rank THEN r.state END AS state",
        table.name,
        table.key.join(", "),
        row_conflict(table),
    )
}

/// Follows `INSERT INTO <table> AS r (…) …`: joins what came into the row. State by the higher rank, each
/// attribute by the higher `<attribute>_rank`, the earliest and the latest time; `prev_rank` is where the row
/// stood, for `RETURNING`.
fn row_conflict(table: &RowTable) -> String {
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

/// The columns of a row, and their values folded from the slots in `source`.
///
/// The value of the highest rank is the greatest of rank and value written after one another, ranks with all their
/// 19 digits. `array_agg(… ORDER BY rank)` says the same, and sorts each group for each column (3–8 % of the
/// server's time of a batch, PostgreSQL 15, 2026-11).
fn folded(table: &RowTable, source: &str, of: &str) -> String {
    let key = table.key.join(", ");
    let (columns, values) = attributes(table, |attribute| {
        format!("substr(max(ranked || {attribute}), 20), max(rank) FILTER (WHERE {attribute} IS NOT NULL)")
    });
    format!(
        "({key}, rank, state, created_at, updated_at{columns}) \
         SELECT {key}, max(rank), substr(max(ranked || state), 20), min(at), max(at){values} \
         FROM (SELECT *, lpad(rank::text, 19, '0') COLLATE \"C\" AS ranked FROM {source} WHERE {of}) AS s \
         GROUP BY {key}"
    )
}

/// The columns of a row, and their values from the only slot of each subject in `source`. [`folded`] would say the same, and
/// aggregate groups of one (7 % of the server's time of a batch, PostgreSQL 15, 2026-11).
fn alone(table: &RowTable, source: &str, of: &str) -> String {
    let key = table.key.join(", ");
    let (columns, values) = attributes(table, |attribute| {
        format!("{attribute}, CASE WHEN {attribute} IS NOT NULL THEN rank END")
    });
    format!(
        "({key}, rank, state, created_at, updated_at{columns}) \
         SELECT {key}, rank, state, at, at{values} FROM {source} WHERE {of}"
    )
}

/// The columns of the attributes and of their ranks, and their values, each with a comma before it.
fn attributes(table: &RowTable, value: fn(&str) -> String) -> (String, String) {
    let (mut columns, mut values) = (String::new(), String::new());
    for attribute in table.attributes.map(Attribute::name) {
        write!(columns, ", {attribute}, {attribute}_rank").expect("a string takes all");
        write!(values, ", {}", value(attribute)).expect("a string takes all");
    }
    (columns, values)
}

/// Fills an empty table of rows from the whole history.
pub(crate) fn fold_sql(table: &RowTable) -> String {
    let of = if table.key.contains(&"domain_name") {
        "domain_name <> ''"
    } else {
        "domain_name = ''"
    };
    format!("INSERT INTO {} {}", table.name, folded(table, EVENTS, of))
}

/// Claims free slots, from [`slot_arguments`].
pub(crate) fn slots_sql(table: &str) -> String {
    let (names, source) = slot_source();
    format!("INSERT INTO {table} ({names}) SELECT {names} FROM {source}")
}

fn look_sql(prefix: &str) -> String {
    format!(
        "SELECT i.n, e.state AS standing, coalesce(j.rank, v.rank) AS rank, coalesce(j.state, v.state) AS state \
         FROM unnest($1::uuid[], $2::text[], $3::bigint[]) WITH ORDINALITY AS i(request_id, domain_name, rank, n) \
         LEFT JOIN {prefix}{EVENTS} e ON e.request_id = i.request_id \
         AND e.domain_name = i.domain_name COLLATE \"C\" AND e.rank = i.rank \
         LEFT JOIN {prefix}{} j ON i.domain_name = '' AND j.request_id = i.request_id \
         LEFT JOIN {prefix}{} v ON i.domain_name <> '' AND v.request_id = i.request_id \
         AND v.domain_name = i.domain_name COLLATE \"C\"",
        JOBS.name, VMS.name,
    )
}

/// The rows of several keys, of which each is in the arrays once.
fn by_key_sql(prefix: &str, table: &RowTable, columns: &[&str]) -> String {
    let (keys, is_key) = if table.key.contains(&"domain_name") {
        (
            "$1::uuid[], $2::text[]",
            "r.request_id = i.request_id AND r.domain_name = i.domain_name COLLATE \"C\"",
        )
    } else {
        ("$1::uuid[]", "r.request_id = i.request_id")
    };
    format!(
        "SELECT r.{} FROM unnest({keys}) AS i({}) JOIN {prefix}{} AS r ON {is_key}",
        columns.join(", r."),
        table.key.join(", "),
        table.name,
    )
}

/// The parameters of a statement over [`slot_columns`].
pub(crate) fn slot_arguments(claims: &[&Claim]) -> Result<PgArguments> {
    let keys: Vec<_> = claims
        .iter()
        .map(|claim| (claim.subject(), claim.rank()))
        .collect();
    let mut arguments = keys_of(&keys)?;
    let column =
        |value: fn(&Claim) -> Option<&str>| claims.iter().map(|claim| value(claim)).collect::<Vec<_>>();
    let encoded = (|| {
        arguments.add(
            claims
                .iter()
                .map(|claim| claim.state().name())
                .collect::<Vec<_>>(),
        )?;
        arguments.add(claims.iter().map(|claim| claim.at()).collect::<Vec<_>>())?;
        arguments.add(column(Claim::actor))?;
        arguments.add(column(Claim::reason))?;
        for attribute in Attribute::ALL {
            arguments.add(
                claims
                    .iter()
                    .map(|claim| claim.attribute(attribute))
                    .collect::<Vec<_>>(),
            )?;
        }
        Ok(())
    })();
    encoded.map_err(unencodable).map(|()| arguments)
}

/// The parameters of the statement that looks.
pub(crate) fn keys_of(keys: &[(&Subject, Rank)]) -> Result<PgArguments> {
    let mut arguments = PgArguments::default();
    let encoded = (|| {
        arguments.add(
            keys.iter()
                .map(|(subject, _)| subject.request_id())
                .collect::<Vec<_>>(),
        )?;
        arguments.add(
            keys.iter()
                .map(|(subject, _)| subject.domain_name())
                .collect::<Vec<_>>(),
        )?;
        arguments.add(keys.iter().map(|(_, rank)| rank.get()).collect::<Vec<_>>())
    })();
    encoded.map_err(unencodable).map(|()| arguments)
}

fn unencodable(_: sqlx::error::BoxDynError) -> Error {
    Error::new(ErrorKind::InvalidInput, "a batch is too large to be sent")
}
