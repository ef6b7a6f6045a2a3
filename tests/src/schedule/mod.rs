//! Random schedules of calls and faults on any backend: whatever happens to its callers, the store is what they were
//! told.
//!
//! A [`Schedule`] has a few callers at once, whose calls fail before or after they ran, are delayed, freeze or are
//! dropped. Afterwards all that was acknowledged must be in the store as it was told, what is unknown may be there,
//! nothing else is, and each row is the fold of its history. A schedule that ends otherwise is shrunk to a
//! few calls that still do.
//!
//! [`run`](crate::run) does this to every kind of store for a second. `PROPTEST_CASES` asks for a number of
//! schedules instead, and `PROPTEST_RNG_SEED` for those that a run has printed.

mod judge;
mod plan;
mod play;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use persist_core::PersistBackend;
use proptest::strategy::Strategy as _;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};
use tokio::runtime::Handle;

pub use self::plan::{Call, Mishap, Schedule, Step};
use crate::factory::{Factory, Store};
use crate::whole;

/// How long schedules are run where no number is asked for.
pub const SHORT: Duration = Duration::from_secs(1);

/// How many schedules, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Search {
    /// The same seed gives the same schedules.
    pub seed: u64,
    /// So many.
    pub schedules: u32,
    /// But none is begun after this time.
    pub within: Duration,
}

impl Search {
    /// What `PROPTEST_CASES` and `PROPTEST_RNG_SEED` ask for; else a second of any.
    pub fn asked() -> Self {
        let config = Config::default();
        let many = std::env::var_os("PROPTEST_CASES").is_some();
        let seed = match config.rng_seed {
            RngSeed::Fixed(seed) => seed,
            RngSeed::Random => rand::random(),
        };
        Self {
            seed,
            schedules: if many { config.cases } else { u32::MAX },
            within: if many { Duration::MAX } else { SHORT },
        }
    }

    /// So many schedules of this seed.
    pub fn new(seed: u64, schedules: u32) -> Self {
        Self {
            seed,
            schedules,
            within: Duration::MAX,
        }
    }
}

/// What was gone through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Covered {
    /// Schedules that were run.
    pub schedules: u64,
    /// Their calls.
    pub calls: u64,
    /// The updates in these.
    pub updates: u64,
    /// Calls that the layer of faults struck.
    pub faults: u64,
    /// Calls that their callers dropped.
    pub drops: u64,
}

impl fmt::Display for Covered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            schedules,
            calls,
            updates,
            faults,
            drops,
        } = self;
        write!(
            f,
            "{schedules} schedules, {calls} calls, {updates} updates, {faults} faults, {drops} calls dropped"
        )
    }
}

/// A schedule after which the store is not what its callers were told.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Broken {
    /// Of the search that found it.
    pub seed: u64,
    /// What is left of it after shrinking.
    pub schedule: Schedule,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, schedule, why } = self;
        write!(
            f,
            "{why}\nafter these calls (PROPTEST_RNG_SEED={seed} finds them):\n{schedule}"
        )
    }
}

/// Runs schedules on stores of one kind, until one ends wrong.
///
/// # Errors
/// The shrunk schedule. Where callers raced it may hold calls that are not needed.
///
/// # Panics
/// If it is called inside of a runtime's task: it waits for the stores.
pub fn search(factory: &dyn Factory, search: Search, runtime: &Handle) -> Result<Covered, Box<Broken>> {
    let config = Config {
        rng_seed: RngSeed::Fixed(search.seed),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let (begun, strategy) = (Instant::now(), plan::schedules());
    let (mut runner, mut covered) = (TestRunner::new(config), Covered::default());
    let home = RefCell::new(None);
    let mut found = None;
    while found.is_none() && covered.schedules < u64::from(search.schedules) {
        if covered.schedules > 0 && begun.elapsed() > search.within {
            break;
        }
        let tree = strategy.new_tree(&mut runner).expect("every value is allowed");
        let more = Cell::new(Covered::default());
        let held = runner.run_one(tree, |schedule| {
            let ended = runtime.block_on(one(factory, &mut home.borrow_mut(), &schedule));
            more.set(ended.map_err(TestCaseError::fail)?);
            Ok(())
        });
        match held {
            Ok(_) => covered.add(more.get()),
            Err(TestError::Fail(why, schedule)) => found = Some((why.to_string(), schedule)),
            Err(TestError::Abort(why)) => panic!("no schedule is given up: {why}"),
        }
    }
    if let Some(store) = home.into_inner() {
        let _ = runtime.block_on(Store::backend(&store).close());
    }
    let seed = search.seed;
    match found {
        None => Ok(covered),
        Some((why, schedule)) => Err(Box::new(Broken { seed, schedule, why })),
    }
}

impl Covered {
    fn add(&mut self, more: Self) {
        self.schedules += more.schedules;
        self.calls += more.calls;
        self.updates += more.updates;
        self.faults += more.faults;
        self.drops += more.drops;
    }
}

/// One schedule on an empty store: on a new handle of one that is kept, or on a new one where there is one handle.
async fn one(
    factory: &dyn Factory,
    home: &mut Option<Store>,
    schedule: &Schedule,
) -> Result<Covered, String> {
    let store = match home.take() {
        Some(store) => store,
        None => {
            let made = factory.fresh().await;
            made.map_err(|error| format!("the factory made no store: {error:?}"))?
        }
    };
    let opened = store.open().await.transpose();
    let opened = opened.map_err(|error| format!("no second handle was opened: {error:?}"))?;
    let has_handles = opened.is_some();
    let handle = opened.unwrap_or_else(|| Arc::clone(store.backend()));
    let played = play::play(&handle, schedule).await?;
    // What was accepted is finished, so that nothing comes of dropped calls later.
    let history = if has_handles {
        close(&handle).await?;
        play::settled(store.backend()).await?
    } else {
        let history = play::settled(&handle).await?;
        close(&handle).await?;
        history
    };
    judge::judge(&played.said, &history)?;
    if has_handles {
        let cleared = whole::clear(store.backend()).await;
        cleared.map_err(|error| format!("the store can't be emptied: {error:?}"))?;
        *home = Some(store);
    }
    Ok(Covered {
        schedules: 1,
        calls: schedule.calls() as u64,
        updates: played.said.len() as u64,
        faults: played.faults,
        drops: played.drops,
    })
}

async fn close(handle: &Arc<dyn PersistBackend>) -> Result<(), String> {
    let closed = handle.close().await;
    closed.map_err(|error| format!("a handle can't be closed: {error:?}"))
}
