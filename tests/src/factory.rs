//! Where the stores under test come from.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use persist_core::{PersistBackend, Result};

/// Makes stores of one kind for the suite: one for each case.
///
/// The suite runs cases in parallel, so `fresh` must be callable many times at once, and two stores must not
/// see each other's rows.
#[async_trait]
pub trait Factory: Send + Sync + 'static {
    /// Stands in brackets behind the name of each test: `outcomes::late_…[memory]`.
    fn name(&self) -> String;

    /// An empty store, migrated and ready.
    async fn fresh(&self) -> Result<Store>;

    /// The store of one case (`group::name`), where that depends on the case; else a [`fresh`](Self::fresh) one.
    async fn fresh_for(&self, case: &str) -> Result<Store> {
        let _ = case;
        self.fresh().await
    }

    /// The written reason why this kind of store is not asked this case (`group::name`). It is printed.
    fn skip(&self, case: &str) -> Option<&'static str> {
        let _ = case;
        None
    }
}

/// Opens one more handle onto a store.
pub type Open = Box<dyn Fn() -> BoxFuture<'static, Result<Arc<dyn PersistBackend>>> + Send + Sync>;

/// A store of one case.
#[must_use]
pub struct Store {
    backend: Arc<dyn PersistBackend>,
    another: Option<Open>,
    survives_close: bool,
    // Dropped last: a directory or a database that goes with the case.
    kept: Option<Box<dyn Any + Send + Sync>>,
}

impl Store {
    /// A store with one handle, whose content is gone when the handle is.
    pub fn new(backend: Arc<dyn PersistBackend>) -> Self {
        Self {
            backend,
            another: None,
            survives_close: false,
            kept: None,
        }
    }

    /// How to open one more handle onto the same store. Without it the cases about two handles are skipped.
    pub fn another<F>(mut self, open: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Arc<dyn PersistBackend>>> + Send + 'static,
    {
        self.another = Some(Box::new(move || Box::pin(open())));
        self
    }

    /// What was acknowledged is there after all handles were closed and a new one was opened.
    pub fn survives_close(mut self) -> Self {
        self.survives_close = true;
        self
    }

    /// Keeps a guard, such as a temporary directory, until the case is over.
    pub fn keep(mut self, guard: impl Any + Send + Sync) -> Self {
        self.kept = Some(Box::new(guard));
        self
    }

    /// The first handle.
    pub fn backend(&self) -> &Arc<dyn PersistBackend> {
        &self.backend
    }

    /// Opens one more handle, where the factory said how.
    pub async fn open(&self) -> Option<Result<Arc<dyn PersistBackend>>> {
        match &self.another {
            Some(open) => Some(open().await),
            None => None,
        }
    }

    /// Whether the content outlives its handles.
    pub fn is_lasting(&self) -> bool {
        self.survives_close
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("backend", &self.backend)
            .field("another", &self.another.is_some())
            .field("survives_close", &self.survives_close)
            .field("kept", &self.kept.is_some())
            .finish()
    }
}
