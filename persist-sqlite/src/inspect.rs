//! The store looked over: its tables, its settings, its files.

mod files;
mod mend;
mod schema;
mod settings;
mod shape;
mod tokens;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use persist_core::inspect::{code, mendable, worst_first};
use persist_core::{Deadlines, Error, ErrorKind, Finding, Inspect, Result, Severity};

use crate::session::end_of;
use crate::store::Store;
use crate::worker::Times;
use schema::Rows;

/// A table of a large file takes its time to be made anew.
const LONGEST: Duration = Duration::from_secs(3_600);

const LOOK: &str = "findings";
const MEND: &str = "mend";

/// The [`Inspect`] of a SQLite store.
#[derive(Debug)]
pub(crate) struct Inspector {
    pub(crate) store: Arc<Store>,
    pub(crate) deadlines: Deadlines,
}

impl Inspector {
    /// What the tables are, with rows counted if there is time for it.
    async fn of_schema(&self, end: Instant) -> Result<Vec<Finding>> {
        let look = async |rows| {
            let left = end.saturating_duration_since(Instant::now());
            self.store
                .read(LOOK, left, move |connection| schema::look(connection, rows))
                .await
        };
        let looked = look(Rows::Unknown).await?;
        if !looked.depends_on_rows {
            return Ok(looked.findings);
        }
        match look(Rows::Counted).await {
            Ok(counted) => Ok(counted.findings),
            Err(error) if error.kind() == ErrorKind::Timeout => Ok(looked.findings),
            Err(error) => Err(error),
        }
    }

    /// Whether the file is sound, if there is time for it.
    async fn of_integrity(&self, end: Instant) -> Result<Option<Finding>> {
        let left = end.saturating_duration_since(Instant::now());
        match self.store.read(LOOK, left, settings::integrity).await {
            Err(error) if error.kind() == ErrorKind::Timeout => Ok(Some(settings::not_looked_through())),
            looked => looked,
        }
    }

    async fn of_settings(&self, end: Instant) -> Result<Vec<Finding>> {
        let can_write = self.store.can_write();
        let left = end.saturating_duration_since(Instant::now());
        self.store
            .read(LOOK, left, move |connection| {
                settings::look(connection, can_write)
            })
            .await
    }

    async fn of_files(&self) -> Result<Vec<Finding>> {
        let Some(path) = self.store.path().map(ToOwned::to_owned) else {
            let what = "the store is in memory, and gone with its last connection";
            let why = "it is made for tests";
            return Ok(vec![Finding::new(
                code::NOT_DURABLE,
                ":memory:",
                Severity::Info,
                what,
                why,
            )]);
        };
        blocking(move || files::look(&path)).await
    }

    async fn mend_one(&self, finding: &Finding) -> Result<()> {
        let wanted = finding.clone();
        match finding.code.as_str() {
            code::FILE_MODE => {
                let now = self.of_files().await?;
                let place = mendable(&now, finding)
                    .map_err(|error| error.during(MEND))?
                    .place
                    .clone();
                let path = self.store.path().map(ToOwned::to_owned).unwrap_or_default();
                blocking(move || files::close_to_others(&path, &place))
                    .await?
                    .map_err(|error| error.during(MEND))
            }
            code::PRAGMA => {
                let now = self.of_settings(end_of(self.deadlines.read)).await?;
                mendable(&now, finding).map_err(|error| error.during(MEND))?;
                // Outside of a transaction, where alone it can be set.
                self.store
                    .alone(MEND, self.deadlines.write, |connection| {
                        Ok(connection.query_row(settings::JOURNAL_MODE, [], |_| Ok(()))?)
                    })
                    .await
            }
            _ => {
                let times = Times {
                    lock: end_of(self.deadlines.write),
                    end: end_of(LONGEST),
                };
                self.store
                    .write(MEND, times, move |connection| {
                        // Looked at again under the lock: nobody can have changed it since.
                        let now = schema::look(connection, Rows::Counted)?;
                        let found = mendable(&now.findings, &wanted)?;
                        for statement in &found.mend {
                            connection.execute_batch(statement)?;
                        }
                        Ok(())
                    })
                    .await
            }
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Error::new(ErrorKind::Internal, "the runtime goes away"))
}

#[async_trait]
impl Inspect for Inspector {
    async fn findings(&self) -> Result<Vec<Finding>> {
        let end = end_of(self.deadlines.read);
        let mut findings = Vec::new();
        if self.store.path().is_some() {
            findings.extend(self.of_settings(end).await?);
        }
        findings.extend(self.of_schema(end).await?);
        // What is left of the time is for the longest.
        if self.store.path().is_some() {
            findings.extend(self.of_integrity(end).await?);
        }
        findings.extend(self.of_files().await?);
        worst_first(&mut findings);
        Ok(findings)
    }

    async fn mend(&self, finding: &Finding) -> Result<()> {
        self.store.refuse_closed(MEND)?;
        self.mend_one(finding).await?;
        tracing::info!(code = finding.code, place = finding.place, "mended");
        Ok(())
    }
}
