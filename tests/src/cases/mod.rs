//! The table of cases: a file for each group.

use crate::case::Case;

mod attributes;
mod batches;
mod cancelling;
mod concurrency;
mod cursors;
mod history;
mod input;
mod join;
mod limits;
mod outcomes;
mod pages;
mod queries;
mod repo_urls;
mod times;
mod vm_queries;
mod vms;

/// All cases, group by group.
pub(crate) const GROUPS: &[&[Case]] = &[outcomes::CASES, vms::CASES, join::CASES, attributes::CASES, batches::CASES, limits::CASES, input::CASES, repo_urls::CASES, times::CASES, queries::CASES, vm_queries::CASES, pages::CASES, cursors::CASES, history::CASES, concurrency::CASES, cancelling::CASES];

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
