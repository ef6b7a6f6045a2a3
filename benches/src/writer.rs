//! The coalescing writer over a sink that does nothing: what it costs by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use persist_core::layer::{Coalesce, Sink, Writer};
use persist_core::{Claim, Outcome, Result, SystemClock};

use crate::Options;
use crate::contest::{Contender, contest};
use crate::slice::{Slice, closed_loop};
use crate::verdict::Verdict;
use crate::workload;

/// µs of processor time, of all threads, callers included: more than the writer's own.
pub const CPU_US: &str = "µs of CPU an update";
/// Told only where they are counted: by the bench `allocations`.
pub const ALLOCATIONS: &str = "allocations an update";

/// Counts what comes.
#[derive(Default)]
struct Null(AtomicU64);

#[async_trait]
impl Sink for Null {
    async fn flush(&self, claims: &[Claim]) -> Result<Vec<Outcome>> {
        self.0.fetch_add(claims.len() as u64, Ordering::Relaxed);
        Ok(vec![Outcome::Applied { created: true }; claims.len()])
    }
}

#[derive(Clone, Copy)]
struct Ours {
    callers: u64,
    length: Duration,
    /// On one thread; otherwise on the threads of the runtime, as in an orchestrator.
    alone: bool,
    allocations: Option<fn() -> u64>,
}

impl Ours {
    fn threads(self) -> u32 {
        let all = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u32);
        if self.alone { 1 } else { all }
    }

    async fn play(self) -> Slice {
        let sink = Arc::<Null>::default();
        let writer = Arc::new(Writer::new(Arc::clone(&sink), Coalesce::default()));
        // A job of each caller's own, so that all flushers have some.
        let claims = (0..self.callers).map(|caller| {
            let claim = workload::queued(workload::job(caller), 1).check(&SystemClock);
            [claim.expect("it is valid")]
        });
        let claims = Arc::new(claims.collect::<Vec<_>>());
        let (begun, cpu) = (Instant::now(), cpu_time());
        let allocations = self.allocations.map(|count| count());
        let shared = Arc::clone(&writer);
        let mut slice = closed_loop(self.callers, self.length, move |caller, _| {
            let (writer, claims) = (Arc::clone(&shared), Arc::clone(&claims));
            async move {
                let told = writer
                    .apply(&claims[caller as usize])
                    .await
                    .expect("a null sink takes all");
                assert_eq!(told, [Outcome::Applied { created: true }]);
            }
        })
        .await;
        let updates = slice.done as f64;
        let used = match (cpu, cpu_time()) {
            (Some(before), Some(after)) => after - before,
            // No more than that: all threads, all the time.
            _ => begun.elapsed() * self.threads(),
        };
        let extra = match (self.allocations, allocations) {
            (Some(count), Some(before)) => (ALLOCATIONS, (count() - before) as f64 / updates),
            // Counting would be a part of it.
            _ => (CPU_US, used.as_secs_f64() * 1e6 / updates),
        };
        slice.extras.extend([extra]);
        let (flushes, flushed) = writer.flushed();
        let taken = sink.0.load(Ordering::Relaxed);
        assert_eq!(
            (taken, flushed),
            (slice.done, slice.done),
            "what was answered went out"
        );
        slice
            .extras
            .insert("updates a flush", flushed as f64 / flushes as f64);
        slice
    }
}

#[async_trait]
impl Contender for Ours {
    fn name(&self) -> String {
        if self.alone {
            "the writer over a null sink, one thread".into()
        } else {
            "the writer over a null sink".into()
        }
    }

    fn callers(&self) -> u64 {
        self.callers
    }

    async fn slice(&mut self) -> Slice {
        let ours = *self;
        if !ours.alone {
            return ours.play().await;
        }
        let work = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build();
            runtime.expect("a runtime").block_on(ours.play())
        });
        work.await.expect("it runs")
    }
}

/// Processor time of this process; `None` where the system does not tell as Linux does.
pub(crate) fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the program's name, which may hold anything: utime and stime are the 14th and 15th of all.
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    // A tick is 10 ms on every Linux.
    Some(Duration::from_millis((ticks()? + ticks()?) * 10))
}

/// Runs the contests of the writer.
///
/// # Panics
/// If an update is not answered.
pub async fn run(options: &Options) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for callers in [64, 1_024] {
        let ours = |alone| -> Box<dyn Contender> {
            Box::new(Ours {
                callers,
                length: options.slice(),
                alone,
                allocations: options.allocations,
            })
        };
        let workload = match options.allocations {
            Some(_) => "writer (allocations counted)",
            None => "writer",
        };
        verdicts.extend(contest(options, workload, vec![ours(true), ours(false)]).await);
    }
    verdicts
}
