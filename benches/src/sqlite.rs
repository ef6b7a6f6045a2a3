//! SQLite against what one writes with rusqlite by hand.

mod by_hand;
mod ours;
mod step;
pub(crate) mod store;
mod tokio_rusqlite;

use std::sync::Arc;

use crate::Options;
use crate::contest::{Contender, contest};
use crate::sweep::{CALLERS, sweep};
use crate::verdict::Verdict;
use by_hand::Rusqlite;
use ours::{Import, Ours, Reads};
use store::Store;
use tokio_rusqlite::TokioRusqlite;

/// Runs the contests of SQLite.
pub async fn run(options: &Options) -> Vec<Verdict> {
    let length = options.slice();
    let of_file = |callers, is_plain| -> Box<dyn Contender> {
        Box::new(Ours {
            callers,
            is_plain,
            length,
        })
    };
    let ours = |callers| of_file(callers, false);
    let by_hand = |in_one, of_callers| -> Box<dyn Contender> {
        Box::new(Rusqlite {
            length,
            in_one,
            of_callers,
        })
    };
    let program = tokio_rusqlite::build().await;
    let threaded = |callers| -> Box<dyn Contender> {
        Box::new(TokioRusqlite {
            program: program.clone(),
            callers,
            length,
        })
    };
    let mut verdicts = Vec::new();
    for callers in [64, 2_048] {
        let contenders = vec![
            ours(callers),
            of_file(callers, true),
            by_hand(false, callers),
            by_hand(true, callers),
            by_hand(true, 1),
            threaded(callers),
        ];
        verdicts.extend(contest(options, "lite-callers", contenders).await);
    }
    let jobs = options.rows / 50;
    let filled = Arc::new(Store::filled(jobs).await);
    let reads = |writers| -> Box<dyn Contender> {
        Box::new(Reads {
            filled: Arc::clone(&filled),
            jobs,
            readers: 4,
            writers,
            length,
        })
    };
    verdicts.extend(contest(options, "lite-mixed", vec![reads(64), reads(0)]).await);
    let import: Vec<Box<dyn Contender>> = vec![Box::new(Import(length)), by_hand(true, 1)];
    verdicts.extend(contest(options, "import (SQLite)", import).await);
    let mut all: Vec<_> = CALLERS.map(ours).into();
    all.push(by_hand(false, 64));
    verdicts.extend(sweep(options, "lite-sweep", all).await);
    verdicts
}
