//! The table of cases: a file or two for each group.

use crate::case::Case;

mod attributes;
mod batches;
mod cancelling;
mod changes;
mod changes_pruned;
mod chunks;
mod closing;
mod concurrency;
mod cursors;
mod endings;
mod exchange;
mod health;
mod history;
mod input;
mod inspect;
mod join;
mod keys;
mod ledger;
mod limits;
mod orders;
mod orphan_queries;
mod orphans;
mod outcomes;
mod owners;
mod pages;
mod prune;
mod prune_beside_writers;
mod prune_calls;
mod prune_walks;
mod queries;
mod reading;
mod refusal_queries;
mod repo_urls;
mod times;
mod told;
mod transfer;
mod verify;
mod vm_queries;
mod vms;
mod walks;

/// All cases, file by file.
pub(crate) const GROUPS: &[&[Case]] = &[
    outcomes::CASES,
    endings::CASES,
    vms::CASES,
    join::CASES,
    attributes::CASES,
    batches::CASES,
    chunks::CASES,
    limits::CASES,
    keys::CASES,
    input::CASES,
    repo_urls::CASES,
    times::CASES,
    queries::CASES,
    orders::CASES,
    vm_queries::CASES,
    pages::CASES,
    walks::CASES,
    cursors::CASES,
    history::CASES,
    changes::CASES,
    changes_pruned::CASES,
    exchange::CASES,
    concurrency::CASES,
    reading::CASES,
    cancelling::CASES,
    prune::CASES,
    prune_calls::CASES,
    prune_walks::CASES,
    prune_beside_writers::CASES,
    verify::CASES,
    told::CASES,
    transfer::CASES,
    health::CASES,
    owners::CASES,
    orphans::CASES,
    orphan_queries::CASES,
    ledger::CASES,
    refusal_queries::CASES,
    closing::CASES,
    inspect::CASES,
];

/// The table of a group. A case is the function of its name.
macro_rules! cases {
    ($group:literal: $($name:ident),+ $(,)?) => {
        pub(super) const CASES: &[$crate::case::Case] = &[$($crate::case::Case {
            name: stringify!($name),
            group: $group,
            run: |ctx| Box::pin(async move { $name(&ctx).await }),
        }),+];
    };
}

use cases;
