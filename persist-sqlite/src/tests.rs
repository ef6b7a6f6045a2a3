//! The backend against the pure functions of core, and against files in every condition.

mod files;
mod schema;
mod space;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use persist_core::merge::{Fill, Row, fold, outcome_of_held};
use persist_core::{
    Attribute, Claim, Deadlines, EventOrder, EventQuery, Job, JobQuery, JobState, JobUpdate, Outcome,
    PersistBackend as _, Prune, Pruned, Rank, Result, Slot, SqliteUrl, Subject, SystemClock, Timestamp, Vm,
    VmQuery, VmState, VmUpdate, time,
};
use rusqlite::Connection;
use tempfile::TempDir;
use uuid::Uuid;

use crate::{SqliteBackend, SqliteConfig};

/// Longer than anything here takes, on the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with room for one store.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("store.db")
    }

    fn url(&self, mode: &str) -> SqliteUrl {
        url(&format!("sqlite:{}?mode={mode}", self.path().display()))
    }

    async fn open(&self, mode: &str) -> Result<SqliteBackend> {
        SqliteBackend::open(config(self.url(mode))).await
    }

    async fn migrated(&self) -> SqliteBackend {
        migrated(self.url("rwc")).await
    }

    /// A connection of somebody else's.
    fn outside(&self) -> Connection {
        let connection = Connection::open(self.path()).unwrap();
        connection.busy_timeout(PATIENCE).unwrap();
        connection
    }
}

pub(crate) fn url(text: &str) -> SqliteUrl {
    match text.parse().unwrap() {
        persist_core::DbUrl::Sqlite(url) => url,
        other => panic!("{other}"),
    }
}

/// Deadlines that only a hanging call meets.
pub(crate) fn config(url: SqliteUrl) -> SqliteConfig {
    SqliteConfig::new(url).deadlines(deadlines())
}

pub(crate) fn deadlines() -> Deadlines {
    let mut deadlines = Deadlines::default();
    for deadline in [&mut deadlines.connect, &mut deadlines.write, &mut deadlines.read] {
        *deadline = PATIENCE;
    }
    deadlines
}

pub(crate) async fn migrated(url: SqliteUrl) -> SqliteBackend {
    let backend = SqliteBackend::open(config(url)).await.unwrap();
    schema(&backend).up().await.unwrap();
    backend
}

fn schema(backend: &SqliteBackend) -> &dyn persist_core::Schema {
    use persist_core::Capabilities as _;
    backend.schema().unwrap()
}

pub(crate) fn at(second: i64) -> Timestamp {
    time::from_micros(second * 1_000_000).unwrap()
}

pub(crate) fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

pub(crate) fn job(number: u128, state: JobState, second: i64) -> JobUpdate {
    JobUpdate::new(id(number), state).at(at(second))
}

pub(crate) fn vm(number: u128, state: VmState, second: i64) -> VmUpdate {
    VmUpdate::new(id(number), "vm", state).at(at(second))
}

pub(crate) fn claim(update: impl Into<persist_core::Update>) -> Claim {
    update.into().check(&SystemClock).unwrap()
}

/// The join, by core's functions alone.
#[derive(Default)]
struct Oracle {
    slots: BTreeMap<(Subject, Rank), Slot>,
    rows: HashMap<Subject, Row>,
}

impl Oracle {
    fn merge(&mut self, claim: &Claim) -> Outcome {
        let subject = claim.subject();
        let slots = &mut self.slots;
        let mut fill = None;
        let slot = slots
            .entry((subject.clone(), claim.rank()))
            .and_modify(|slot| fill = Some(slot.fill(claim)))
            .or_insert_with(|| Slot::claimed_by(claim));
        let Some(row) = self.rows.get_mut(subject) else {
            self.rows.insert(subject.clone(), Row::first(slot));
            return Outcome::Applied { created: true };
        };
        let forward = fill != Some(Fill::Refused) && row.join(slot);
        match fill {
            Some(fill) => outcome_of_held(fill, slot.state, row.current()),
            None if forward => Outcome::Applied { created: false },
            None => Outcome::Late {
                current: row.current(),
            },
        }
    }
}

/// Claims of few subjects that often meet in one slot, the same for the same seed.
fn contended(seed: u64, count: usize) -> Vec<Claim> {
    let mut state = seed;
    let mut next = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let one = |_| {
        let (number, attempt) = (u128::from(1 + next(3)), 1 + next(2) as u32);
        let (second, text) = (
            next(50) as i64,
            |chance: u64| if chance == 0 { "text" } else { "" },
        );
        if next(2) == 0 {
            let states = [
                JobState::Queued,
                JobState::Running,
                JobState::Lost,
                JobState::Failed,
                JobState::Succeeded,
            ];
            let update = job(number, states[next(5) as usize], second).attempt(attempt);
            claim(
                update
                    .runs_on(text(next(3)))
                    .actor(text(next(3)))
                    .repo_url(text(next(4))),
            )
        } else {
            let states = [
                VmState::Prepared,
                VmState::Running,
                VmState::Stopped,
                VmState::Failed,
                VmState::Destroyed,
            ];
            let update = vm(number, states[next(5) as usize], second).attempt(attempt);
            claim(
                update
                    .backend(text(next(3)))
                    .reason(text(next(3)))
                    .seed_path(text(next(4))),
            )
        }
    };
    (0..count).map(one).collect()
}

#[tokio::test]
async fn outcomes_and_rows_are_those_of_the_pure_functions() {
    for seed in 0..20 {
        let place = Place::new();
        for url in [place.url("rwc"), url("sqlite::memory:")] {
            let backend = migrated(url).await;
            let (mut oracle, claims) = (Oracle::default(), contended(seed, 200));
            for batch in claims.chunks(1 + seed as usize * 3) {
                let expected: Vec<_> = batch.iter().map(|claim| oracle.merge(claim)).collect();
                assert_eq!(backend.apply(batch).await.unwrap(), expected, "seed {seed}");
            }
            let history = backend
                .events(&EventQuery::default().limit(1_000))
                .await
                .unwrap()
                .items;
            let stored: Vec<_> = history
                .into_iter()
                .map(|event| ((event.subject.clone(), event.rank), event.slot()))
                .collect();
            let slots: Vec<_> = oracle.slots.clone().into_iter().collect();
            assert_eq!(stored, slots, "seed {seed}");
            for (subject, row) in &oracle.rows {
                let own = slots
                    .iter()
                    .filter(|((of, _), _)| of == subject)
                    .map(|(_, slot)| slot);
                assert_eq!(fold(own).as_ref(), Some(row));
                match subject {
                    Subject::Job(id) => assert_eq!(backend.job(*id).await.unwrap(), Job::from_row(*id, row)),
                    Subject::Vm(key) => {
                        assert_eq!(backend.vm(key).await.unwrap(), Vm::from_row(key.clone(), row));
                    }
                }
            }
            backend.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn numbers_of_changes_are_never_given_again() {
    let place = Place::new();
    let backend = place.migrated().await;
    let by_seq = EventQuery::default().order(EventOrder::BySeq);
    let claims = [job(1, JobState::Queued, 1), job(2, JobState::Queued, 1)].map(claim);
    backend.apply(&claims).await.unwrap();
    // A fill moves its slot to the end; what changes nothing takes no number.
    let fill = claim(job(1, JobState::Queued, 1).actor("me"));
    backend.apply(&[fill.clone(), fill]).await.unwrap();
    let numbers = |events: &[persist_core::Event]| {
        events
            .iter()
            .map(|e| (e.seq.get(), e.subject.request_id()))
            .collect::<Vec<_>>()
    };
    let page = backend.events(&by_seq).await.unwrap();
    assert_eq!(numbers(&page.items), [(2, id(2)), (3, id(1))]);
    backend.prune(&Prune::default().ids([id(1)])).await.unwrap();
    backend.close().await.unwrap();
    let backend = place.migrated().await;
    backend.apply(&claims).await.unwrap();
    let page = backend.events(&by_seq.clone().limit(1)).await.unwrap();
    let rest = backend.events(&by_seq.after(page.next)).await.unwrap();
    assert_eq!(numbers(&rest.items), [(4, id(1))]);
    backend.close().await.unwrap();
}

#[tokio::test]
async fn a_cursor_by_number_belongs_to_its_store() {
    let mut cursors = Vec::new();
    for _ in 0..2 {
        let backend = migrated(url("sqlite::memory:")).await;
        let claims = [job(1, JobState::Queued, 1), job(2, JobState::Queued, 1)].map(claim);
        backend.apply(&claims).await.unwrap();
        let query = EventQuery::default().order(EventOrder::BySeq).limit(1);
        for cursor in cursors.drain(..) {
            let error = backend.events(&query.clone().after(cursor)).await.unwrap_err();
            assert_eq!(error.kind(), persist_core::ErrorKind::InvalidInput, "{error}");
        }
        cursors.push(backend.events(&query).await.unwrap().next);
    }
}

#[tokio::test]
async fn prune_removes_whole_requests_and_knows_whether_any_are_left() {
    let backend = migrated(url("sqlite::memory:")).await;
    let updates: [persist_core::Update; 6] = [
        job(1, JobState::Succeeded, 1).into(),
        vm(1, VmState::Destroyed, 2).into(),
        job(2, JobState::Failed, 3).into(),
        vm(2, VmState::Running, 3).into(),
        vm(3, VmState::Failed, 0).into(),
        job(4, JobState::Lost, 5).into(),
    ];
    backend.apply(&updates.map(claim)).await.unwrap();
    let all = Prune::default().ended_before(at(5));
    let dry = async |limit| backend.prune(&all.clone().limit(limit).dry_run(true)).await;
    let mut first = dry(1).await.unwrap();
    assert!(first.next.take().is_some());
    assert_eq!(first, Pruned::new(1, 0, 1, 1, true));
    assert_eq!(dry(2).await.unwrap(), Pruned::new(2, 1, 2, 3, false));
    assert_eq!(
        backend.prune(&all.clone().limit(2)).await.unwrap(),
        Pruned::new(2, 1, 2, 3, false)
    );
    let named = backend
        .prune(&Prune::default().ids([id(2), id(9)]))
        .await
        .unwrap();
    assert_eq!(named, Pruned::new(1, 1, 1, 2, false));
    let kept = backend.prune(&Prune::default().keep_per_repo(1)).await.unwrap();
    assert_eq!(kept, Pruned::default());
    let of_state = backend
        .prune(&Prune::default().states([JobState::Lost]))
        .await
        .unwrap();
    assert_eq!(of_state, Pruned::new(1, 1, 0, 1, false));
    assert!(
        backend
            .events(&EventQuery::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(backend.vms(&VmQuery::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn i6_a_word_that_is_not_known_is_told_with_its_place() {
    let place = Place::new();
    let backend = place.migrated().await;
    let claims = [job(1, JobState::Queued, 1), job(2, JobState::Queued, 2)].map(claim);
    backend.apply(&claims).await.unwrap();
    let edit =
        "PRAGMA ignore_check_constraints = 1; UPDATE jobs SET state = 'dreaming' WHERE created_at = 1000000";
    place.outside().execute_batch(edit).unwrap();
    let error = backend.jobs(&JobQuery::default()).await.unwrap_err();
    assert_eq!(error.kind(), persist_core::ErrorKind::SchemaMismatch);
    for part in ["jobs.state", &id(1).to_string(), "dreaming"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    // Job 2 is the newest, and the page ends before the row that can't be read.
    let newest = JobQuery::default().limit(1);
    let page = backend.jobs(&newest).await.unwrap();
    assert!(
        page.items[0].request_id == id(2) && page.next.is_some(),
        "other pages go on"
    );
    place
        .outside()
        .execute_batch("UPDATE jobs SET state = 'queued', rank = -1 WHERE created_at = 1000000")
        .unwrap();
    let error = backend.job(id(1)).await.unwrap_err();
    assert_eq!(error.kind(), persist_core::ErrorKind::Corrupt);
    assert!(error.to_string().contains("jobs.rank"), "{error}");
    backend.close().await.unwrap();
}

#[tokio::test]
async fn every_attribute_is_found_again() {
    let backend = migrated(url("sqlite::memory:")).await;
    let full = job(1, JobState::Running, 1)
        .repo_url("https://h/r")
        .commit_sha("ABCD")
        .runs_on("small");
    let claims = [
        claim(full.actor("it").reason("why")),
        claim(
            vm(1, VmState::Running, 1)
                .backend("b")
                .overlay_path("/o")
                .seed_path("/s"),
        ),
    ];
    backend.apply(&claims).await.unwrap();
    let history = backend.events(&EventQuery::default()).await.unwrap().items;
    for (event, claim) in history.iter().zip(&claims) {
        assert_eq!(event.slot(), Slot::claimed_by(claim));
        assert!(event.recorded_at > at(1_700_000_000), "the database's clock");
    }
    let found = backend.job(id(1)).await.unwrap().unwrap();
    assert_eq!(
        found.commit_sha.as_deref(),
        claims[0].attribute(Attribute::CommitSha)
    );
}
