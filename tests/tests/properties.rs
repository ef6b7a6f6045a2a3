//! The laws, on random updates and queries: each on every kind of store, as a test of its own. Numbers are those
//! of the table of failures.
//!
//! `PROPTEST_CASES` sets the number of cases of each.

use std::process::ExitCode;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use libtest_mimic::{Arguments, Failed, Trial};
use persist_core::{
    Claim, Error, EventOrder, FixedClock, Order, PersistBackend, PersistExt as _, Result, Slot, Update, jsonl,
};
use persist_tests::factory::{Factory as _, Store};
use persist_tests::stores::{Kind, Stores, Through};
use persist_tests::strategy::{self, Draft};
use persist_tests::whole::{self, Whole};
use persist_tests::{place, sample, walk};
use proptest::collection::vec;
use proptest::prelude::Strategy;
use proptest::test_runner::{TestCaseError, TestCaseResult};
use proptest::{prop_assert, prop_assert_eq};
use tokio::runtime::Runtime;

mod values;

/// Most updates of a case.
const MOST: usize = 40;

/// A law on one kind of store.
type Law = fn(Kind) -> Result<(), Failed>;

/// Those that any store must keep.
const LAWS: [(&str, Law); 9] = [
    ("x5_any_order_repetition_and_split_gives_the_same_store", join),
    ("rows_are_the_fold_of_their_history_whatever_comes", fold),
    ("outcomes_are_those_of_memory_one_by_one", outcomes),
    ("writers_at_once_give_the_same_store", writers),
    ("job_filters_and_orders_mean_what_matches_says", jobs),
    ("vm_filters_and_orders_mean_what_matches_says", vms),
    ("pages_of_the_history_see_each_slot_once", events),
    ("an_export_imported_anywhere_is_the_same_export", export),
    ("k3_i2_i4_what_was_checked_is_stored_to_the_byte", stored),
];

const KINDS: [Kind; 4] = [Kind::Memory, Kind::SqliteFile, Kind::SqliteMemory, Kind::Postgres];

/// Cases of a law: few where each costs a disk's patience.
fn cases(kind: Kind) -> u32 {
    match kind {
        Kind::Memory => 200,
        Kind::SqliteMemory => 60,
        Kind::SqliteFile => 30,
        Kind::Postgres | Kind::Pooler => 20,
    }
}

/// Holds a property to one store of this kind, emptied before each case.
fn hold<S: Strategy>(
    kind: Kind,
    strategy: S,
    property: &impl AsyncFn(&Store, S::Value) -> TestCaseResult,
) -> Result<(), Failed> {
    let runtime = Runtime::new()?;
    let store = runtime
        .block_on(Stores(kind, Through::Driver).fresh())
        .map_err(|error| format!("{error:?}"))?;
    let held = values::runner(cases(kind)).run(&strategy, |value| {
        runtime.block_on(async {
            whole::clear(store.backend()).await.map_err(failed)?;
            property(&store, value).await
        })
    });
    runtime
        .block_on(store.backend().close())
        .map_err(|error| format!("{error:?}"))?;
    held.map_err(|error| error.to_string().into())
}

#[expect(clippy::needless_pass_by_value, reason = "stands behind `map_err`")]
fn failed(error: Error) -> TestCaseError {
    TestCaseError::fail(format!("unexpected error: {error:?}"))
}

fn claims(drafts: &[Draft]) -> Vec<Claim> {
    sample::claims(strategy::updates(drafts)).expect("drafts keep the limits")
}

async fn apply(backend: &Arc<dyn PersistBackend>, drafts: &[Draft]) -> TestCaseResult {
    backend.apply(&claims(drafts)).await.map_err(failed)?;
    Ok(())
}

async fn read(backend: &Arc<dyn PersistBackend>) -> Result<Whole, TestCaseError> {
    whole::read(backend).await.map_err(failed)
}

/// What memory makes of these updates, one by one.
async fn expected(drafts: &[Draft]) -> Result<Whole, TestCaseError> {
    let memory: Arc<dyn PersistBackend> = Arc::new(persist_memory::MemoryBackend::new());
    for claim in claims(drafts) {
        memory.apply(&[claim]).await.map_err(failed)?;
    }
    read(&memory).await
}

fn join(kind: Kind) -> Result<(), Failed> {
    hold(
        kind,
        strategy::replays(MOST),
        &async |store, (drafts, batches)| {
            for batch in &batches {
                apply(store.backend(), batch).await?;
            }
            prop_assert_eq!(read(store.backend()).await?, expected(&drafts).await?);
            Ok(())
        },
    )
}

fn fold(kind: Kind) -> Result<(), Failed> {
    hold(
        kind,
        vec(strategy::drafts(MOST / 2), 1..4),
        &async |store, batches| {
            for batch in &batches {
                apply(store.backend(), batch).await?;
                place::fold_holds(store.backend()).await;
            }
            Ok(())
        },
    )
}

fn outcomes(kind: Kind) -> Result<(), Failed> {
    hold(kind, strategy::drafts(MOST), &async |store, drafts| {
        let memory = persist_memory::MemoryBackend::new();
        let mut one_by_one = Vec::new();
        for claim in claims(&drafts) {
            one_by_one.extend(memory.apply(&[claim]).await.map_err(failed)?);
        }
        let outcomes = store.backend().apply(&claims(&drafts)).await.map_err(failed)?;
        prop_assert_eq!(outcomes, one_by_one);
        prop_assert_eq!(read(store.backend()).await?, expected(&drafts).await?);
        Ok(())
    })
}

/// Sends a batch until it went through: after an error any part of it may stand, and again is safe.
async fn insist(backend: Arc<dyn PersistBackend>, claims: Vec<Claim>) -> Result<()> {
    loop {
        match backend.apply(&claims).await {
            Err(error) if error.is_retryable() => tokio::task::yield_now().await,
            ended => return ended.map(|_| ()),
        }
    }
}

fn writers(kind: Kind) -> Result<(), Failed> {
    hold(
        kind,
        strategy::replays(MOST),
        &async |store, (drafts, batches)| {
            let opened = store.open().await.transpose().map_err(failed)?;
            let second = opened.as_ref().unwrap_or_else(|| store.backend());
            let mut writers = tokio::task::JoinSet::new();
            for (n, batch) in batches.iter().enumerate() {
                let handle = if n % 2 == 0 { store.backend() } else { second };
                writers.spawn(insist(Arc::clone(handle), claims(batch)));
            }
            for written in writers.join_all().await {
                written.map_err(failed)?;
            }
            prop_assert_eq!(read(second).await?, expected(&drafts).await?);
            if let Some(second) = opened {
                second.close().await.map_err(failed)?;
            }
            Ok(())
        },
    )
}

fn jobs(kind: Kind) -> Result<(), Failed> {
    let cases = (strategy::drafts(MOST), vec(strategy::job_query(), 1..8));
    hold(kind, cases, &async |store, (drafts, queries)| {
        apply(store.backend(), &drafts).await?;
        let all = read(store.backend()).await?.jobs;
        for query in queries {
            let checked = query.check().map_err(failed)?;
            let after = checked.position().map_err(failed)?;
            let mut wanted: Vec<_> = all.iter().filter(|job| checked.matches(job)).cloned().collect();
            wanted.sort_by_key(|job| (job.created_at, job.request_id));
            match query.order {
                Order::OldestFirst => {
                    wanted.retain(|job| after.is_none_or(|place| (job.created_at, job.request_id) > place));
                }
                Order::NewestFirst => {
                    wanted.reverse();
                    wanted.retain(|job| after.is_none_or(|place| (job.created_at, job.request_id) < place));
                }
                Order::ById => {
                    wanted.sort_by_key(|job| job.request_id);
                    wanted.retain(|job| after.is_none_or(|(_, id)| job.request_id > id));
                }
            }
            let found = walk::jobs(store.backend(), query.clone()).await;
            let found = found.map_err(|stop| TestCaseError::fail(format!("{query:?}: {stop:?}")))?;
            prop_assert_eq!(found, wanted, "{:?}", query);
        }
        Ok(())
    })
}

fn vms(kind: Kind) -> Result<(), Failed> {
    let cases = (strategy::drafts(MOST), vec(strategy::vm_query(), 1..8));
    hold(kind, cases, &async |store, (drafts, queries)| {
        apply(store.backend(), &drafts).await?;
        let all = read(store.backend()).await?.vms;
        for query in queries {
            let checked = query.check().map_err(failed)?;
            let after = checked.position().map_err(failed)?;
            let after = after.as_ref();
            let mut wanted: Vec<_> = all.iter().filter(|vm| checked.matches(vm)).cloned().collect();
            wanted.sort_by_key(|vm| (vm.created_at, vm.key()));
            match query.order {
                Order::OldestFirst => {
                    wanted.retain(|vm| after.is_none_or(|place| (vm.created_at, vm.key()) > *place));
                }
                Order::NewestFirst => {
                    wanted.reverse();
                    wanted.retain(|vm| after.is_none_or(|place| (vm.created_at, vm.key()) < *place));
                }
                Order::ById => {
                    wanted.sort_by_key(persist_core::Vm::key);
                    wanted.retain(|vm| after.is_none_or(|(_, key)| vm.key() > *key));
                }
            }
            let found = walk::vms(store.backend(), query.clone()).await;
            let found = found.map_err(|stop| TestCaseError::fail(format!("{query:?}: {stop:?}")))?;
            prop_assert_eq!(found, wanted, "{:?}", query);
        }
        Ok(())
    })
}

fn events(kind: Kind) -> Result<(), Failed> {
    let cases = (
        vec(strategy::drafts(MOST / 2), 1..4),
        vec(strategy::event_query(), 1..6),
    );
    hold(kind, cases, &async |store, (batches, queries)| {
        for batch in &batches {
            apply(store.backend(), batch).await?;
        }
        let all = whole::history(store.backend()).await.map_err(failed)?;
        prop_assert!(all.is_sorted_by_key(|event| (event.subject.clone(), event.rank)));
        for query in queries {
            let mut wanted = all.clone();
            wanted.retain(|event| query.request_id.is_none_or(|id| event.subject.request_id() == id));
            if query.order == EventOrder::BySeq {
                wanted.sort_by_key(|event| event.seq);
            }
            let found = walk::events(store.backend(), query.clone()).await;
            let found = found.map_err(|stop| TestCaseError::fail(format!("{query:?}: {stop:?}")))?;
            prop_assert_eq!(found, wanted, "{:?}", query);
        }
        let mut numbers: Vec<_> = all.iter().map(|event| event.seq).collect();
        numbers.sort_unstable();
        prop_assert!(
            numbers.is_sorted_by(|one, next| one < next),
            "no number is given twice"
        );
        Ok(())
    })
}

/// Reads lines as an import does.
fn imported(lines: &[String]) -> Result<Vec<Claim>> {
    lines
        .iter()
        .map(|line| jsonl::parse(line)?.check(&FixedClock(sample::at(0))))
        .collect()
}

fn export(kind: Kind) -> Result<(), Failed> {
    hold(kind, strategy::drafts(MOST), &async |store, drafts| {
        let (here, elsewhere) = (store.backend(), persist_memory::MemoryBackend::new());
        apply(here, &drafts).await?;
        let before = read(here).await?;
        let lines: Vec<_> = here.export().try_collect().await.map_err(failed)?;
        prop_assert_eq!(&lines, &before.lines);
        elsewhere
            .apply(&imported(&lines).map_err(failed)?)
            .await
            .map_err(failed)?;
        let there: Vec<_> = elsewhere.export().try_collect().await.map_err(failed)?;
        prop_assert_eq!(&there, &lines);
        whole::clear(here).await.map_err(failed)?;
        let mut back = imported(&there).map_err(failed)?;
        back.reverse();
        here.apply(&back).await.map_err(failed)?;
        prop_assert_eq!(read(here).await?, before);
        Ok(())
    })
}

fn stored(kind: Kind) -> Result<(), Failed> {
    hold(kind, values::within_limits(), &async |store, update: Update| {
        let claim = update.check(&FixedClock(sample::at(0))).map_err(failed)?;
        store
            .backend()
            .apply(std::slice::from_ref(&claim))
            .await
            .map_err(failed)?;
        let history = whole::history(store.backend()).await.map_err(failed)?;
        prop_assert_eq!(history.len(), 1);
        prop_assert_eq!(&history[0].subject, claim.subject());
        prop_assert_eq!(history[0].slot(), Slot::claimed_by(&claim));
        prop_assert_eq!(jsonl::claim_line(&claim), jsonl::line(&history[0]));
        prop_assert_eq!(
            imported(&[jsonl::line(&history[0])]).map_err(failed)?,
            std::slice::from_ref(&claim)
        );
        place::fold_holds(store.backend()).await;
        values::is_found(store.backend(), &claim).await
    })
}

fn main() -> ExitCode {
    let mut trials = values::trials();
    for kind in KINDS {
        let store = Stores(kind, Through::Driver).name();
        trials.extend(LAWS.map(|(name, law)| Trial::test(format!("{name}[{store}]"), move || law(kind))));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
