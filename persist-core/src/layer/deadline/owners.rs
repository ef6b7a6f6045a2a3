//! The same for heartbeats and orphans.

use async_trait::async_trait;

use super::{Deadlined, still};
use crate::backend::PersistBackend;
use crate::error::Result;
use crate::owners::{Heartbeat, Orphan, OrphanQuery, Owner, Owners};
use crate::page::Page;

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait]
impl<B: PersistBackend + ?Sized> Owners for Deadlined<B> {
    async fn heartbeat(&self, beat: &Heartbeat) -> Result<Owner> {
        let beat = beat.clone();
        self.within("heartbeat", self.deadlines.write, |inner| async move {
            still(inner.owners())?.heartbeat(&beat).await
        })
        .await
    }

    async fn list(&self) -> Result<Vec<Owner>> {
        self.within("owners", self.deadlines.read, |inner| async move {
            still(inner.owners())?.list().await
        })
        .await
    }

    async fn orphans(&self, query: &OrphanQuery) -> Result<Page<Orphan>> {
        let query = query.clone();
        self.within("orphans", self.deadlines.read, |inner| async move {
            still(inner.owners())?.orphans(&query).await
        })
        .await
    }
}
