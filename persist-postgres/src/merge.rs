//! The statement that merges a wave, and the one that reads what it was silent about.
//!
//! One statement for jobs and VMs together: slots in, what changed of them to rows, both back. Right under
//! any concurrency because each part commutes; nothing is read, folded and written back.

use std::fmt::Write as _;
use std::sync::Arc;

use persist_core::sql::{Dialect, EVENTS, JOBS, RowTable, VMS, row_conflict, slot_conflict};
use persist_core::{
    Attribute, Claim, Error, ErrorKind, Outcome, Rank, Result, Retry, State, Subject, UpdateOutcome,
};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Arguments as _, Row as _};
use uuid::Uuid;

use crate::error::{Phase, classify};
use crate::row;
use crate::session::Session;
use crate::waves::{self, Found, Looked, Moved, Returned, Settled, Wave};

const MOST_AT_ONCE: u64 = 20;

/// The two statements, with the tables of one schema.
#[derive(Debug)]
pub(crate) struct Statements {
    merge: Arc<str>,
    look: Arc<str>,
}

impl Statements {
    /// `prefix` is the schema with its dot, or nothing.
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            merge: merge_sql(prefix).into(),
            look: look_sql(prefix).into(),
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

fn merge_sql(prefix: &str) -> String {
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
        write!(sql, ", {name} AS ({})", row_sql(prefix, table, of)).expect("a string takes all");
    }
    sql.push_str(
        " SELECT request_id, domain_name, rank, claimed, NULL::bigint AS prev_rank, NULL::text AS state FROM ev \
         UNION ALL SELECT request_id, '', rank, NULL, prev_rank, state FROM job \
         UNION ALL SELECT request_id, domain_name, rank, NULL, prev_rank, state FROM vm",
    );
    sql
}

/// Changed slots, one line for each subject, joined into their rows.
fn row_sql(prefix: &str, table: &RowTable, of: &str) -> String {
    let returned = table
        .key
        .iter()
        .map(|column| format!("r.{column}"))
        .collect::<Vec<_>>()
        .join(", ");
    format!(
        "INSERT INTO {prefix}{} AS r {} ORDER BY {} {} RETURNING {returned}, r.rank, r.prev_rank, r.state",
        table.name,
        folded(table, "ev", of),
        table.key.join(", "),
        row_conflict(table),
    )
}

/// The columns of a row, and their values folded from the slots in `source`.
fn folded(table: &RowTable, source: &str, of: &str) -> String {
    let key = table.key.join(", ");
    let (mut columns, mut values) = (String::new(), String::new());
    for attribute in table.attributes.map(Attribute::name) {
        write!(columns, ", {attribute}, {attribute}_rank").expect("a string takes all");
        write!(
            values,
            ", (array_agg({attribute} ORDER BY rank DESC) FILTER (WHERE {attribute} IS NOT NULL))[1], \
             max(rank) FILTER (WHERE {attribute} IS NOT NULL)"
        )
        .expect("a string takes all");
    }
    format!(
        "({key}, rank, state, created_at, updated_at{columns}) \
         SELECT {key}, max(rank), (array_agg(state ORDER BY rank DESC))[1], min(at), max(at){values} \
         FROM {source} WHERE {of} GROUP BY {key}"
    )
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

/// Merges a chunk and tells the outcomes by position.
pub(crate) async fn chunk(session: &mut Session, sql: &Statements, batch: &[Claim]) -> Result<Vec<Outcome>> {
    let mut outcomes: Vec<Option<Outcome>> = vec![None; batch.len()];
    let mut waves = std::collections::VecDeque::from(waves::plan(batch, 0..batch.len()));
    // Each wave commits by itself: after one, no failure says that nothing was applied.
    let mut stored = false;
    while let Some(wave) = waves.pop_front() {
        let settled = one_wave(session, sql, batch, &wave, &mut stored)
            .await
            .map_err(|error| {
                if stored {
                    error.outcome_as(UpdateOutcome::Unknown)
                } else {
                    error
                }
            })?;
        for (index, outcome) in settled.outcomes {
            outcomes[index] = Some(outcome);
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
    let returned = merge(session, sql, batch, wave).await?;
    *stored = true;
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
) -> Result<Returned<'b>> {
    let sent: Vec<&Claim> = wave.sent.iter().map(|index| &batch[*index]).collect();
    let arguments = slot_arguments(&sent)?;
    let mut at_once = 0;
    let rows = loop {
        match session.rows(Arc::clone(&sql.merge), arguments.clone()).await {
            // Again here and not by starting the chunk anew, so that waves before keep their outcomes.
            Err(error) if error.retry() == Retry::Now && error.kind() == ErrorKind::Busy => {
                at_once += 1;
                if at_once > MOST_AT_ONCE {
                    return Err(error.retry_as(Retry::Later));
                }
                let pause = rand::random_range(0..=1_000 * at_once);
                tokio::time::sleep(std::time::Duration::from_micros(pause)).await;
            }
            answer => break answer?,
        }
    };
    let mut returned = Returned::default();
    for row in &rows {
        let (id, name, rank) = (get::<Uuid>(row, 0)?, get::<&str>(row, 1)?, get::<i64>(row, 2)?);
        let place = wave.sent.binary_search_by(|index| {
            let claim = &batch[*index];
            let (own_id, own_name) = claim.subject().key();
            // A row stands for its subject: any slot of that will do, the first that is not below.
            (own_id, own_name)
                .cmp(&(id, name))
                .then(claim.rank().get().cmp(&rank))
        });
        match get::<Option<bool>>(row, 3)? {
            Some(claimed) => {
                let claim = &batch[wave.sent[place.map_err(|_| stranger())?]];
                returned.slots.insert((claim.subject(), claim.rank()), claimed);
            }
            None => {
                let near = place.unwrap_or_else(|at| at);
                let own = |at: usize| {
                    let claim = &batch[*wave.sent.get(at)?];
                    (claim.subject().key() == (id, name)).then_some(claim.subject())
                };
                let subject = own(near)
                    .or_else(|| near.checked_sub(1).and_then(own))
                    .ok_or_else(stranger)?;
                let before = get::<Option<i64>>(row, 4)?.map(|rank| row::rank(table(subject), id, rank));
                returned.rows.insert(
                    subject,
                    Moved {
                        before: before.transpose()?,
                        rank: row::rank(table(subject), id, rank)?,
                        state: state(subject, get(row, 5)?)?,
                    },
                );
            }
        }
    }
    Ok(returned)
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

fn keys_of(keys: &[(&Subject, Rank)]) -> Result<PgArguments> {
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

fn unencodable(_: sqlx::error::BoxDynError) -> Error {
    Error::new(ErrorKind::InvalidInput, "a batch is too large to be sent")
}

fn stranger() -> Error {
    Error::new(
        ErrorKind::Internal,
        "the server answered for a slot that was not asked",
    )
}
