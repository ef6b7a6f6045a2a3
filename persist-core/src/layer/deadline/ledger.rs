//! The same for what was refused.

use async_trait::async_trait;

use super::Deadlined;
use crate::backend::PersistBackend;
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Ledger, Refusal, RefusalQuery, Tried};
use crate::page::Page;

/// It was there when this was asked for.
fn of<B: PersistBackend + ?Sized>(backend: &B) -> Result<&dyn Ledger> {
    let gone = || Error::new(ErrorKind::Unsupported, "the backend keeps no refusals any more");
    backend.ledger().ok_or_else(gone)
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait]
impl<B: PersistBackend + ?Sized> Ledger for Deadlined<B> {
    async fn keep(&self, tried: &[Tried]) -> Result<()> {
        let tried = tried.to_vec();
        self.within("keep", self.deadlines.write, |inner| async move {
            of(&*inner)?.keep(&tried).await
        })
        .await
    }

    async fn refusals(&self, query: &RefusalQuery) -> Result<Page<Refusal>> {
        let query = query.clone();
        self.within("refusals", self.deadlines.read, |inner| async move {
            of(&*inner)?.refusals(&query).await
        })
        .await
    }
}
