//! The schema of whatever driver the switch has.

use persist_core::{Down, Error, ErrorKind, PersistBackend, PlannedMigration, Result, Schema, SchemaStatus};

use crate::switch::Switch;

fn schema_of(driver: &dyn PersistBackend) -> Result<&dyn Schema> {
    driver
        .schema()
        .ok_or_else(|| Error::new(ErrorKind::Unsupported, "this backend has no schema"))
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a layer that forgets a method changes the contract"
)]
#[async_trait::async_trait]
impl Schema for Switch {
    async fn status(&self) -> Result<SchemaStatus> {
        let (driver, _) = self.reader("status")?;
        schema_of(&*driver)?.status().await
    }

    async fn check(&self) -> Result<()> {
        let (driver, _) = self.reader("check")?;
        schema_of(&*driver)?.check().await
    }

    async fn up(&self) -> Result<Vec<String>> {
        let (driver, _) = self.reader("up")?;
        schema_of(&*driver)?.up().await
    }

    async fn down(&self, request: Down) -> Result<Vec<String>> {
        let (driver, _) = self.reader("down")?;
        schema_of(&*driver)?.down(request).await
    }

    async fn plan(&self) -> Result<Vec<PlannedMigration>> {
        let (driver, _) = self.reader("plan")?;
        schema_of(&*driver)?.plan().await
    }
}
