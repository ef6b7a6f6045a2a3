//! Who is alive, and what is left alone. The statements are core's.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use persist_core::sql::{self, Dialect, OWNERS};
use persist_core::{
    Deadlines, Error, ErrorKind, Heartbeat, Orphan, OrphanKind, OrphanQuery, Owner, Owners, Page, Rank,
    Result, State, Subject, Timestamp,
};
use sqlx::postgres::{PgArguments, PgRow};
use uuid::Uuid;

use crate::bind;
use crate::connection::Pool;
use crate::row::{self, value};

/// The power of a store.
#[derive(Debug)]
pub(crate) struct Keeper {
    pool: Arc<Pool>,
    deadlines: Deadlines,
    heartbeat: Arc<str>,
    list: Arc<str>,
    orphans: Arc<str>,
}

impl Keeper {
    /// `prefix` is the schema with its dot, or nothing.
    pub(crate) fn new(pool: &Arc<Pool>, deadlines: Deadlines, prefix: &str) -> Self {
        Self {
            pool: Arc::clone(pool),
            deadlines,
            heartbeat: sql::heartbeat(Dialect::Postgres, prefix).into(),
            list: sql::owners(Dialect::Postgres, prefix).into(),
            orphans: sql::orphans(Dialect::Postgres, prefix).into(),
        }
    }
}

#[async_trait]
impl Owners for Keeper {
    async fn heartbeat(&self, beat: &Heartbeat) -> Result<Owner> {
        const OPERATION: &str = "heartbeat";
        self.pool
            .refuse_closed()
            .map_err(|error| error.during(OPERATION))?;
        let told = async {
            let beat = beat.check()?;
            let mut arguments = PgArguments::default();
            bind::add(&mut arguments, beat.actor.as_str())?;
            // Both were checked to fit.
            bind::add(&mut arguments, beat.epoch.cast_signed())?;
            bind::add(&mut arguments, micros(beat.valid_for))?;
            let rows = self
                .pool
                .rows(OPERATION, self.deadlines.write, &self.heartbeat, arguments);
            match rows.await?.first() {
                Some(row) => owner(row, value(OWNERS, row, 3)?),
                None => Err(beat.overtaken()),
            }
        };
        told.await.map_err(|error: Error| error.during(OPERATION))
    }

    async fn list(&self) -> Result<Vec<Owner>> {
        let read = self
            .pool
            .rows("owners", self.deadlines.read, &self.list, PgArguments::default());
        let owners = read.await?;
        let owners = owners.iter().map(|row| owner(row, value(OWNERS, row, 5)?));
        owners
            .collect::<Result<_>>()
            .map_err(|error| error.during("owners"))
    }

    async fn orphans(&self, query: &OrphanQuery) -> Result<Page<Orphan>> {
        const OPERATION: &str = "orphans";
        self.pool
            .refuse_closed()
            .map_err(|error| error.during(OPERATION))?;
        let told = async {
            let query = query.check()?;
            let arguments = arguments(&query)?;
            let rows = self
                .pool
                .rows(OPERATION, self.deadlines.read, &self.orphans, arguments);
            row::page(
                rows.await?,
                query.limit,
                |row| orphan(&row),
                |orphan| query.cursor(orphan),
            )
        };
        told.await.map_err(|error: Error| error.during(OPERATION))
    }
}

fn arguments(query: &OrphanQuery) -> Result<PgArguments> {
    let after = query.position()?.unwrap_or(Subject::Job(Uuid::nil()));
    let mut arguments = PgArguments::default();
    bind::add(&mut arguments, after.request_id())?;
    bind::add(&mut arguments, after.domain_name())?;
    bind::add(&mut arguments, query.actor.as_deref())?;
    bind::add(&mut arguments, micros(query.grace))?;
    for kind in OrphanKind::ALL {
        bind::add(&mut arguments, query.wants(&[kind]))?;
    }
    bind::add(&mut arguments, i64::from(query.limit) + 1)?;
    Ok(arguments)
}

/// The owner of a row, seen at this time.
fn owner(row: &PgRow, now: Timestamp) -> Result<Owner> {
    let epoch: i64 = value(OWNERS, row, 1)?;
    let epoch = u64::try_from(epoch).map_err(|_| {
        let what = format!("{OWNERS}.epoch of a row is negative; the table was changed by hand");
        Error::new(ErrorKind::Corrupt, what).with("table", OWNERS)
    })?;
    Ok(Owner::new(
        value(OWNERS, row, 0)?,
        epoch,
        value(OWNERS, row, 2)?,
        value(OWNERS, row, 3)?,
        value(OWNERS, row, 4)?,
        now,
    ))
}

fn orphan(row: &PgRow) -> Result<Orphan> {
    let (id, name): (Uuid, String) = (value("events", row, 0)?, value("events", row, 1)?);
    let subject = Subject::new(id, &name);
    let table = if subject.is_vm() { "vms" } else { "jobs" };
    let word: String = value(table, row, 2)?;
    let state =
        State::from_name(subject.is_vm(), &word).ok_or_else(|| row::unknown(table, "state", id, &word))?;
    let attempt = row::rank(table, id, value(table, row, 3)?).map(Rank::attempt)?;
    let kinds = OrphanKind::of([
        value(table, row, 6)?,
        value(table, row, 7)?,
        value(table, row, 8)?,
    ]);
    Ok(Orphan::new(
        subject,
        state,
        attempt,
        kinds,
        value("events", row, 4)?,
        value("events", row, 5)?,
    ))
}

/// As the statements count; at most a day, as was checked.
fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
