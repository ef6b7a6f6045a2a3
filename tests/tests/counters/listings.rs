//! Every list statement that queries allow, as the stores send it, and the index that each is to walk.

use persist_core::sql::{self, Dialect, Statement};
use persist_core::{
    Cursor, EventOrder, EventQuery, IdRange, JobQuery, JobState, Order, Position, TimeRange, Timestamp,
    VmQuery, VmState,
};
use persist_tests::sample;
use uuid::Uuid;

/// Rows of each table, made a second apart, with ids that are anything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) jobs: u32,
    pub(crate) vms: u32,
    pub(crate) events: u32,
}

/// A combination of filters in an order.
pub(crate) struct Listing {
    /// What it lists.
    pub(crate) table: &'static str,
    /// A word for each filter.
    filters: Vec<&'static str>,
    order: &'static str,
    /// Its first page, and one after 95 % of all rows.
    pub(crate) pages: [Statement; 2],
}

impl std::fmt::Display for Listing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} by {}", self.table, self.filters.join(", "), self.order)
    }
}

impl Listing {
    /// Whether there is any filter of these.
    pub(crate) fn has(&self, words: &[&str]) -> bool {
        self.filters.iter().any(|filter| words.contains(filter))
    }

    /// Whether there is no filter but these.
    pub(crate) fn has_only(&self, words: &[&str]) -> bool {
        self.filters.iter().all(|filter| words.contains(filter))
    }

    /// Whether it is in this order.
    pub(crate) fn is_by(&self, order: &str) -> bool {
        self.order == order
    }

    /// The index that holds the rows of the filters, and no others, in this order; `key` for that of the primary key.
    /// Ranges of times and ids may leave out rows of it.
    pub(crate) fn index(&self) -> Option<&'static str> {
        let mut others = self.filters.clone();
        others.retain(|filter| !["created", "ids"].contains(filter));
        match (self.table, self.order, others.as_slice()) {
            ("jobs" | "vms", "id", []) if !self.has(&["created"]) => Some("key"),
            ("events", "key", []) => Some("key"),
            ("events", "seq", []) => Some("events_seq"),
            ("jobs", "newest" | "oldest", [filter]) => match *filter {
                "live" => Some("jobs_live"),
                "failed" | "timed_out" => Some("jobs_ended"),
                "repo" => Some("jobs_repo_url"),
                _ => None,
            },
            ("jobs", "newest" | "oldest", []) => Some("jobs_created"),
            ("vms", "newest" | "oldest", [filter]) => match *filter {
                "live" => Some("vms_live"),
                "failed" => Some("vms_ended"),
                "backend" => Some("vms_backend"),
                _ => None,
            },
            ("vms", "newest" | "oldest", []) => Some("vms_created"),
            _ => None,
        }
    }
}

/// All of them.
pub(crate) fn all(dialect: Dialect, rows: Rows) -> Vec<Listing> {
    let mut all = jobs(dialect, rows.jobs);
    all.extend(vms(dialect, rows.vms));
    all.extend(events(dialect, rows.events));
    all
}

const ORDERS: [(Order, &str); 3] = [
    (Order::NewestFirst, "newest"),
    (Order::OldestFirst, "oldest"),
    (Order::ById, "id"),
];

/// A way to narrow a query, and its word.
type Filter<Q> = (&'static str, fn(Q, u32) -> Q);

/// Each combination of a choice of states with any of the filters.
fn combined<Q: Clone>(
    states: &[(&'static str, Q)],
    filters: &[Filter<Q>],
    rows: u32,
) -> Vec<(Vec<&'static str>, Q)> {
    let mut all: Vec<_> = states
        .iter()
        .map(|(word, query)| {
            (
                Some(*word)
                    .into_iter()
                    .filter(|word| !word.is_empty())
                    .collect::<Vec<_>>(),
                query.clone(),
            )
        })
        .collect();
    for (word, narrow) in filters {
        let narrowed = all.clone().into_iter().map(|(mut words, query)| {
            words.push(*word);
            (words, narrow(query, rows))
        });
        all.extend(narrowed.collect::<Vec<_>>());
    }
    all
}

/// A time before which this share of the rows begins.
fn at(share: f64, rows: u32) -> Timestamp {
    sample::at((share * f64::from(rows)) as i64)
}

/// An id below which this share of the ids is.
fn id(share: f64) -> Uuid {
    Uuid::from_u128(((share * 256.0) as u128) << 120)
}

/// Almost all times, almost all ids.
fn ranges(rows: u32) -> (TimeRange, IdRange) {
    (
        TimeRange::new(Some(at(0.005, rows)), Some(at(0.995, rows))),
        IdRange::new(Some(id(0.005)), Some(id(0.995))),
    )
}

/// What stands before the deep page.
fn depth(order: Order, rows: u32) -> (Timestamp, Uuid) {
    match order {
        Order::NewestFirst => (at(0.05, rows), id(0.05)),
        Order::OldestFirst | Order::ById => (at(0.95, rows), id(0.95)),
    }
}

fn jobs(dialect: Dialect, rows: u32) -> Vec<Listing> {
    use JobState::{Cancelled, Failed, Queued, Running, TimedOut};
    let of = |states: &[JobState]| JobQuery::default().states(states.iter().copied());
    let states = [
        ("", of(&[])),
        ("live", of(&[Queued, Running])),
        ("queued", of(&[Queued])),
        ("failed", of(&[Failed])),
        ("timed_out", of(&[TimedOut])),
        ("failed or cancelled", of(&[Failed, Cancelled])),
        ("queued or failed", of(&[Queued, Failed])),
    ];
    let filters: [Filter<JobQuery>; 5] = [
        ("repo", |query, _| {
            query.repo_url("https://example.org/acme/large.git")
        }),
        ("commit", |query, _| query.commit_sha("abcdef0")),
        ("runs_on", |query, _| query.runs_on("runner-3")),
        ("created", |query, rows| query.created(ranges(rows).0)),
        ("ids", |query, rows| query.ids(ranges(rows).1)),
    ];
    let mut all = Vec::new();
    for (words, query) in combined(&states, &filters, rows) {
        for (order, word) in ORDERS {
            let query = query.clone().order(order);
            let (at, id) = depth(order, rows);
            let later = query
                .clone()
                .after(Some(Cursor::encode(&Position::Job(order, at, id))));
            all.push(Listing {
                table: "jobs",
                filters: words.clone(),
                order: word,
                pages: [query, later].map(|query| sql::jobs(dialect, None, &query.check().unwrap()).unwrap()),
            });
        }
    }
    all
}

fn vms(dialect: Dialect, rows: u32) -> Vec<Listing> {
    use VmState::{Failed, Prepared, Running, Stopped};
    let of = |states: &[VmState]| VmQuery::default().states(states.iter().copied());
    let states = [
        ("", of(&[])),
        ("live", of(&[Prepared, Running])),
        ("prepared", of(&[Prepared])),
        ("failed", of(&[Failed])),
        ("failed or stopped", of(&[Failed, Stopped])),
        ("prepared or failed", of(&[Prepared, Failed])),
    ];
    let filters: [Filter<VmQuery>; 5] = [
        ("request", |query, _| query.request_id(id(0.5))),
        ("name", |query, _| query.domain_name("vm-777")),
        ("backend", |query, _| query.backend("backend-3")),
        ("created", |query, rows| query.created(ranges(rows).0)),
        ("ids", |query, rows| query.ids(ranges(rows).1)),
    ];
    let mut all = Vec::new();
    for (words, query) in combined(&states, &filters, rows) {
        for (order, word) in ORDERS {
            let query = query.clone().order(order);
            let (at, id) = depth(order, rows);
            let position = Position::Vm(order, at, id, "vm-5".to_owned());
            let later = query.clone().after(Some(Cursor::encode(&position)));
            all.push(Listing {
                table: "vms",
                filters: words.clone(),
                order: word,
                pages: [query, later].map(|query| sql::vms(dialect, None, &query.check().unwrap()).unwrap()),
            });
        }
    }
    all
}

fn events(dialect: Dialect, rows: u32) -> Vec<Listing> {
    let store = Uuid::from_u128(1);
    let seq = i64::from(rows) * 95 / 100;
    let mut all = Vec::new();
    for (order, word, after) in [
        (
            EventOrder::ByKey,
            "key",
            Position::EventKey(id(0.95), String::new(), 5),
        ),
        (EventOrder::BySeq, "seq", Position::EventSeq(store, seq)),
    ] {
        for (filters, query) in [
            (vec![], EventQuery::default()),
            (vec!["request"], EventQuery::default().request_id(id(0.5))),
        ] {
            let query = query.order(order);
            let later = query.clone().after(Some(Cursor::encode(&after)));
            all.push(Listing {
                table: "events",
                filters,
                order: word,
                pages: [query, later]
                    .map(|query| sql::events(dialect, None, &query, &query.check(store).unwrap())),
            });
        }
    }
    all
}
