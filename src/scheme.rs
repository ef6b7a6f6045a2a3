//! From a URL to its driver: one closed match.

use std::sync::Arc;

#[cfg(feature = "postgres")]
use persist_core::layer::{Coalesce, Coalescing};
use persist_core::{DbUrl, Deadlines, Error, ErrorKind, PersistBackend, Result};

use crate::switch::Switch;

/// How a driver is opened.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct OpenOptions {
    /// Deadlines of every call.
    pub deadlines: Deadlines,
    /// Most connections beside those of updates, which are 4 on Postgres; the driver's default where `None`. SQLite:
    /// its readers.
    pub connections: Option<u32>,
}

impl OpenOptions {
    /// Deadlines of every call.
    #[must_use]
    pub fn deadlines(mut self, deadlines: Deadlines) -> Self {
        self.deadlines = deadlines;
        self
    }

    /// Most connections beside those of updates.
    #[must_use]
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = Some(connections);
        self
    }
}

/// Connects the driver of a URL with its writer, which merges the updates of concurrent callers into one commit:
/// SQLite's own thread, a [`Coalescing`] layer over Postgres, none over memory. Neither retries, migrates
/// nor checks the schema: that is `backend.schema()`'s to do.
///
/// # Errors
/// `InvalidUrl` for a backend that is not compiled in, naming the cargo feature; whatever connecting meets.
pub async fn open(url: &DbUrl, options: &OpenOptions) -> Result<Arc<dyn PersistBackend>> {
    match url {
        #[cfg(feature = "postgres")]
        DbUrl::Postgres(url) => {
            let mut config =
                persist_postgres::PostgresConfig::new((**url).clone()).deadlines(options.deadlines);
            if let Some(connections) = options.connections {
                config = config.connections(connections);
            }
            let driver = persist_postgres::PostgresBackend::connect(config).await?;
            let settings = Coalesce::default().patience(options.deadlines.write);
            Ok(Arc::new(Coalescing::new(driver, settings)))
        }
        #[cfg(feature = "sqlite")]
        DbUrl::Sqlite(url) => {
            let mut config = persist_sqlite::SqliteConfig::new(url.clone()).deadlines(options.deadlines);
            if let Some(readers) = options.connections {
                config = config.readers(readers as usize);
            }
            Ok(Arc::new(persist_sqlite::SqliteBackend::open(config).await?))
        }
        #[cfg(feature = "memory")]
        DbUrl::Memory(name) => {
            use persist_memory::MemoryBackend;
            Ok(Arc::new(
                name.as_deref()
                    .map_or_else(MemoryBackend::new, MemoryBackend::named),
            ))
        }
        DbUrl::None => Ok(Switch::disabled(Arc::new(persist_core::SystemClock))),
        absent => {
            // Without any feature nothing reads the options.
            let _ = options;
            Err(not_compiled_in(absent))
        }
    }
}

/// Tells a typing mistake in the build from an outage, before anything is tried.
///
/// # Errors
/// `InvalidUrl` for a backend that is not compiled in.
pub(crate) fn check_compiled_in(url: &DbUrl) -> Result<()> {
    let compiled_in = match url {
        DbUrl::Postgres(_) => cfg!(feature = "postgres"),
        DbUrl::Sqlite(_) => cfg!(feature = "sqlite"),
        DbUrl::Memory(_) => cfg!(feature = "memory"),
        // The enum may grow: what is not known here is not compiled in.
        other => matches!(other, DbUrl::None),
    };
    if compiled_in {
        Ok(())
    } else {
        Err(not_compiled_in(url))
    }
}

fn not_compiled_in(url: &DbUrl) -> Error {
    let name = url.backend();
    let what = format!("the {name} backend is not compiled in; build persist with the cargo feature {name}");
    Error::new(ErrorKind::InvalidUrl, what).during("connect")
}
