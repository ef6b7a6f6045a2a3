//! The optional powers of whatever driver the switch has.

use persist_core::{
    ChangePosition, ChangeQuery, Changed, Changes, DbUrl, Error, ErrorKind, Finding, Heartbeat, Inspect,
    Ledger, Marks, Orphan, OrphanQuery, Owner, Owners, Page, PersistBackend, Refusal, RefusalQuery, Result,
    Tried,
};

use crate::switch::Switch;

/// Which there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Powers {
    pub(crate) schema: bool,
    pub(crate) changes: bool,
    pub(crate) owners: bool,
    pub(crate) ledger: bool,
    pub(crate) inspect: bool,
    pub(crate) marks: bool,
}

impl Powers {
    /// Of the driver that a URL leads to.
    pub(crate) fn of_url(url: &DbUrl) -> Self {
        let in_memory = matches!(url, DbUrl::Memory(_));
        Self {
            schema: !in_memory,
            changes: true,
            owners: true,
            ledger: true,
            inspect: !in_memory,
            marks: true,
        }
    }

    /// Of a driver that is there.
    pub(crate) fn of(driver: &dyn PersistBackend) -> Self {
        Self {
            schema: driver.schema().is_some(),
            changes: driver.changes().is_some(),
            owners: driver.owners().is_some(),
            ledger: driver.ledger().is_some(),
            inspect: driver.inspect().is_some(),
            marks: driver.marks().is_some(),
        }
    }
}

fn has<T>(power: Option<T>) -> Result<T> {
    power.ok_or_else(|| Error::new(ErrorKind::Unsupported, "this backend has no such power"))
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait::async_trait]
impl Changes for Switch {
    async fn now(&self) -> Result<ChangePosition> {
        self.ask("now", |driver| async move { has(driver.changes())?.now().await })
            .await
    }

    /// Also while updates wait in a spool: they are changes when they come to the database.
    async fn since(&self, query: &ChangeQuery) -> Result<Changed> {
        self.ask("changes", |driver| async move {
            has(driver.changes())?.since(query).await
        })
        .await
    }

    async fn hint(&self) {
        if let Ok((driver, _)) = self.reader("hint")
            && let Some(changes) = driver.changes()
        {
            return changes.hint().await;
        }
        std::future::pending::<()>().await;
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait::async_trait]
impl Owners for Switch {
    async fn heartbeat(&self, beat: &Heartbeat) -> Result<Owner> {
        self.ask("heartbeat", |driver| async move {
            has(driver.owners())?.heartbeat(beat).await
        })
        .await
    }

    async fn list(&self) -> Result<Vec<Owner>> {
        self.ask(
            "owners",
            |driver| async move { has(driver.owners())?.list().await },
        )
        .await
    }

    /// Not while updates wait in a spool: what they end would be told as left alone.
    async fn orphans(&self, query: &OrphanQuery) -> Result<Page<Orphan>> {
        self.read("orphans", |driver| async move {
            has(driver.owners())?.orphans(query).await
        })
        .await
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait::async_trait]
impl Ledger for Switch {
    async fn keep(&self, tried: &[Tried]) -> Result<()> {
        self.ask(
            "keep",
            |driver| async move { has(driver.ledger())?.keep(tried).await },
        )
        .await
    }

    /// Also while updates wait in a spool: what of them will be refused nobody knows yet.
    async fn refusals(&self, query: &RefusalQuery) -> Result<Page<Refusal>> {
        self.ask("refusals", |driver| async move {
            has(driver.ledger())?.refusals(query).await
        })
        .await
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait::async_trait]
impl Inspect for Switch {
    async fn findings(&self) -> Result<Vec<Finding>> {
        self.ask("findings", |driver| async move {
            has(driver.inspect())?.findings().await
        })
        .await
    }

    async fn mend(&self, finding: &Finding) -> Result<()> {
        self.ask("mend", |driver| async move {
            has(driver.inspect())?.mend(finding).await
        })
        .await
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait::async_trait]
impl Marks for Switch {
    async fn mark(&self, name: &str) -> Result<Option<String>> {
        self.ask(
            "mark",
            |driver| async move { has(driver.marks())?.mark(name).await },
        )
        .await
    }

    async fn set_mark(&self, name: &str, says: Option<&str>) -> Result<()> {
        self.ask("set_mark", |driver| async move {
            has(driver.marks())?.set_mark(name, says).await
        })
        .await
    }
}
