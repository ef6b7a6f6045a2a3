//! The coalescing writer over a sink that does nothing: what it costs by itself.

use std::sync::Arc;

use async_trait::async_trait;
use persist_core::layer::{Coalesce, Sink, Writer};
use persist_core::{Claim, Outcome, Result, SystemClock};

use crate::Options;
use crate::contest::{Contender, Verdict, contest};
use crate::slice::{Slice, closed_loop};
use crate::workload;

struct Null;

#[async_trait]
impl Sink for Null {
    async fn flush(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        Ok(vec![Outcome::Applied { created: true }; claims.len()])
    }
}

struct Ours {
    callers: u64,
    length: std::time::Duration,
}

#[async_trait]
impl Contender for Ours {
    fn name(&self) -> String {
        "the writer over a null sink".into()
    }

    async fn slice(&mut self) -> Slice {
        let writer = Arc::new(Writer::new(Arc::new(Null), Coalesce::default()));
        let claim = workload::queued(workload::job(1), 1);
        let claim = Arc::new([claim.check(&SystemClock).expect("it is valid")]);
        closed_loop(self.callers, self.length, move |_, _| {
            let (writer, claim) = (Arc::clone(&writer), Arc::clone(&claim));
            async move {
                writer.apply(&*claim).await.expect("a null sink takes all");
            }
        })
        .await
    }
}

/// Runs the contests of the writer.
///
/// # Panics
/// If an update is not answered.
pub async fn run(options: &Options) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for callers in [64, 1_024] {
        let ours = Ours {
            callers,
            length: options.slice(),
        };
        verdicts.push(contest("writer", callers, options.rounds, vec![Box::new(ours)]).await);
    }
    verdicts
}
