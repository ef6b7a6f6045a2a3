//! The store looked over: its tables, how they are kept, its server, and the way to it.

mod mend;
mod schema;
mod server;
mod shape;
mod tables;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use persist_core::inspect::{mendable, worst_first};
use persist_core::{Clock, Deadlines, Error, ErrorKind, Finding, Inspect, Result, end_of};
use persist_migration::shape::Shape;
use tokio::time::Instant;

use crate::connection::{Pool, Scope};
use crate::session::Session;
use schema::Looked;
use server::Way;

/// An index of a large table takes its time.
const LONGEST: Duration = Duration::from_secs(3_600);

const LOOK: &str = "findings";
const MEND: &str = "mend";

/// The [`Inspect`] of a Postgres store.
#[derive(Debug)]
pub(crate) struct Inspector {
    pub(crate) pool: Arc<Pool>,
    pub(crate) schema: Option<Arc<str>>,
    pub(crate) prefix: Arc<str>,
    pub(crate) deadlines: Deadlines,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Inspector {
    /// The tables as the database describes them, for a test of the catalogue.
    pub(crate) async fn shape(&self) -> Result<Shape> {
        let schema = self.schema.clone();
        let looked = self
            .pool
            .run(LOOK, self.deadlines.read, Scope::Transaction, move |session| {
                let schema = schema.clone();
                Box::pin(async move { shape::shape(session, schema.as_deref()).await })
            });
        looked.await
    }

    async fn looked(&self, end: Instant) -> Result<Looked> {
        let (schema, prefix) = (self.schema.clone(), Arc::clone(&self.prefix));
        let look = self
            .pool
            .run(LOOK, left(end), Scope::Transaction, move |session| {
                let (schema, prefix) = (schema.clone(), Arc::clone(&prefix));
                Box::pin(async move { schema::look(session, schema.as_deref(), &prefix).await })
            });
        look.await
    }

    async fn judged(&self, looked: &Looked, end: Instant) -> Result<Vec<Finding>> {
        let unfit = match self.count(looked, end).await {
            // What can't be counted is not mended without a second look.
            Err(error) if error.kind() != ErrorKind::Closed => looked.uncounted(),
            counted => counted?,
        };
        Ok(looked.findings(&self.prefix, &unfit))
    }

    /// Apart from the rest: rows of a large table may take more time than there is, or be another's to read.
    async fn count(&self, looked: &Looked, end: Instant) -> Result<Vec<mend::Unfit>> {
        let uncounted = looked.uncounted();
        if !uncounted.contains(&mend::Unfit::Unknown) {
            return Ok(uncounted);
        }
        let (prefix, drifts) = (Arc::clone(&self.prefix), Arc::from(looked.drifts.as_slice()));
        let count = self
            .pool
            .run(LOOK, left(end), Scope::Transaction, move |session| {
                let (prefix, drifts) = (Arc::clone(&prefix), Arc::clone(&drifts));
                Box::pin(async move { schema::count(session, &prefix, drifts).await })
            });
        count.await
    }

    async fn of_server(&self, end: Instant) -> Result<Vec<Finding>> {
        let (schema, prefix) = (self.schema.clone(), Arc::clone(&self.prefix));
        let (way, clock) = (self.pool.way(), Arc::clone(&self.clock));
        let look = self
            .pool
            .run(LOOK, left(end), Scope::Transaction, move |session| {
                let (schema, prefix) = (schema.clone(), Arc::clone(&prefix));
                let (way, clock) = (way.clone(), Arc::clone(&clock));
                Box::pin(async move {
                    let schema = schema.as_deref();
                    let mut findings = tables::look(session, schema, &prefix).await?;
                    findings.extend(server::look(session, schema, &way, &*clock).await?);
                    Ok(findings)
                })
            });
        look.await
    }
}

fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}

impl Pool {
    fn way(&self) -> Way {
        let options = self.options();
        Way {
            host: options.get_host().to_owned(),
            mode: options.get_ssl_mode(),
            pooler: self.is_behind_pooler(),
        }
    }
}

#[async_trait]
impl Inspect for Inspector {
    async fn findings(&self) -> Result<Vec<Finding>> {
        let end = end_of(self.deadlines.read);
        let looked = self.looked(end).await?;
        let mut findings = self.of_server(end).await?;
        // Last: counting rows may take all the time that is left.
        findings.extend(self.judged(&looked, end).await?);
        worst_first(&mut findings);
        Ok(findings)
    }

    async fn mend(&self, finding: &Finding) -> Result<()> {
        self.pool.refuse_closed().map_err(|error| error.during(MEND))?;
        let end = end_of(self.deadlines.read);
        let now = self.judged(&self.looked(end).await?, end).await?;
        let found = mendable(&now, finding).map_err(|error| error.during(MEND))?;
        let statements: Arc<[String]> = found.mend.clone().into();
        let mended = self.pool.run(MEND, LONGEST, Scope::Single, move |session| {
            let statements = Arc::clone(&statements);
            Box::pin(async move { run(session, &statements).await })
        });
        mended.await.map_err(explained)?;
        tracing::info!(code = found.code, place = found.place, "mended");
        Ok(())
    }
}

/// Runs statements one by one: an index that is made beside writers is made in no transaction.
async fn run(session: &mut Session, statements: &[String]) -> Result<()> {
    // It has other settings from now on, or a transaction that failed.
    session.is_broken = true;
    for statement in statements {
        let is_beside_others = statement.contains(" CONCURRENTLY ");
        // A lock that is waited for lets nobody else pass; whoever works beside others waits for all of them.
        let lock = if is_beside_others { "0" } else { "2s" };
        if !session.pooler {
            let settings = format!("SET statement_timeout = 0; SET lock_timeout = '{lock}'");
            session.script(&settings).await?;
        }
        if session.pooler && !is_beside_others {
            // There a setting would stay with the server's connection, which is others' too.
            let local = format!("BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '{lock}'");
            session.script(&format!("{local}; {statement}; COMMIT")).await?;
        } else {
            session.script(statement).await?;
        }
    }
    Ok(())
}

fn explained(error: Error) -> Error {
    if error.context("sqlstate") != Some("42501") {
        return error;
    }
    let what = "the role may not change the tables; their owner must run persist doctor --fix";
    Error::new(ErrorKind::Auth, what).during(MEND).caused_by(error)
}
