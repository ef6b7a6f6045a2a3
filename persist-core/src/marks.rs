//! The power to remember how far something has come: what is copied into a store keeps its place there.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::limits;

/// Most bytes of the name of a mark.
pub const MARK_NAME_BYTES: usize = 128;
/// Most bytes of what a mark says.
pub const MARK_BYTES: usize = 4_096;

/// Named texts that a store keeps beside its rows, as durably as those. `export` does not show them, `prune` leaves them.
#[async_trait]
pub trait Marks: Debug + Send + Sync {
    /// What the mark of this name says; `None` where there is none.
    ///
    /// # Errors
    /// `InvalidInput` as [`check_mark`] says.
    async fn mark(&self, name: &str) -> Result<Option<String>>;

    /// Sets a mark, or with `None` takes it away. Of two at once one stands.
    ///
    /// # Errors
    /// `InvalidInput` as [`check_mark`] says.
    async fn set_mark(&self, name: &str, says: Option<&str>) -> Result<()>;
}

/// Checks a mark. Every backend calls this first, for reading with nothing said.
///
/// # Errors
/// `InvalidInput` for a name that is empty or over 128 bytes, a text over 4,096, and NUL in either.
pub fn check_mark(name: &str, says: Option<&str>) -> Result<()> {
    limits::text("mark", Some(name.to_owned()), MARK_NAME_BYTES)?
        .ok_or_else(|| Error::invalid("mark", "must not be empty"))?;
    limits::text("mark", says.map(str::to_owned), MARK_BYTES)?;
    Ok(())
}
