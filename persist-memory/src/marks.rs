//! Marks, beside the rows.

use async_trait::async_trait;
use persist_core::{Marks, Result, check_mark};

use crate::backend::MemoryBackend;

#[async_trait]
impl Marks for MemoryBackend {
    async fn mark(&self, name: &str) -> Result<Option<String>> {
        let store = self.store("mark")?;
        check_mark(name, None).map_err(|error| error.during("mark"))?;
        let state = store.state.lock();
        Ok(state.marks.get(name).cloned())
    }

    async fn set_mark(&self, name: &str, says: Option<&str>) -> Result<()> {
        let store = self.store("set_mark")?;
        check_mark(name, says).map_err(|error| error.during("set_mark"))?;
        let mut state = store.state.lock();
        match says {
            Some(says) => state.marks.insert(name.to_owned(), says.to_owned()),
            None => state.marks.remove(name),
        };
        Ok(())
    }
}
