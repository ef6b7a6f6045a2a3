//! The one driver of a handle that does not heal.

use std::sync::Arc;

use persist_core::layer::Retrying;
use persist_core::{Claim, Outcome, PersistBackend, Result};

use super::Driver;

/// It stays to the end: no update needs a lock to find it.
#[derive(Debug)]
pub(crate) enum Only {
    /// Its errors are the caller's.
    Plain(Driver),
    /// Called again until it works or the time is up.
    Retrying(Arc<Retrying<dyn PersistBackend>>),
}

impl Only {
    pub(super) fn driver(&self) -> Driver {
        match self {
            Self::Plain(driver) => Arc::clone(driver),
            Self::Retrying(retrying) => Arc::clone(retrying) as Driver,
        }
    }

    pub(super) async fn apply(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        match self {
            Self::Plain(driver) => driver.apply(claims).await,
            Self::Retrying(retrying) => retrying.apply_unboxed(claims).await,
        }
    }
}
