//! The order of the lists and their pages, as they should be and as they are broken.

use std::cmp::Ordering;

use persist_core::{Cursor, Job, Order, Page, Timestamp, Vm};
use uuid::Uuid;

use super::Lists;
use super::list::Listing;

/// Where a row stands: its time, and its key.
pub(super) type Place = (Timestamp, Uuid, String);

/// What jobs and VMs have in common in a list.
pub(super) struct Line<T> {
    row: T,
    id: Uuid,
    name: String,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// Which page.
pub(super) struct Asked<'a> {
    pub(super) order: Order,
    pub(super) after: Option<Place>,
    pub(super) limit: u32,
    pub(super) cursor: Option<Cursor>,
    pub(super) cursor_of: &'a dyn Fn(Place) -> Cursor,
}

impl Line<Job> {
    pub(super) fn job(row: Job) -> Self {
        let (id, created_at, updated_at) = (row.request_id, row.created_at, row.updated_at);
        Self {
            row,
            id,
            name: String::new(),
            created_at,
            updated_at,
        }
    }
}

impl Line<Vm> {
    pub(super) fn vm(row: Vm) -> Self {
        let (id, created_at, updated_at) = (row.request_id, row.created_at, row.updated_at);
        Self {
            id,
            name: row.domain_name.clone(),
            row,
            created_at,
            updated_at,
        }
    }
}

impl Listing<'_> {
    /// How a row stands to a place in the order.
    fn compare(&self, order: Order, one: &Place, other: &Place) -> Ordering {
        let name = |name: &str| {
            if self.has(Lists::NamesFoldCase) {
                name.to_lowercase()
            } else {
                name.to_owned()
            }
        };
        let key = one
            .1
            .cmp(&other.1)
            .then_with(|| name(&one.2).cmp(&name(&other.2)))
            .then_with(|| one.2.cmp(&other.2));
        let age = one.0.cmp(&other.0);
        match order {
            Order::ById => key,
            Order::OldestFirst if self.has(Lists::OrderIsIgnored) => age.then(key).reverse(),
            Order::OldestFirst => age.then(key),
            Order::NewestFirst if self.has(Lists::TiesAscend) => age.reverse().then(key),
            Order::NewestFirst => age.then(key).reverse(),
        }
    }

    /// The page of the lines that passed, in any order.
    pub(super) fn page<T>(&self, mut lines: Vec<Line<T>>, asked: Asked<'_>) -> Page<T> {
        let Asked {
            order,
            after,
            limit,
            cursor,
            cursor_of,
        } = asked;
        let place = |line: &Line<T>| {
            let time = if self.has(Lists::OrderedByUpdate) {
                line.updated_at
            } else {
                line.created_at
            };
            (time, line.id, line.name.clone())
        };
        lines.sort_by(|one, other| self.compare(order, &place(one), &place(other)));
        let offset = cursor
            .as_ref()
            .and_then(|cursor| self.broken.shared.offsets.lock().get(cursor.as_str()).copied());
        let start = match (&after, offset) {
            (Some(_), Some(offset)) if self.has(Lists::PagesAreOffsets) => offset,
            (Some(after), _) => {
                let behind = |line: &Line<T>| match self.compare(order, &place(line), after) {
                    Ordering::Less => true,
                    Ordering::Equal => !self.has(Lists::BorderIsDoubled),
                    Ordering::Greater => false,
                };
                lines.partition_point(behind) + usize::from(self.has(Lists::BorderIsSkipped))
            }
            (None, _) => 0,
        };
        let limit = if self.has(Lists::LimitIsIgnored) {
            usize::MAX
        } else {
            limit as usize
        };
        let end = start.saturating_add(limit).min(lines.len());
        let more = end < lines.len() || self.has(Lists::LastPageHasNext) && end - start.min(end) == limit;
        let page: Vec<_> = lines.into_iter().skip(start).take(limit).collect();
        let last = page
            .last()
            .filter(|_| more && !self.has(Lists::NextIsMissing))
            .map(place);
        let next = last.map(cursor_of);
        if let Some(next) = &next {
            self.broken
                .shared
                .offsets
                .lock()
                .insert(next.as_str().to_owned(), end);
        }
        Page::new(page.into_iter().map(|line| line.row).collect(), next)
    }
}
