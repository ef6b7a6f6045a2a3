//! The same for changes.

use async_trait::async_trait;

use super::{Deadlined, still};
use crate::backend::PersistBackend;
use crate::changes::{ChangePosition, ChangeQuery, Changed, Changes};
use crate::error::Result;

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait]
impl<B: PersistBackend + ?Sized> Changes for Deadlined<B> {
    async fn now(&self) -> Result<ChangePosition> {
        self.within("now", self.deadlines.read, |inner| async move {
            still(inner.changes())?.now().await
        })
        .await
    }

    async fn since(&self, query: &ChangeQuery) -> Result<Changed> {
        let query = query.clone();
        self.within("changes", self.deadlines.read, |inner| async move {
            still(inner.changes())?.since(&query).await
        })
        .await
    }

    /// Has no end by itself: whoever waits for it waits beside a clock.
    async fn hint(&self) {
        match self.inner.changes() {
            Some(changes) => changes.hint().await,
            None => std::future::pending().await,
        }
    }
}
