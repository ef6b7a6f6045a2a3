//! The same for what was refused.

use async_trait::async_trait;

use super::{Deadlined, still};
use crate::CHUNK;
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
        let keep = |chunk: Vec<Tried>| {
            self.within("keep", self.deadlines.write, |inner| async move {
                still(inner.ledger())?.keep(&chunk).await
            })
        };
        let merged = Tried::merged(tried);
        if merged.is_empty() {
            return keep(merged).await;
        }
        for (number, chunk) in merged.chunks(CHUNK).enumerate() {
            let kept = keep(chunk.to_vec()).await;
            kept.map_err(|error| error.of_chunk(number))?;
        }
        Ok(())
    }

    async fn refusals(&self, query: &RefusalQuery) -> Result<Page<Refusal>> {
        let query = query.clone();
        self.within("refusals", self.deadlines.read, |inner| async move {
            still(inner.ledger())?.refusals(&query).await
        })
        .await
    }
}
