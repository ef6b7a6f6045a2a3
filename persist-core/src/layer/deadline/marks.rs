//! The same for marks.

use async_trait::async_trait;

use super::{Deadlined, still};
use crate::backend::PersistBackend;
use crate::error::Result;
use crate::marks::Marks;

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait]
impl<B: PersistBackend + ?Sized> Marks for Deadlined<B> {
    async fn mark(&self, name: &str) -> Result<Option<String>> {
        let name = name.to_owned();
        self.within("mark", self.deadlines.read, |inner| async move {
            still(inner.marks())?.mark(&name).await
        })
        .await
    }

    async fn set_mark(&self, name: &str, says: Option<&str>) -> Result<()> {
        let (name, says) = (name.to_owned(), says.map(str::to_owned));
        self.within("set_mark", self.deadlines.write, |inner| async move {
            still(inner.marks())?.set_mark(&name, says.as_deref()).await
        })
        .await
    }
}
