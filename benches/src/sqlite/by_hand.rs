//! What one writes with rusqlite without us: upsert and history, one connection.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::{Connection, Result};

use super::step::{step, step_in_one};
use super::store::Store;
use crate::contest::Contender;
use crate::slice::Slice;
use crate::workload;

/// Makes the updates that so many callers of ours make, in the order in which they come: a step of the job of each in
/// turn. Of one caller, job after job: ids lie next to each other, and the pages that are at work are few.
pub(crate) struct Rusqlite {
    pub(crate) length: Duration,
    pub(crate) in_one: bool,
    pub(crate) of_callers: u64,
}

#[async_trait]
impl Contender for Rusqlite {
    fn name(&self) -> String {
        match (self.in_one, self.of_callers) {
            (true, 1) => "rusqlite, job after job, in one transaction".into(),
            (true, _) => "rusqlite, all in one transaction".into(),
            (false, _) => "rusqlite, a transaction per update".into(),
        }
    }

    fn callers(&self) -> u64 {
        1
    }

    async fn slice(&mut self) -> Slice {
        let store = Store::plain().await;
        let (length, in_one, callers) = (self.length, self.in_one, self.of_callers);
        let connection = store.connection();
        let work = tokio::task::spawn_blocking(move || by_hand(&connection, length, in_one, callers));
        let slice = work.await.expect("it runs").expect("it is stored");
        store.check(slice.done);
        slice
    }
}

fn by_hand(connection: &Connection, length: Duration, in_one: bool, callers: u64) -> Result<Slice> {
    let begun = Instant::now();
    let mut latencies = Vec::new();
    if in_one {
        connection.execute_batch("BEGIN IMMEDIATE")?;
    }
    while begun.elapsed() < length {
        let asked = Instant::now();
        let done = latencies.len() as u64;
        let (caller, nth) = (done % callers, done / callers);
        let update = workload::life(caller, nth);
        if in_one {
            step(connection, update, nth)?;
        } else {
            step_in_one(connection, update, nth)?;
        }
        latencies.push(u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    if in_one {
        connection.execute_batch("COMMIT")?;
    }
    Ok(Slice::of(latencies, begun.elapsed()))
}
