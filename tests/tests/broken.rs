//! The suite notices: each deliberately broken backend fails the case that is there for its clause, and the
//! healthy one of the same build passes all.
//!
//! `cargo test --test broken -- --nocapture` prints by which cases each defect is noticed.

use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use libtest_mimic::{Arguments, Failed, Trial};
use persist_tests::broken::{BrokenStores, Defect, Lives, Rows, Writes};
use persist_tests::case::Case;
use persist_tests::schedule::{self, Search};
use persist_tests::{Verdict, cases, check_within};
use tokio::runtime::{Handle, Runtime};

/// Far above what a case takes on memory; a broken backend may hang its case.
const LIMIT: Duration = Duration::from_secs(60);

/// Cases at once.
const AT_ONCE: usize = 4;

/// Long ways over ground that other cases cover. They would take most of the time, so that only the healthy
/// backend and those that they are there for are asked, and the others with `--include-ignored`.
const LONG: [&str; 22] = [
    "batches::any_batch_is_as_one_by_one",
    "batches::every_order_of_a_batch_is_as_one_by_one",
    "batches::every_size_around_a_chunk_is_taken",
    "batches::i9_a_hundred_thousand_updates_are_one_batch",
    "batches::the_largest_updates_fit_into_a_batch",
    "concurrency::a_day_from_many_writers_is_the_same_day",
    "concurrency::x1_two_writers_of_two_endings_leave_one_and_tell_the_other",
    "concurrency::x2_the_same_update_from_many_tasks_is_applied_once",
    "concurrency::x3_forward_late_and_filling_updates_leave_the_fold",
    "exchange::lines_from_elsewhere_make_the_same_store_here",
    "exchange::lines_from_here_make_the_same_store_elsewhere",
    "exchange::the_same_store_gives_the_same_lines_as_memory",
    "join::a_day_in_any_batches_is_the_same_day",
    "join::a_day_in_any_order_is_the_same_day",
    "join::a_day_that_is_told_twice_is_told_once",
    "join::every_order_of_a_jobs_updates_gives_one_row",
    "join::two_stores_that_read_each_others_export_are_equal",
    "orphan_queries::what_is_younger_than_the_grace_is_not_told",
    "pages::every_size_of_page_walks_along_the_same_rows",
    "pages::streams_go_beyond_a_page",
    "queries::any_combination_of_filters_means_what_matches_says",
    "vm_queries::any_combination_of_filters_means_what_matches_says",
];

/// The cases that fail on these stores, with what they say, in the order of the table.
async fn failing(stores: BrokenStores, expected: &str, long: bool) -> Vec<(String, String)> {
    let asked = |case: &&Case| {
        let name = case.full_name();
        long || name == expected || !LONG.contains(&name.as_str())
    };
    let verdicts = stream::iter(cases().filter(asked)).map(|case| {
        let running = tokio::spawn(async move { check_within(LIMIT, case, &stores).await });
        async move {
            (
                case.full_name(),
                running.await.expect("the engine does not panic"),
            )
        }
    });
    let failed = verdicts
        .buffered(AT_ONCE)
        .filter_map(async |(case, verdict)| match verdict {
            Verdict::Failed(text) => Some((case, text)),
            Verdict::Passed | Verdict::Skipped(_) => None,
        });
    failed.collect().await
}

fn defect(defect: Defect, expected: &str, long: bool, runtime: &Handle) -> Result<(), Failed> {
    let failed = runtime.block_on(failing(BrokenStores(Some(defect)), expected, long));
    let noticed: Vec<_> = failed.iter().map(|(case, _)| case.as_str()).collect();
    println!(
        "{defect}: noticed by {} cases: {}",
        noticed.len(),
        noticed.join(", ")
    );
    if !cases().any(|case| case.full_name() == expected) {
        return Err(format!("there is no case {expected}; noticed by {noticed:?}").into());
    }
    if noticed.contains(&expected) {
        Ok(())
    } else {
        Err(format!("{expected} passes; noticed by {noticed:?}").into())
    }
}

fn healthy(runtime: &Handle) -> Result<(), Failed> {
    let known: Vec<_> = cases().map(Case::full_name).collect();
    if let Some(gone) = LONG.iter().find(|long| !known.iter().any(|name| name == *long)) {
        return Err(format!("there is no case {gone}").into());
    }
    match runtime.block_on(failing(BrokenStores(None), "", true)).as_slice() {
        [] => Ok(()),
        failed => Err(format!("fails {failed:#?}").into()),
    }
}

/// Defects that random schedules find, each with the most calls that are left of the schedule.
const SCHEDULED: [(Defect, usize); 13] = [
    (Defect::Write(Writes::StoresNothing), 1),
    (Defect::Write(Writes::LateIsDropped), 2),
    (Defect::Write(Writes::LateReadsApplied), 2),
    (Defect::Write(Writes::UnchangedReadsApplied), 2),
    (Defect::Write(Writes::RefusedIsError), 2),
    (Defect::Write(Writes::AlwaysCreated), 2),
    (Defect::Write(Writes::SecondEndingStands), 2),
    (Defect::Write(Writes::FillOverwrites), 2),
    (Defect::Write(Writes::RepetitionMovesTime), 2),
    (Defect::Job(Rows::GoesBackwards), 2),
    (Defect::Life(Lives::LostAtClose), 1),
    (Defect::Life(Lives::ReadsLag), 2),
    (Defect::Life(Lives::DroppedCallLeavesBusy), 2),
];

/// Far more schedules than any of them needs.
const MOST: u32 = 300;

fn scheduled(defect: Defect, calls: usize, runtime: &Handle) -> Result<(), Failed> {
    let asked = Search::new(1, MOST);
    let Err(found) = schedule::search(&BrokenStores(Some(defect)), asked, runtime) else {
        return Err(format!("{MOST} schedules don't notice").into());
    };
    println!("{defect}: {found}");
    if found.schedule.calls() > calls {
        return Err(format!("more calls are left than {calls}").into());
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let long = arguments.include_ignored;
    let runtime = Runtime::new().expect("the system gives threads");
    let handle = runtime.handle().clone();
    let mut trials = vec![Trial::test("healthy", move || healthy(&handle))];
    for (broken, expected) in Defect::all() {
        let handle = runtime.handle().clone();
        trials.push(Trial::test(broken.to_string(), move || {
            defect(broken, expected, long, &handle)
        }));
    }
    for (broken, calls) in SCHEDULED {
        let handle = runtime.handle().clone();
        trials.push(Trial::test(format!("schedule::{broken}"), move || {
            scheduled(broken, calls, &handle)
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
