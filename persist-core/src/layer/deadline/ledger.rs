//! The same for what was refused.

use async_trait::async_trait;

use super::{Deadlined, still};
use crate::backend::PersistBackend;
use crate::error::Result;
use crate::ledger::{Ledger, Refusal, RefusalQuery, Tried};
use crate::page::Page;

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait]
impl<B: PersistBackend + ?Sized> Ledger for Deadlined<B> {
    async fn keep(&self, tried: &[Tried]) -> Result<()> {
        let tried = tried.to_vec();
        self.within("keep", self.deadlines.write, |inner| async move {
            still(inner.ledger())?.keep(&tried).await
        })
        .await
    }

    async fn refusals(&self, query: &RefusalQuery) -> Result<Page<Refusal>> {
        let query = query.clone();
        self.within("refusals", self.deadlines.read, |inner| async move {
            still(inner.ledger())?.refusals(&query).await
        })
        .await
    }
}
