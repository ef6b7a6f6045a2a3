//! The changes, in the order in which they were made under the one lock.

use async_trait::async_trait;
use persist_core::{Change, ChangePosition, ChangeQuery, Changed, Changes, Result, Seq};

use crate::backend::MemoryBackend;
use crate::event;

#[async_trait]
impl Changes for MemoryBackend {
    async fn now(&self) -> Result<ChangePosition> {
        let store = self.store("now")?;
        let state = store.state.lock();
        Ok(ChangePosition {
            store: store.instance_id,
            transaction: 0,
            seq: Seq::new(state.sequence.last),
            prunes: state.pruned.prunes,
        })
    }

    async fn since(&self, query: &ChangeQuery) -> Result<Changed> {
        let store = self.store("changes")?;
        let after = query.check(store.instance_id);
        let state = store.state.lock();
        let begun = after.and_then(|after| {
            let end = (0, state.sequence.last);
            state.pruned.begin(store.instance_id, after, end)
        });
        let from = begun.map_err(|error| error.during("changes"))?;
        let mut events = event::after(&state, from.seq.get());
        let first = events.by_ref().take(query.limit as usize).map(|event| {
            let position = ChangePosition {
                seq: event.seq,
                ..from
            };
            Change::new(event, position)
        });
        let changes = first.collect();
        Ok(Changed::new(changes, from, events.next().is_some()))
    }

    async fn hint(&self) {
        self.bell().rung().await;
    }
}
