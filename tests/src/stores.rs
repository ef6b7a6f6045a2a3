//! The project's own factories: each backend bare, and behind the layers of the facade.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use persist::{OnUnavailable, OpenOptions, Persist};
use persist_core::{DbUrl, Deadlines, PersistBackend, Result};

use crate::factory::{Factory, Store};
use crate::place::{Database, Place};

/// Connections of a handle: many cases at once must get by with a server's usual hundred.
const CONNECTIONS: u32 = 4;

/// For every call. The cases share few cores; how well deadlines are kept is asked elsewhere.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the rows are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The process's memory.
    Memory,
    /// A SQLite file in a folder of its own.
    SqliteFile,
    /// SQLite without a file.
    SqliteMemory,
    /// A schema of its own in the shared cluster.
    Postgres,
}

/// What is between the suite and the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// Nothing.
    Driver,
    /// The facade, which retries.
    Retry,
    /// The facade, for which history is optional.
    BestEffort,
}

/// Makes stores of one kind, reached in one way.
#[derive(Debug, Clone, Copy)]
pub struct Stores(pub Kind, pub Through);

impl Stores {
    /// A kind bare and behind the facade, for `run_all`.
    pub fn all(kind: Kind) -> Vec<Arc<dyn Factory>> {
        let ways = [Through::Driver, Through::Retry, Through::BestEffort];
        ways.map(|through| Arc::new(Self(kind, through)) as Arc<dyn Factory>)
            .into()
    }
}

#[async_trait]
impl Factory for Stores {
    fn name(&self) -> String {
        let kind = match self.0 {
            Kind::Memory => "memory",
            Kind::SqliteFile => "sqlite",
            Kind::SqliteMemory => "sqlite-memory",
            Kind::Postgres => "postgres",
        };
        let through = match self.1 {
            Through::Driver => "",
            Through::Retry => "+retry",
            Through::BestEffort => "+best-effort",
        };
        format!("{kind}{through}")
    }

    async fn fresh(&self) -> Result<Store> {
        let Self(kind, through) = *self;
        let (url, place) = match kind {
            Kind::Memory => (memory_url(), None),
            Kind::SqliteMemory => ("sqlite::memory:".to_owned(), None),
            Kind::SqliteFile => at(Place::empty(Database::Sqlite)),
            Kind::Postgres => at(Place::empty(Database::Postgres)),
        };
        let mut store = Store::new(connect(&url, through).await?);
        if kind != Kind::SqliteMemory {
            store = store.another(move || {
                let url = url.clone();
                async move { connect(&url, through).await }
            });
        }
        match place {
            Some(place) => Ok(store.survives_close().keep(place)),
            None => Ok(store),
        }
    }
}

fn at(place: Place) -> (String, Option<Place>) {
    (place.url().to_owned(), Some(place))
}

/// A store that no other case shares.
fn memory_url() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("memory:case-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn connect(url: &str, through: Through) -> Result<Arc<dyn PersistBackend>> {
    let mut deadlines = Deadlines::default();
    for deadline in [
        &mut deadlines.connect,
        &mut deadlines.write,
        &mut deadlines.read,
        &mut deadlines.health,
        &mut deadlines.migration,
    ] {
        *deadline = PATIENCE;
    }
    let on_unavailable = match through {
        Through::Driver => {
            let url: DbUrl = url.parse()?;
            let options = OpenOptions::default()
                .deadlines(deadlines)
                .connections(CONNECTIONS);
            let backend = persist::open(&url, &options).await?;
            if let Some(schema) = backend.schema() {
                schema.up().await?;
            }
            return Ok(backend);
        }
        Through::Retry => OnUnavailable::Retry { within: PATIENCE },
        Through::BestEffort => OnUnavailable::BestEffort,
    };
    let builder = Persist::builder(Some(url.to_owned()))
        .deadlines(deadlines)
        .connections(CONNECTIONS);
    Ok(builder.on_unavailable(on_unavailable).connect().await?.backend())
}
