//! What was refused.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use persist_core::{Ledger, Page, Refusal, RefusalPosition, RefusalQuery, Result, Timestamp, Tried};
use uuid::Uuid;

use crate::backend::MemoryBackend;

/// `request_id`, `domain_name`, rank and the name of the state: the order of every backend.
type Key = (Uuid, String, i64, &'static str);

/// The refusals of a store, by key and by the time of the last try.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    by_key: BTreeMap<Key, Refusal>,
    by_age: BTreeSet<(Timestamp, Key)>,
}

#[async_trait]
impl Ledger for MemoryBackend {
    async fn keep(&self, tried: &[Tried]) -> Result<()> {
        let store = self.store("keep")?;
        let now = self.now("keep")?;
        let state = &mut *store.state.lock();
        for one in Tried::merged(tried) {
            // A slot that was pruned refuses nothing.
            if state.has_slot(one.claim.subject(), one.claim.rank()) {
                state.refusals.keep(one, now);
            }
        }
        Ok(())
    }

    async fn refusals(&self, query: &RefusalQuery) -> Result<Page<Refusal>> {
        let store = self.store("refusals")?;
        let after = query.check().map_err(|error| error.during("refusals"))?;
        Ok(store.state.lock().refusals.page(query, after))
    }
}

impl Refusals {
    fn keep(&mut self, tried: Tried, now: Timestamp) {
        let key = key_of(tried.key());
        let tries = u64::from(tried.tries);
        let Some(held) = self.by_key.get_mut(&key) else {
            let refusal = Refusal::new(tried.claim, tried.standing, tries, now, now);
            self.by_age.insert((now, key.clone()));
            self.by_key.insert(key, refusal);
            return;
        };
        self.by_age.remove(&(held.last_at, key.clone()));
        held.standing = tried.standing;
        held.tries = held.tries.saturating_add(tries);
        // As the others do where a clock is set back.
        held.last_at = now.max(held.last_at);
        self.by_age.insert((held.last_at, key));
    }

    fn page(&self, query: &RefusalQuery, after: Option<RefusalPosition>) -> Page<Refusal> {
        let begin = after.map(|(at, subject, rank, state)| {
            let (id, name) = subject.key();
            (at, (id, name.to_owned(), rank.get(), state.name()))
        });
        let wanted = |key: &Key| query.request_id.is_none_or(|id| key.0 == id);
        let newest = match begin {
            Some(begin) => self.by_age.range(..begin),
            None => self.by_age.range(..),
        };
        let keys = newest.rev().map(|(_, key)| key).filter(|key| wanted(key));
        let found = keys.filter_map(|key| self.by_key.get(key).cloned());
        let found = found.take(query.limit as usize + 1).collect();
        Page::from_overread(found, query.limit, |refusal| query.cursor(refusal))
    }

    /// Forgets those of a job and its VMs.
    pub(crate) fn forget(&mut self, id: Uuid) {
        let of_job = self
            .by_key
            .range((id, String::new(), i64::MIN, "")..)
            .take_while(|(key, _)| key.0 == id);
        let gone: Vec<_> = of_job.map(|(key, held)| (held.last_at, key.clone())).collect();
        for held in gone {
            self.by_key.remove(&held.1);
            self.by_age.remove(&held);
        }
    }
}

fn key_of((subject, rank, state): (&persist_core::Subject, i64, &'static str)) -> Key {
    let (id, name) = subject.key();
    (id, name.to_owned(), rank, state)
}
