//! The engine: every case as a test of its own, in parallel, on a fresh store.

use std::any::Any;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::{Builder, Handle};

use crate::case::{Case, CaseResult, Ctx, Stop};
use crate::cases::GROUPS;
use crate::factory::Factory;
use crate::schedule::{self, Search};

/// How long a case may take, its store included. A backend that hangs is told from one that is slow by this.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The name of the trial that is no case.
const SCHEDULES: &str = "schedule::what_was_acknowledged_is_there_whatever_failed";

/// Cases at once, unless `--test-threads` says otherwise. They wait for disks more than they compute.
const AT_ONCE: usize = 8;

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The clause holds.
    Passed,
    /// It is broken: which, and how.
    Failed(String),
    /// This kind of store can't be asked: why.
    Skipped(String),
}

/// The table of all cases.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    GROUPS.iter().copied().flatten()
}

/// Runs one case on a fresh store, and after it the check that every row is the fold of its history.
pub async fn check(case: &Case, factory: &dyn Factory) -> Verdict {
    check_within(LIMIT, case, factory).await
}

/// The same for backends that are known to hang.
pub async fn check_within(limit: Duration, case: &Case, factory: &dyn Factory) -> Verdict {
    let name = case.full_name();
    if let Some(reason) = factory.skip(&name) {
        return Verdict::Skipped(reason.to_owned());
    }
    let store = match tokio::time::timeout(limit, factory.fresh_for(&name)).await {
        Ok(Ok(store)) => store,
        Ok(Err(error)) => return Verdict::Failed(format!("the factory made no store: {error:?}")),
        Err(_) => return hung(limit, "the factory made no store"),
    };
    // In a task: it may panic, or block its thread for ever.
    let mut running = tokio::spawn(whole(*case, Arc::new(Ctx::new(store))));
    let ended = tokio::time::timeout(limit, &mut running).await;
    match ended {
        Ok(Ok(Ok(()))) => Verdict::Passed,
        Ok(Ok(Err(Stop::Failed(text)))) => Verdict::Failed(text),
        Ok(Ok(Err(Stop::Skipped(reason)))) => Verdict::Skipped(reason),
        Ok(Err(died)) => Verdict::Failed(format!("panicked: {}", panic_text(died.into_panic()))),
        Err(_) => {
            running.abort();
            hung(limit, "the case did not end")
        }
    }
}

async fn whole(case: Case, ctx: Arc<Ctx>) -> CaseResult {
    let ended = (case.run)(Arc::clone(&ctx)).await;
    let ended = match ended {
        Ok(()) => ctx.close_out().await,
        stopped => stopped,
    };
    let closed = ctx.backend().close().await;
    ended?;
    closed.map_err(|error| Stop::Failed(format!("a store can be closed after its case: {error}")))
}

fn hung(limit: Duration, what: &str) -> Verdict {
    Verdict::Failed(format!("bounded: {what} within {} s", limit.as_secs_f32()))
}

fn panic_text(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic
            .downcast::<&str>()
            .unwrap_or_else(|_| Box::new("without a text")))
        .to_owned(),
    }
}

/// Runs the suite on one kind of store, with the arguments of the command line.
///
/// # Panics
/// If the system gives no thread.
pub fn run(factory: impl Factory) -> ExitCode {
    run_all(vec![Arc::new(factory)])
}

/// Runs the suite on many kinds of stores.
///
/// # Panics
/// If the system gives no thread.
pub fn run_all(factories: Vec<Arc<dyn Factory>>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    // More threads than cases: one that blocks its own must not stop the clock of the others.
    let threads = arguments.test_threads.map_or(AT_ONCE, |threads| threads + 2);
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build();
    let runtime = runtime.expect("the system gives threads");
    // The longest first, so that the end waits for none.
    let mut trials: Vec<_> = factories
        .iter()
        .map(|factory| schedules(factory, runtime.handle()))
        .collect();
    for factory in factories {
        trials.extend(cases().map(|case| trial(case, &factory, runtime.handle())));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // A case that hung may hold a thread for ever.
    runtime.shutdown_background();
    conclusion.exit_code()
}

fn trial(case: &'static Case, factory: &Arc<dyn Factory>, runtime: &Handle) -> Trial {
    let name = format!("{}[{}]", case.full_name(), factory.name());
    let (factory, runtime) = (Arc::clone(factory), runtime.clone());
    Trial::ignorable_test(name, move || match runtime.block_on(check(case, &*factory)) {
        Verdict::Passed => Ok(Completion::Completed),
        Verdict::Skipped(reason) => Ok(Completion::ignored_with(reason)),
        Verdict::Failed(text) => Err(Failed::from(text)),
    })
}

/// Random schedules, and a line on how many there were.
fn schedules(factory: &Arc<dyn Factory>, runtime: &Handle) -> Trial {
    let name = format!("{SCHEDULES}[{}]", factory.name());
    let (factory, runtime) = (Arc::clone(factory), runtime.clone());
    Trial::ignorable_test(name.clone(), move || {
        if let Some(reason) = factory.skip(SCHEDULES) {
            return Ok(Completion::ignored_with(reason));
        }
        let asked = Search::asked();
        let covered = schedule::search(&*factory, asked, &runtime).map_err(Failed::from)?;
        println!("{name}: {covered}, of seed {}", asked.seed);
        Ok(Completion::Completed)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, channel};

    use persist_core::Result;
    use persist_memory::MemoryBackend;

    use super::*;
    use crate::factory::Store;

    struct Memory;

    #[async_trait::async_trait]
    impl Factory for Memory {
        fn name(&self) -> String {
            "memory".into()
        }
        async fn fresh(&self) -> Result<Store> {
            Ok(Store::new(Arc::new(MemoryBackend::new())))
        }
        fn skip(&self, case: &str) -> Option<&'static str> {
            (case == "engine::left_out").then_some("it is left out")
        }
    }

    fn case(
        name: &'static str,
        run: fn(Arc<Ctx>) -> futures_util::future::BoxFuture<'static, CaseResult>,
    ) -> Case {
        let group = "engine";
        Case { name, group, run }
    }

    async fn verdict(case: Case) -> Verdict {
        check(&case, &Memory).await
    }

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let names: Vec<_> = cases().map(Case::full_name).collect();
        let distinct: BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn each_end_of_a_case_is_told_apart() {
        assert_eq!(
            verdict(case("passes", |_| Box::pin(async { Ok(()) }))).await,
            Verdict::Passed
        );
        let failing = case("fails", |_| Box::pin(async { Err("a clause".into()) }));
        assert_eq!(
            verdict(failing).await,
            Verdict::Failed("unexpected error: a clause".into())
        );
        let panicking = case("panics", |_| Box::pin(async { panic!("out of {}", "range") }));
        assert_eq!(
            verdict(panicking).await,
            Verdict::Failed("panicked: out of range".into())
        );
        let skipping = case("skips", |_| {
            Box::pin(async { Err(Stop::Skipped("no second handle".into())) })
        });
        assert_eq!(
            verdict(skipping).await,
            Verdict::Skipped("no second handle".into())
        );
        let left_out = case("left_out", |_| Box::pin(async { Err("it is not run".into()) }));
        assert_eq!(verdict(left_out).await, Verdict::Skipped("it is left out".into()));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_case_that_hangs_has_failed() {
        let limit = Duration::from_millis(200);
        let waiting = case("waits", |_| Box::pin(std::future::pending()));
        let hung = "bounded: the case did not end within 0.2 s";
        assert_eq!(
            check_within(limit, &waiting, &Memory).await,
            Verdict::Failed(hung.into())
        );

        // One that blocks its thread, until the test is over.
        static END: Mutex<Option<Receiver<()>>> = Mutex::new(None);
        let (end, ended) = channel();
        *END.lock().unwrap() = Some(ended);
        let blocking = case("blocks", |_| {
            Box::pin(async {
                let ended = END.lock().unwrap().take().unwrap();
                ended.recv().unwrap();
                Ok(())
            })
        });
        assert_eq!(
            check_within(limit, &blocking, &Memory).await,
            Verdict::Failed(hung.into())
        );
        end.send(()).unwrap();
    }
}
