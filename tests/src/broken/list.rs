//! Defects of the lists of jobs and VMs: filters, order, pages, cursors.

use super::page::{Asked, Line};
use super::{Broken, Defect};
use futures_util::TryStreamExt as _;
use persist_core::{Cursor, Job, JobQuery, Order, Page, PersistExt as _, Position, Result, Vm, VmQuery};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lists {
    /// The row at the border of two pages is left out.
    BorderIsSkipped,
    /// The row at the border of two pages comes twice.
    BorderIsDoubled,
    /// Pages are counted off, so that a new row shifts them.
    PagesAreOffsets,
    /// The limit is not kept.
    LimitIsIgnored,
    /// A limit of 0 is taken.
    LimitOfZeroIsTaken,
    /// A limit above the largest is taken.
    HugeLimitIsTaken,
    /// A full last page has a next one.
    LastPageHasNext,
    /// A page has no next one.
    NextIsMissing,
    /// A damaged cursor is the start.
    DamagedCursorIsStart,
    /// A cursor of another listing is the start.
    ForeignCursorIsStart,
    /// A cursor of another order is taken.
    OtherOrdersCursorIsTaken,
    /// The oldest come last, whatever was asked.
    OrderIsIgnored,
    /// Lists go by `updated_at`.
    OrderedByUpdate,
    /// Rows of one time ascend by id, also when the newest come first.
    TiesAscend,
    /// Names of VMs are ordered without their letter case.
    NamesFoldCase,
    /// Texts match in any letter case.
    TextsFoldCase,
    /// `%` and `_` in a filter match anything.
    TextsArePatterns,
    /// A commit is only found whole.
    CommitIsWhole,
    /// A commit is found by any part of it.
    CommitIsAnyPart,
    /// Filters are compared as they are typed.
    FiltersAreRaw,
    /// The filter by runner label, and by hypervisor back end, lets everything pass.
    FilterIsIgnored,
    /// Rows without a value pass a filter by it.
    BlankPassesFilter,
    /// Only the first of several states counts.
    OneStateCounts,
    /// Who asks for ended rows gets the live ones too.
    EndedIncludesLive,
    /// The end of a range of times belongs to it.
    UntilIsInclusive,
    /// The beginning of a range of times does not belong to it.
    FromIsExclusive,
    /// A range of times is about `updated_at`.
    RangeIsOfUpdate,
    /// The end of a range of ids does not belong to it.
    LastIdIsExclusive,
}

/// Of jobs, with the case that notices.
pub(super) const JOBS: &[(Lists, &str)] = &[
    (
        Lists::BorderIsSkipped,
        "pages::every_size_of_page_walks_along_the_same_rows",
    ),
    (
        Lists::BorderIsDoubled,
        "pages::every_size_of_page_walks_along_the_same_rows",
    ),
    (
        Lists::PagesAreOffsets,
        "pages::x4_jobs_are_seen_once_while_others_come",
    ),
    (Lists::LimitIsIgnored, "pages::a_page_of_one_row_is_a_page"),
    (
        Lists::LimitOfZeroIsTaken,
        "pages::a_limit_outside_of_its_range_is_refused",
    ),
    (
        Lists::HugeLimitIsTaken,
        "pages::a_limit_outside_of_its_range_is_refused",
    ),
    (
        Lists::LastPageHasNext,
        "pages::as_many_rows_as_the_limit_are_the_last_page",
    ),
    (
        Lists::NextIsMissing,
        "pages::every_size_of_page_walks_along_the_same_rows",
    ),
    (
        Lists::DamagedCursorIsStart,
        "cursors::a_damaged_cursor_is_refused",
    ),
    (
        Lists::ForeignCursorIsStart,
        "cursors::a_cursor_of_another_listing_is_refused",
    ),
    (
        Lists::OtherOrdersCursorIsTaken,
        "cursors::a_cursor_of_another_order_is_refused",
    ),
    (Lists::OrderIsIgnored, "queries::jobs_are_listed_in_each_order"),
    (
        Lists::OrderedByUpdate,
        "queries::jobs_are_listed_by_creation_and_not_by_update",
    ),
    (Lists::TiesAscend, "queries::jobs_of_one_time_are_ordered_by_id"),
    (Lists::TextsFoldCase, "input::i5_case_is_told_apart"),
    (
        Lists::TextsArePatterns,
        "input::i4_wildcards_and_escapes_are_found_literally",
    ),
    (
        Lists::CommitIsWhole,
        "queries::jobs_are_found_by_the_beginning_of_a_commit",
    ),
    (
        Lists::CommitIsAnyPart,
        "queries::jobs_are_found_by_the_beginning_of_a_commit",
    ),
    (
        Lists::FiltersAreRaw,
        "repo_urls::i8_a_filter_is_stripped_as_the_stored_value_was",
    ),
    (Lists::FilterIsIgnored, "queries::jobs_are_found_by_runner_label"),
    (
        Lists::BlankPassesFilter,
        "queries::a_blank_attribute_matches_no_filter",
    ),
    (
        Lists::OneStateCounts,
        "queries::jobs_are_found_by_any_of_some_states",
    ),
    (Lists::EndedIncludesLive, "queries::jobs_are_found_by_each_state"),
    (
        Lists::UntilIsInclusive,
        "queries::jobs_are_found_by_the_time_of_their_creation",
    ),
    (
        Lists::FromIsExclusive,
        "queries::jobs_are_found_by_the_time_of_their_creation",
    ),
    (
        Lists::RangeIsOfUpdate,
        "queries::jobs_are_found_by_the_time_of_their_creation",
    ),
    (
        Lists::LastIdIsExclusive,
        "queries::jobs_are_found_by_a_range_of_ids",
    ),
];

/// Of VMs, with the case that notices.
pub(super) const VMS: &[(Lists, &str)] = &[
    (Lists::BorderIsSkipped, "pages::one_row_more_makes_another_page"),
    (Lists::BorderIsDoubled, "pages::one_row_more_makes_another_page"),
    (
        Lists::PagesAreOffsets,
        "pages::x4_vms_are_seen_once_while_others_come",
    ),
    (Lists::LimitIsIgnored, "vm_queries::vms_of_one_job_are_paged"),
    (
        Lists::LimitOfZeroIsTaken,
        "pages::a_limit_outside_of_its_range_is_refused",
    ),
    (
        Lists::HugeLimitIsTaken,
        "pages::a_limit_outside_of_its_range_is_refused",
    ),
    (
        Lists::LastPageHasNext,
        "pages::as_many_rows_as_the_limit_are_the_last_page",
    ),
    (Lists::NextIsMissing, "pages::one_row_more_makes_another_page"),
    (
        Lists::DamagedCursorIsStart,
        "cursors::what_never_was_a_cursor_is_refused",
    ),
    (
        Lists::ForeignCursorIsStart,
        "cursors::a_cursor_of_another_listing_is_refused",
    ),
    (
        Lists::OtherOrdersCursorIsTaken,
        "cursors::a_cursor_of_another_order_is_refused",
    ),
    (Lists::OrderIsIgnored, "vm_queries::vms_are_listed_in_each_order"),
    (
        Lists::OrderedByUpdate,
        "vm_queries::vms_are_listed_by_creation_and_not_by_update",
    ),
    (Lists::TiesAscend, "vm_queries::vms_are_listed_in_each_order"),
    (Lists::NamesFoldCase, "input::i5_names_are_ordered_by_their_bytes"),
    (Lists::TextsFoldCase, "input::i5_case_is_told_apart"),
    (
        Lists::TextsArePatterns,
        "input::i4_wildcards_and_escapes_are_found_literally",
    ),
    (Lists::FilterIsIgnored, "vm_queries::vms_are_found_by_hypervisor"),
    (
        Lists::BlankPassesFilter,
        "vm_queries::vms_are_found_by_hypervisor",
    ),
    (
        Lists::OneStateCounts,
        "vm_queries::vms_are_found_by_any_of_some_states",
    ),
    (
        Lists::EndedIncludesLive,
        "vm_queries::vms_are_found_by_each_state",
    ),
    (
        Lists::UntilIsInclusive,
        "vm_queries::vms_are_found_by_the_time_of_their_creation",
    ),
    (
        Lists::FromIsExclusive,
        "vm_queries::vms_are_found_by_the_time_of_their_creation",
    ),
    (
        Lists::RangeIsOfUpdate,
        "vm_queries::vms_are_found_by_the_time_of_their_creation",
    ),
    (
        Lists::LastIdIsExclusive,
        "vm_queries::vms_are_found_by_a_range_of_ids",
    ),
];

/// The broken clause of a listing, or none.
#[derive(Clone, Copy)]
pub(super) struct Listing<'a> {
    pub(super) broken: &'a Broken,
    pub(super) defect: Option<Lists>,
}

/// A page of jobs.
pub(super) async fn jobs(broken: &Broken, query: &JobQuery) -> Result<Page<Job>> {
    let defect = match broken.defect {
        Some(Defect::Jobs(defect)) => Some(defect),
        _ => None,
    };
    let listing = Listing { broken, defect };
    let asked = query
        .clone()
        .limit(listing.limit(query.limit))
        .after(listing.after(query.order, &query.after, 'j'));
    let mut checked = asked.check()?;
    if listing.has(Lists::FiltersAreRaw) {
        checked.repo_url.clone_from(&query.repo_url);
        checked.commit_sha.clone_from(&query.commit_sha);
    }
    let mut rows = Vec::new();
    for job in broken
        .inner
        .all_jobs(JobQuery::default())
        .try_collect::<Vec<_>>()
        .await?
    {
        if listing.passes_job(&checked, &job) {
            rows.push(Line::job(job));
        }
    }
    let after = checked.position()?.map(|(at, id)| (at, id, String::new()));
    let asked = Asked {
        order: checked.order,
        after,
        limit: asked.limit,
        cursor: checked.after,
        cursor_of: &|(at, id, _)| Cursor::encode(&Position::Job(checked.order, at, id)),
    };
    Ok(listing.page(rows, asked))
}

/// A page of VMs.
pub(super) async fn vms(broken: &Broken, query: &VmQuery) -> Result<Page<Vm>> {
    let defect = match broken.defect {
        Some(Defect::Vms(defect)) => Some(defect),
        _ => None,
    };
    let listing = Listing { broken, defect };
    let asked = query
        .clone()
        .limit(listing.limit(query.limit))
        .after(listing.after(query.order, &query.after, 'v'));
    let checked = asked.check()?;
    let mut rows = Vec::new();
    for vm in broken
        .inner
        .all_vms(VmQuery::default())
        .try_collect::<Vec<_>>()
        .await?
    {
        if listing.passes_vm(&checked, &vm) {
            rows.push(Line::vm(vm));
        }
    }
    let after = checked
        .position()?
        .map(|(at, key)| (at, key.request_id, key.domain_name));
    let asked = Asked {
        order: checked.order,
        after,
        limit: asked.limit,
        cursor: checked.after,
        cursor_of: &|(at, id, name)| Cursor::encode(&Position::Vm(checked.order, at, id, name)),
    };
    Ok(listing.page(rows, asked))
}

impl Listing<'_> {
    pub(super) fn has(&self, defect: Lists) -> bool {
        self.defect == Some(defect)
    }

    fn limit(&self, limit: u32) -> u32 {
        match self.defect {
            Some(Lists::LimitOfZeroIsTaken) => limit.max(1),
            Some(Lists::HugeLimitIsTaken) => limit.min(persist_core::limits::LARGEST_PAGE),
            _ => limit,
        }
    }

    /// The cursor that is gone by, of the listing with this letter.
    fn after(&self, order: Order, after: &Option<Cursor>, letter: char) -> Option<Cursor> {
        let cursor = after.clone()?;
        match (self.defect, cursor.decode()) {
            (Some(Lists::DamagedCursorIsStart), Err(_)) => None,
            (Some(Lists::ForeignCursorIsStart), Ok(position)) => {
                let own = match position {
                    Position::Job(..) => 'j',
                    Position::Vm(..) => 'v',
                    _ => 'e',
                };
                (own == letter).then_some(cursor)
            }
            (Some(Lists::OtherOrdersCursorIsTaken), Ok(Position::Job(_, at, id))) => {
                Some(Cursor::encode(&Position::Job(order, at, id)))
            }
            (Some(Lists::OtherOrdersCursorIsTaken), Ok(Position::Vm(_, at, id, name))) => {
                Some(Cursor::encode(&Position::Vm(order, at, id, name)))
            }
            _ => Some(cursor),
        }
    }
}
