//! Random updates and queries for properties and the model: of few subjects, so that they meet, with values that
//! are nearly equal, so that a wrong comparison shows.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use persist_core::{
    Attempt, EventOrder, EventQuery, IdRange, Job, JobQuery, JobState, JobUpdate, Order, Prune, State,
    StateTable as _, Subject, TimeRange, Timestamp, Update, Vm, VmKey, VmQuery, VmState, VmUpdate,
};
use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use uuid::Uuid;

use crate::sample;

/// An update before it is built, so that it can be bent to agree with others.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The job or VM.
    pub subject: Subject,
    /// Of the machine of its subject.
    pub state: State,
    /// From 1.
    pub attempt: u32,
    /// Set.
    pub at: Timestamp,
    /// `repo_url`, `commit_sha`, `runs_on` or `backend`, `overlay_path`, `seed_path`; then actor and reason.
    pub values: [Option<String>; 5],
}

impl Draft {
    /// The names of its values.
    pub fn fields(&self) -> [&'static str; 5] {
        if self.subject.is_vm() {
            ["backend", "overlay_path", "seed_path", "actor", "reason"]
        } else {
            ["repo_url", "commit_sha", "runs_on", "actor", "reason"]
        }
    }

    /// The update.
    pub fn update(&self) -> Update {
        macro_rules! said {
            ($update:expr, $($value:ident),+) => {{
                let mut update = $update.attempt(self.attempt).at(self.at);
                let [$($value),+] = self.values.clone();
                $(if let Some(value) = $value {
                    update = update.$value(value);
                })+
                update.into()
            }};
        }
        match (&self.subject, self.state) {
            (Subject::Job(id), State::Job(state)) => {
                said!(
                    JobUpdate::new(*id, state),
                    repo_url,
                    commit_sha,
                    runs_on,
                    actor,
                    reason
                )
            }
            (Subject::Vm(key), State::Vm(state)) => {
                let update = VmUpdate::new(key.request_id, key.domain_name.clone(), state);
                said!(update, backend, overlay_path, seed_path, actor, reason)
            }
            _ => unreachable!("a draft's state is of its subject's machine"),
        }
    }
}

/// The updates.
pub fn updates(drafts: &[Draft]) -> Vec<Update> {
    drafts.iter().map(Draft::update).collect()
}

/// Bends drafts until all that meet in a slot agree in state and time and give no value two ways: whoever comes
/// first is right.
pub fn agreeing(mut drafts: Vec<Draft>) -> Vec<Draft> {
    let mut slots: HashMap<(Subject, u32, u8), Draft> = HashMap::new();
    for draft in &mut drafts {
        let slot = (draft.subject.clone(), draft.attempt, draft.state.phase());
        let first = slots.entry(slot).or_insert_with(|| draft.clone());
        (draft.state, draft.at) = (first.state, first.at);
        for (mine, theirs) in draft.values.iter_mut().zip(&mut first.values) {
            let is_blank = |value: &Option<String>| value.as_ref().is_none_or(String::is_empty);
            match (is_blank(mine), is_blank(theirs)) {
                (false, false) => mine.clone_from(theirs),
                (false, true) => theirs.clone_from(mine),
                (true, _) => {}
            }
        }
    }
    drafts
}

/// Ids that differ in their first and in their last bits.
pub fn id() -> impl Strategy<Value = Uuid> {
    let odd = [1, 0x7fff << 112, 0x8000 << 112, u128::MAX].map(Uuid::from_u128);
    select(
        [sample::id(1), sample::id(2), sample::id(3)]
            .into_iter()
            .chain(odd)
            .collect::<Vec<_>>(),
    )
}

/// Names of VMs, whose order by bytes is no dictionary's.
pub fn domain_name() -> impl Strategy<Value = String> {
    const NAMES: &[&str] = &[
        "vm",
        "VM",
        "vm-10",
        "vm-2",
        "Z",
        "a",
        "é",
        "e\u{301}",
        "🦀",
        "%",
        "_",
        " ",
        "vm ",
        "'",
        "\u{1b}[1m",
    ];
    select(NAMES).prop_map(str::to_owned)
}

/// A job more often than a VM.
pub fn subject() -> impl Strategy<Value = Subject> {
    prop_oneof![
        3 => id().prop_map(Subject::Job),
        2 => (id(), domain_name()).prop_map(|(id, name)| Subject::Vm(VmKey::new(id, name))),
    ]
}

/// Texts that only a comparison by bytes tells apart, and any others, within every limit.
pub fn text() -> impl Strategy<Value = String> {
    const NEAR: &[&str] = &[
        "small",
        "Small",
        "SMALL",
        "small ",
        "sma_l",
        "sma%",
        "é",
        "e\u{301}",
        "ß",
        "ss",
        "a\\b",
        "a'b\"c;--",
        "\n",
    ];
    prop_oneof![8 => select(NEAR).prop_map(str::to_owned), 1 => "[^\0]{0,12}", 1 => Just(String::new())]
}

/// Repositories, some of them the same but for credentials.
pub fn repo_url() -> impl Strategy<Value = String> {
    const URLS: &[&str] = &[
        "https://example.org/acme/app.git",
        "https://ci:secret@example.org/acme/app.git",
        "https://example.org/acme/app.git?token=secret",
        "https://example.org/acme/App.git",
        "https://example.org/acme/a_p.git",
        "https://example.org/acme/%.git",
        "git@example.org:acme/app.git",
    ];
    select(URLS).prop_map(str::to_owned)
}

/// Commits of which some begin alike.
pub fn commit_sha() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => select(&["abcd", "ABCD", "abcdef01", "abce", "0000"][..]).prop_map(str::to_owned),
        1 => "[0-9a-fA-F]{4,64}",
    ]
}

/// Times of which some are equal and some a microsecond apart; any other within range; none cut yet.
pub fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        8 => (0..4_i64, 0..1_000_i64).prop_map(|(micros, nanos)| sample::micros(micros) + TimeDelta::nanoseconds(nanos)),
        1 => (0..253_402_300_799_999_999_999_i128).prop_map(nanos),
    ]
}

/// So many nanoseconds after 1970, also where they don't fit 64 bits.
fn nanos(nanos: i128) -> Timestamp {
    let (seconds, rest) = ((nanos / 1_000_000_000) as i64, (nanos % 1_000_000_000) as u32);
    DateTime::<Utc>::from_timestamp(seconds, rest).expect("is in range")
}

/// One update, as it may come.
pub fn draft() -> impl Strategy<Value = Draft> {
    (subject(), any::<proptest::sample::Index>(), 1..=3_u32, time()).prop_flat_map(
        |(subject, index, attempt, at)| {
            let state = match subject {
                Subject::Job(_) => State::Job(index.get(JobState::TABLE).state),
                Subject::Vm(_) => State::Vm(index.get(VmState::TABLE).state),
            };
            let first = if subject.is_vm() {
                text().boxed()
            } else {
                repo_url().boxed()
            };
            let second = if subject.is_vm() {
                text().boxed()
            } else {
                commit_sha().boxed()
            };
            let values = (
                of(first),
                of(second),
                of(text()),
                weighted(0.3, text()),
                weighted(0.3, text()),
            );
            values.prop_map(move |(first, second, third, actor, reason)| Draft {
                subject: subject.clone(),
                state,
                attempt,
                at,
                values: [first, second, third, actor, reason],
            })
        },
    )
}

/// Updates as they may come, agreeing or not.
pub fn drafts(most: usize) -> impl Strategy<Value = Vec<Draft>> {
    vec(draft(), 0..=most)
}

/// Updates that agree, and the same in any order, some of them again, in batches.
pub fn replays(most: usize) -> impl Strategy<Value = (Vec<Draft>, Vec<Vec<Draft>>)> {
    let again = vec(any::<proptest::sample::Index>(), 0..=most / 2);
    (drafts(most), again).prop_flat_map(|(drafts, again)| {
        let drafts = agreeing(drafts);
        let mut replayed = drafts.clone();
        if !drafts.is_empty() {
            replayed.extend(again.iter().map(|index| index.get(&drafts).clone()));
        }
        let cuts = vec(any::<bool>(), replayed.len());
        (Just(drafts), Just(replayed).prop_shuffle(), cuts)
            .prop_map(|(drafts, replayed, cuts)| (drafts, batches(replayed, &cuts)))
    })
}

fn batches(drafts: Vec<Draft>, cuts: &[bool]) -> Vec<Vec<Draft>> {
    let mut batches = vec![Vec::new()];
    for (draft, cut) in drafts.into_iter().zip(cuts) {
        if *cut {
            batches.push(Vec::new());
        }
        batches.last_mut().expect("begins with one").push(draft);
    }
    batches
}

fn time_range() -> impl Strategy<Value = TimeRange> {
    (weighted(0.2, time()), weighted(0.2, time())).prop_map(|(one, other)| match (one, other) {
        (Some(one), Some(other)) => TimeRange::new(Some(one.min(other)), Some(one.max(other))),
        (from, until) => TimeRange::new(from, until),
    })
}

fn id_range() -> impl Strategy<Value = IdRange> {
    (weighted(0.2, id()), weighted(0.2, id())).prop_map(|(from, to)| IdRange::new(from, to))
}

fn order() -> impl Strategy<Value = Order> {
    select(&[Order::NewestFirst, Order::OldestFirst, Order::ById][..])
}

/// Every page size that matters to a few rows, and the largest.
fn limit() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 1..=4_u32, 1 => 5..=20_u32, 1 => Just(1_000)]
}

fn states<S: persist_core::StateTable + Send + Sync + std::fmt::Debug>() -> impl Strategy<Value = Vec<S>> {
    let all: Vec<S> = S::TABLE.iter().map(|line| line.state).collect();
    prop_oneof![2 => Just(Vec::new()), 3 => proptest::sample::subsequence(all.clone(), 1..all.len())]
}

/// A query of jobs, with or without a place to begin that no row need have.
pub fn job_query() -> impl Strategy<Value = JobQuery> {
    let filters = (
        states::<JobState>(),
        weighted(0.2, repo_url()),
        weighted(0.2, select(&["a", "ab", "ABC", "abcd", "abce", "f"][..])),
        weighted(0.2, text()),
    );
    let pages = (
        time_range(),
        id_range(),
        order(),
        limit(),
        weighted(0.3, (time(), id())),
    );
    (filters, pages).prop_map(
        |((states, repo_url, commit, runs_on), (created, ids, order, limit, after))| {
            let mut query = JobQuery::default()
                .states(states)
                .created(created)
                .ids(ids)
                .order(order)
                .limit(limit);
            query.repo_url = repo_url;
            query.commit_sha = commit.map(str::to_owned);
            query.runs_on = runs_on;
            let after =
                after.map(|(at, id)| query.cursor(&Job::new(id, JobState::Queued, Attempt::FIRST, at)));
            query.after(after)
        },
    )
}

/// The same of VMs.
pub fn vm_query() -> impl Strategy<Value = VmQuery> {
    let filters = (
        states::<VmState>(),
        weighted(0.2, id()),
        weighted(0.2, domain_name()),
        weighted(0.2, text()),
    );
    let pages = (
        time_range(),
        id_range(),
        order(),
        limit(),
        weighted(0.3, (time(), id(), domain_name())),
    );
    (filters, pages).prop_map(
        |((states, request_id, name, backend), (created, ids, order, limit, after))| {
            let mut query = VmQuery::default()
                .states(states)
                .created(created)
                .ids(ids)
                .order(order)
                .limit(limit);
            (query.request_id, query.domain_name, query.backend) = (request_id, name, backend);
            let after = after.map(|(at, id, name)| {
                query.cursor(&Vm::new(
                    VmKey::new(id, name),
                    VmState::Prepared,
                    Attempt::FIRST,
                    at,
                ))
            });
            query.after(after)
        },
    )
}

/// A query of the history from its start.
pub fn event_query() -> impl Strategy<Value = EventQuery> {
    let order = select(&[EventOrder::ByKey, EventOrder::BySeq][..]);
    (weighted(0.3, id()), order, limit()).prop_map(|(request_id, order, limit)| {
        let mut query = EventQuery::default().order(order).limit(limit);
        query.request_id = request_id;
        query
    })
}

/// What to forget; now and then without any condition, or otherwise refused.
pub fn prune() -> impl Strategy<Value = Prune> {
    let ids = prop_oneof![2 => Just(Vec::new()), 1 => vec(id(), 1..4)];
    let ended = [
        JobState::Lost,
        JobState::Succeeded,
        JobState::Failed,
        JobState::Queued,
    ];
    let states =
        prop_oneof![3 => Just(Vec::new()), 1 => proptest::sample::subsequence(ended.to_vec(), 1..=2)];
    let conditions = (ids, of(time()), states, weighted(0.3, 0..3_u32));
    let limit = prop_oneof![2 => 1..=3_u32, 3 => Just(1_000), 1 => Just(0)];
    (conditions, limit, weighted(0.3, Just(true))).prop_map(|((ids, before, states, keep), limit, dry)| {
        let mut prune = Prune::default()
            .ids(ids)
            .states(states)
            .limit(limit)
            .dry_run(dry.unwrap_or_default());
        (prune.ended_before, prune.keep_per_repo) = (before, keep);
        prune
    })
}
