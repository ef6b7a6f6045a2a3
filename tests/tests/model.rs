//! Random sequences of operations, step by step on a SQL store and on memory: the answers are the same.
//!
//! `PROPTEST_CASES` sets the number of sequences. The number of a test is that of the table of failures.

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use persist_core::{
    Cursor, Error, EventOrder, EventQuery, JobQuery, Order, PersistBackend, Position, Prune, Result, Subject,
    VmQuery, jsonl,
};
use persist_memory::MemoryBackend;
use persist_tests::factory::{Factory as _, Store};
use persist_tests::stores::{Kind, Stores, Through};
use persist_tests::strategy::{self, Draft};
use persist_tests::{place, sample, whole};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestCaseError, TestCaseResult, TestRunner};
use proptest::{prop_assert, prop_assert_eq};
use tokio::runtime::Runtime;

/// Something to do with a store.
#[derive(Debug, Clone)]
enum Operation {
    Apply(Vec<Draft>),
    Read(Subject),
    /// A page, and the next ones, at most so many in all.
    Jobs(JobQuery, usize),
    Vms(VmQuery, usize),
    Events(EventQuery, usize),
    Prune(Prune),
    /// Closes the handle; what comes is asked of a new one.
    Reopen,
}

/// A query as it is, or with a limit or a cursor that is refused.
fn spoiled<Q: Clone + std::fmt::Debug>(
    query: impl Strategy<Value = Q>,
    spoil: fn(Q, u32, Option<Cursor>) -> Q,
) -> impl Strategy<Value = Q> {
    let foreign = Cursor::encode(&Position::EventSeq(sample::id(9), 1));
    let by_key = Cursor::encode(&Position::EventKey(sample::id(2), "vm".into(), 4));
    let job = Cursor::encode(&Position::Job(Order::OldestFirst, sample::at(0), sample::id(2)));
    let vm = Cursor::encode(&Position::Vm(
        Order::ById,
        sample::at(0),
        sample::id(2),
        "vm".into(),
    ));
    let cursors = vec![
        foreign,
        by_key,
        job,
        vm,
        Cursor::from_text("AAAA"),
        Cursor::from_text(""),
    ];
    let limits = prop_oneof![Just(0_u32), Just(1_001), Just(u32::MAX)];
    (query, 0..20_u32, limits, proptest::sample::select(cursors)).prop_map(
        move |(query, luck, limit, cursor)| match luck {
            0 => spoil(query, limit, None),
            1 | 2 => spoil(query, 10, Some(cursor)),
            _ => query,
        },
    )
}

fn operation() -> impl Strategy<Value = Operation> {
    let jobs = spoiled(strategy::job_query(), |query, limit, after| {
        query.limit(limit).after(after)
    });
    let vms = spoiled(strategy::vm_query(), |query, limit, after| {
        query.limit(limit).after(after)
    });
    let events = spoiled(strategy::event_query(), |query, limit, after| {
        query.limit(limit).after(after)
    });
    prop_oneof![
        5 => strategy::drafts(12).prop_map(Operation::Apply),
        2 => strategy::subject().prop_map(Operation::Read),
        2 => (jobs, 1..4_usize).prop_map(|(query, pages)| Operation::Jobs(query, pages)),
        2 => (vms, 1..4_usize).prop_map(|(query, pages)| Operation::Vms(query, pages)),
        2 => (events, 1..4_usize).prop_map(|(query, pages)| Operation::Events(query, pages)),
        2 => strategy::prune().prop_map(Operation::Prune),
        1 => any::<()>().prop_map(|()| Operation::Reopen),
    ]
}

/// What can be compared of an answer: its value, or kind and field of its error.
type Answer<T> = Result<T, (&'static str, Option<String>)>;

fn answer<T>(result: Result<T>) -> Answer<T> {
    result.map_err(|error: Error| (error.kind().name(), error.context("field").map(str::to_owned)))
}

#[expect(clippy::needless_pass_by_value, reason = "stands behind `map_err`")]
fn failed(error: Error) -> TestCaseError {
    TestCaseError::fail(format!("unexpected error: {error:?}"))
}

/// The store under test beside the model.
struct Pair {
    store: Arc<dyn PersistBackend>,
    model: Arc<dyn PersistBackend>,
}

impl Pair {
    async fn step(&mut self, home: &Store, operation: &Operation) -> TestCaseResult {
        let Self { store, model } = self;
        match operation {
            Operation::Apply(drafts) => {
                let claims = sample::claims(strategy::updates(drafts)).map_err(failed)?;
                prop_assert_eq!(
                    answer(store.apply(&claims).await),
                    answer(model.apply(&claims).await)
                );
            }
            Operation::Read(Subject::Job(id)) => {
                prop_assert_eq!(answer(store.job(*id).await), answer(model.job(*id).await));
            }
            Operation::Read(Subject::Vm(key)) => {
                prop_assert_eq!(answer(store.vm(key).await), answer(model.vm(key).await));
            }
            Operation::Jobs(query, pages) => {
                let mut query = query.clone();
                for _ in 0..*pages {
                    let page = answer(store.jobs(&query).await);
                    prop_assert_eq!(&page, &answer(model.jobs(&query).await));
                    let Ok(Some(next)) = page.map(|page| page.next) else {
                        break;
                    };
                    query = query.after(Some(next));
                }
            }
            Operation::Vms(query, pages) => {
                let mut query = query.clone();
                for _ in 0..*pages {
                    let page = answer(store.vms(&query).await);
                    prop_assert_eq!(&page, &answer(model.vms(&query).await));
                    let Ok(Some(next)) = page.map(|page| page.next) else {
                        break;
                    };
                    query = query.after(Some(next));
                }
            }
            Operation::Events(query, pages) => self.events(query.clone(), *pages).await?,
            Operation::Prune(request) => {
                let mut request = request.clone();
                // Some calls, each from where the one before it ended.
                for _ in 0..3 {
                    let expected = answer(model.prune(&request).await);
                    prop_assert_eq!(answer(store.prune(&request).await), expected.clone());
                    match expected.ok().and_then(|pruned| pruned.next) {
                        Some(next) => request = request.after(Some(next)),
                        None => break,
                    }
                }
            }
            Operation::Reopen => {
                let Some(opened) = home.open().await else {
                    return Ok(());
                };
                let closed = std::mem::replace(store, opened.map_err(failed)?);
                closed.close().await.map_err(failed)?;
                prop_assert_eq!(
                    answer(closed.apply(&[]).await).err().map(|(kind, _)| kind),
                    Some("closed")
                );
            }
        }
        Ok(())
    }

    /// Pages of the history. Numbers and cursors by them are each store's own, and so is the order by them inside
    /// of a batch.
    async fn events(&self, mut query: EventQuery, pages: usize) -> TestCaseResult {
        let mut theirs = query.clone();
        for _ in 0..pages {
            let (found, wanted) = (self.store.events(&query).await, self.model.events(&theirs).await);
            let (found, wanted) = match (answer(found), answer(wanted)) {
                (Ok(found), Ok(wanted)) => (found, wanted),
                (found, wanted) => {
                    prop_assert_eq!(found.err(), wanted.err());
                    return Ok(());
                }
            };
            prop_assert_eq!(found.items.len(), wanted.items.len());
            prop_assert_eq!(found.next.is_some(), wanted.next.is_some());
            match query.order {
                EventOrder::ByKey => {
                    let lines =
                        |events: &[persist_core::Event]| events.iter().map(jsonl::line).collect::<Vec<_>>();
                    prop_assert_eq!(lines(&found.items), lines(&wanted.items));
                    prop_assert_eq!(&found.next, &wanted.next);
                }
                EventOrder::BySeq => {
                    prop_assert!(found.items.is_sorted_by(|one, next| one.seq < next.seq));
                }
            }
            if found.next.is_none() {
                break;
            }
            (query, theirs) = (query.after(found.next), theirs.after(wanted.next));
        }
        Ok(())
    }
}

/// So many sequences on each kind of store, fewer where each step waits for a disk.
fn sequences(kind: Kind) -> u32 {
    match kind {
        Kind::Memory | Kind::SqliteMemory => 100,
        Kind::SqliteFile => 40,
        Kind::Postgres | Kind::Pooler => 40,
    }
}

fn x6_any_sequence_is_answered_as_by_memory(kind: Kind) -> Result<(), Failed> {
    let runtime = Runtime::new()?;
    let home = runtime
        .block_on(Stores(kind, Through::Driver).fresh())
        .map_err(|error| format!("{error:?}"))?;
    let told = std::env::var_os("PROPTEST_CASES").is_some();
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 1_000,
        ..Config::default()
    };
    let cases = if told { config.cases } else { sequences(kind) };
    let held = TestRunner::new(Config { cases, ..config }).run(&vec(operation(), 1..25), |operations| {
        runtime.block_on(async {
            whole::clear(home.backend()).await.map_err(failed)?;
            let model: Arc<dyn PersistBackend> = Arc::new(MemoryBackend::new());
            let opened = home.open().await.transpose().map_err(failed)?;
            let has_handles = opened.is_some();
            let store = opened.unwrap_or_else(|| Arc::clone(home.backend()));
            let mut pair = Pair { store, model };
            for (n, operation) in operations.iter().enumerate() {
                let step = pair.step(&home, operation).await;
                step.map_err(|error| TestCaseError::fail(format!("step {n}, {operation:?}: {error}")))?;
            }
            place::fold_holds(&pair.store).await;
            prop_assert_eq!(
                whole::read(&pair.store).await.map_err(failed)?,
                whole::read(&pair.model).await.map_err(failed)?
            );
            if has_handles {
                pair.store.close().await.map_err(failed)?;
            }
            Ok(())
        })
    });
    runtime
        .block_on(home.backend().close())
        .map_err(|error| format!("{error:?}"))?;
    held.map_err(|error| error.to_string().into())
}

fn main() -> ExitCode {
    let kinds = [Kind::Memory, Kind::SqliteFile, Kind::SqliteMemory, Kind::Postgres];
    let trials = kinds.map(|kind| {
        let name = format!(
            "x6_any_sequence_is_answered_as_by_memory[{}]",
            Stores(kind, Through::Driver).name()
        );
        Trial::test(name, move || x6_any_sequence_is_answered_as_by_memory(kind))
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}
