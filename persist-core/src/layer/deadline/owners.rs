//! The same for heartbeats and orphans.

use async_trait::async_trait;

use super::Deadlined;
use crate::backend::PersistBackend;
use crate::error::{Error, ErrorKind, Result};
use crate::owners::{Heartbeat, Orphan, OrphanQuery, Owner, Owners};
use crate::page::Page;

/// It was there when this was asked for.
fn of<B: PersistBackend + ?Sized>(backend: &B) -> Result<&dyn Owners> {
    let gone = || Error::new(ErrorKind::Unsupported, "the backend knows of no owners any more");
    backend.owners().ok_or_else(gone)
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait]
impl<B: PersistBackend + ?Sized> Owners for Deadlined<B> {
    async fn heartbeat(&self, beat: &Heartbeat) -> Result<Owner> {
        let beat = beat.clone();
        self.within("heartbeat", self.deadlines.write, |inner| async move {
            of(&*inner)?.heartbeat(&beat).await
        })
        .await
    }

    async fn list(&self) -> Result<Vec<Owner>> {
        self.within("owners", self.deadlines.read, |inner| async move {
            of(&*inner)?.list().await
        })
        .await
    }

    async fn orphans(&self, query: &OrphanQuery) -> Result<Page<Orphan>> {
        let query = query.clone();
        self.within("orphans", self.deadlines.read, |inner| async move {
            of(&*inner)?.orphans(&query).await
        })
        .await
    }
}
